"""Stand-ins for this codec's curves: pictures of ever finer grey levels, at made-up prices; other processes can load them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.picture import Picture
from ddpm_codec.rate_distortion.sources import Sources

BITS = (1, 2, 3, 4, 5, 6, 8)
"""Bits that a sample keeps at each milestone; the last has all."""


@dataclass(frozen=True)
class FakeMilestone:
    """See ``MilestoneLike``."""

    label: str
    file_bytes: int | None
    bits: float
    pictures: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class FakeCurve:
    """Milestones at made-up prices; each call leaves a line in ``log``.

    Attributes:
        real: whether there are bytes.
        log: a file.
        factor: bits of a file for each bit that a sample keeps.
        promise: the theoretical price, as a share of that.
        fail_at: name of the picture at which the process "is killed".
        die: end the process there, and do not raise.
    """

    real: bool
    log: Path
    factor: float = 0.25
    promise: float = 0.9
    fail_at: str = ""
    die: bool = False

    def __call__(
        self, picture: Picture, *, model: str, device: str, steps: int | None, reconstructions: Sequence[str]
    ) -> list[FakeMilestone]:
        if picture.name == self.fail_at:
            if self.die:
                os._exit(9)
            raise KeyboardInterrupt
        with self.log.open("a") as log:
            log.write(f"{picture.name} {'real' if self.real else 'ideal'} {model} {device} {steps}\n")
        return [self._milestone(picture.array(), bits, reconstructions) for bits in BITS]

    def _milestone(self, pixels: NDArray[np.uint8], bits: int, reconstructions: Sequence[str]) -> FakeMilestone:
        price = self.factor * bits * pixels.size
        pictures = {name: coarse(pixels, bits) for name in reconstructions}
        count = round(price / 8) if self.real else None
        return FakeMilestone(f"{bits} bits", count, price * self.promise if count is None else 8.0 * count, pictures)


def coarse(pixels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Keep the highest ``bits`` of every sample, and put the middle for the rest."""
    step = 256 >> bits
    return (pixels // step * step + step // 2).astype(np.uint8)


def fake_sources(folder: Path, fail_at: str = "", *, die: bool = False) -> Sources:
    """Return a real curve and a theoretical one that is a tenth cheaper; their log is ``calls.txt``."""
    log = folder / "calls.txt"
    return Sources(FakeCurve(True, log, fail_at=fail_at, die=die), FakeCurve(False, log))


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return something like a photograph: smooth colours, an edge, and a little noise, [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 17.0 + seed), np.cos(y / 23.0), np.sin((x + y) / 31.0 + seed)], axis=2)
    edge = np.where(x > width // 2, 30.0, -30.0)[..., None]
    noise = np.random.default_rng(seed).normal(0.0, 4.0, (height, width, 3))
    return np.clip(np.rint(128.0 + 60.0 * waves + edge + noise), 0, 255).astype(np.uint8)
