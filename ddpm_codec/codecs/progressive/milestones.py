"""Rate and picture at every level of a progressive file: as its bytes are, and as the mathematics has them.

The real curve cuts a file of this very picture behind every level. The ideal one draws z_s ~ q(z_s | z_t, x_0) itself and
adds up KL( q || p ), the cost of a perfect channel code (Ho et al. 2020, sec. 4.3, algorithms 3 and 4).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.assembly import preamble_of
from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder, Section, padded_pixels
from ddpm_codec.codecs.progressive.options import TAIL_TILES, choose_parameters, chosen_steps
from ddpm_codec.codecs.progressive.reconstruction import reconstruct
from ddpm_codec.codecs.progressive.steps import UNIT, ProgressiveChain, StepLaw
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.prices import pixel_bits
from ddpm_codec.container.sections import section_bytes
from ddpm_codec.errors import InputError
from ddpm_codec.picture import Picture

Pixels = NDArray[np.uint8]

LOSSLESS = "lossless"


@dataclass(frozen=True)
class Milestone:
    """What is known at one point of a file.

    Attributes:
        label: ``level N``, or ``lossless``.
        file_bytes: of the part of a file that gets there, every byte counted; None on the ideal curve.
        ideal_bits: KL of all steps so far, at the end with the cost of x_0 given z_0.
        pictures: by reconstruction, [H, W, 3].
    """

    label: str
    file_bytes: int | None
    ideal_bits: float
    pictures: dict[str, Pixels]


def real_milestones(
    picture: Picture,
    *,
    model: str,
    device: str = "auto",
    steps: int | None = None,
    reconstructions: Sequence[str] = ("mean",),
) -> list[Milestone]:
    """Return the milestones of a real file of an RGB picture, the whole lossless file last.

    Args:
        picture: what to encode.
        model: name or file.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K; None: as ``encode --progressive`` chooses.
        reconstructions: which pictures to make.

    Raises:
        InputError: the picture is not RGB.
        ModelError: no such model or chain.
    """
    pixels, session = _rgb(picture), _session(picture, model, device, steps)
    parameters = choose_parameters(session.chain(), picture.info.pixel_count)
    encoder = ProgressiveEncoder(session.chain(), session.lattice, parameters, pixels, threads=_threads())
    size, ideal = preamble_of(session, parameters, picture.info, _usual_file(picture)), 0.0
    found: list[Milestone] = []
    pending: list[Section] = []

    def arrive(level: int, pictures: dict[str, Pixels]) -> None:
        nonlocal size, ideal
        size += sum(section_bytes(section.payload) for section in pending)
        ideal += sum(section.ideal_bits for section in pending)
        pending.clear()
        found.append(Milestone(LOSSLESS if level < 0 else f"level {level}", size, ideal, pictures))

    def walk_down() -> None:
        for section in encoder.sections():
            pending.append(section)
            if encoder.walk.at_level_end:
                arrive(encoder.walk.level, _pictures(encoder.walk, reconstructions, pixels.shape))

    walk_down()
    tail = encoder.tail(TAIL_TILES)
    if tail is None:
        encoder.go_on_to(0)
        walk_down()
        tail = encoder.tail(TAIL_TILES)
    pending += tail or []
    # From here on the ideal cost is not known from the walk: bits-back draws other latents.
    arrive(-1, dict.fromkeys(reconstructions, pixels))
    return found


def _usual_file(picture: Picture) -> Path:
    return Path(picture.info.name).with_suffix(".ddpm")


def ideal_milestones(
    picture: Picture,
    *,
    model: str,
    device: str = "auto",
    steps: int | None = None,
    reconstructions: Sequence[str] = ("mean",),
    seed: int = 0,
) -> list[Milestone]:
    """Return the milestones of a perfect channel code; see :func:`real_milestones`."""
    pixels, chain = _rgb(picture), _session(picture, model, device, steps).chain()
    padded, generator = padded_pixels(pixels), np.random.default_rng(seed)
    height, width = padded.shape[:2]
    walk = Walk(chain, height, width, 0)
    y_0 = chain.coefficients(padded)
    bits, found = 0.0, []
    while walk.level > 0:
        cleaner = np.empty_like(walk.latents)
        for number, patch in enumerate(walk.patches):
            drawn, cost = _draw(walk.law(number), walk.latents[patch.at], y_0[patch.at], generator)
            cleaner[patch.at] = drawn
            bits += cost
        walk.arrive(cleaner)
        shown = _pictures(walk, reconstructions, pixels.shape)
        found.append(Milestone(f"level {walk.level}", None, bits, shown))
    bits += _last_bits(chain, walk, padded)
    found.append(Milestone(LOSSLESS, None, bits, dict.fromkeys(reconstructions, pixels)))
    return found


def _draw(
    law: StepLaw, z_t: NDArray[np.int32], y_0: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.int32], float]:
    """Return a draw of q(z_s | z_t, x_0), and KL( q || p ) in bits."""
    target = law.posterior_mean(z_t, y_0)
    drawn = target + math.sqrt(law.variance) / UNIT * generator.standard_normal(target.shape)
    return np.rint(drawn).astype(np.int32), float(law.kl_bits(target.reshape(-1)).sum())


def _last_bits(chain: ProgressiveChain, walk: Walk, padded: Pixels) -> float:
    """Return the cost of the padded picture under p(x_0 | z_0), in bits."""
    block, total = chain.transform.block, 0.0
    for patch in walk.patches:
        mean, scale = chain.pixel_law(walk.latents, patch)
        pixels = padded[patch.pixels(block)].transpose(2, 0, 1)
        total += float(pixel_bits(pixels[None], mean[None], scale[None]).sum())
    return total


def _pictures(walk: Walk, reconstructions: Sequence[str], shape: tuple[int, ...]) -> dict[str, Pixels]:
    return {how: reconstruct(walk, how)[: shape[0], : shape[1]] for how in reconstructions}


def _rgb(picture: Picture) -> Pixels:
    if picture.mode != "RGB":
        raise InputError(f"{picture.name}: has mode {picture.mode}; curves are of RGB pictures")
    return np.ascontiguousarray(picture.array())


def _session(picture: Picture, model: str, device: str, steps: int | None) -> CodingSession:
    return _opened(model, device, chosen_steps(model, steps, picture.info.pixel_count))


@lru_cache(maxsize=2)
def _opened(model: str, device: str, steps: int | None) -> CodingSession:
    return CodingSession.for_encoding(model, device, steps)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
