"""Rate and picture at every level of a progressive file: as its bytes are, and as the mathematics has them.

The real curve cuts a file of this very picture behind every level. The ideal one draws z_s ~ q(z_s | z_t, x_0) itself and
adds up KL( q || p ), the cost of a perfect channel code (Ho et al. 2020, sec. 4.3, algorithms 3 and 4).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.encoder import encode_picture, padded_pixels
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps
from ddpm_codec.codecs.progressive.reader import ProgressiveReader
from ddpm_codec.codecs.progressive.reconstruction import MEAN, reconstruct
from ddpm_codec.codecs.progressive.steps import UNIT, ProgressiveChain, StepLaw
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.coding.prices import pixel_bits
from ddpm_codec.container import ByteSource, read_sections
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import Picture

Pixels = NDArray[np.uint8]

LOSSLESS = "lossless"

_NAME = "picture"


@dataclass(frozen=True)
class Milestone:
    """What is known at one point of a file.

    Attributes:
        label: ``level N``, or ``lossless``.
        file_bytes: of the part of a file that gets there, every byte counted; None on the ideal curve.
        bits: of that part; on the ideal curve, KL of all steps so far, at the end with the cost of x_0 given z_0.
        pictures: by reconstruction, [H, W, 3].
    """

    label: str
    file_bytes: int | None
    bits: float
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
        FormatError: the lossless end is not the picture.
        InputError: the picture is not RGB.
        ModelError: no such model or chain.
    """
    pixels, session = _rgb(picture), _session(picture, model, device, steps)
    plain = replace(picture, info=replace(picture.info, name=f"{_NAME}.png"))
    found: list[Milestone] = []
    data = encode_picture(session, plain, ProgressiveOptions(), file_name=f"{_NAME}.ddpm").file.data
    file = read_sections(ByteSource(data, f"{_NAME}.ddpm", f"{_NAME}.ddpm"))
    reader = ProgressiveReader(file, model=model, device=device)
    decoder = reader.decoder
    while reader.remaining:
        reader.feed()
        label = LOSSLESS if decoder.lossless else f"level {decoder.level}"
        # Between levels it would cost a network evaluation a section; and the lossless end may take several.
        if decoder.at_level_end and not (found and found[-1].label == label):
            shown = {how: decoder.picture(how).array() for how in reconstructions}
            found.append(Milestone(label, reader.used_bytes, 8.0 * reader.used_bytes, shown))
    last = decoder.picture(MEAN).array()
    if not decoder.lossless or not np.array_equal(last, pixels):
        raise FormatError(f"{picture.name}: does not decode to the same picture")
    return found


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
    pixels, chain = _rgb(picture), ProgressiveChain(_session(picture, model, device, steps).chain)
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
    opened = _opened(model, device)
    return opened.session(choose_steps(opened.codec_model, steps, picture.info.pixel_count))


@lru_cache(maxsize=2)
def _opened(model: str, device: str) -> Model:
    return Model.open(model, device=device)
