"""Rate and picture at every level of a progressive file: as its bytes are, and as the mathematics has them.

The real curve cuts a file of this very picture behind every level. The ideal one draws z_s ~ q(z_s | z_t, x_0) itself and
adds up KL( q || p ), the cost of a perfect channel code (Ho et al. 2020, sec. 4.3, algorithms 3 and 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.chains import choose_sessions
from ddpm_codec.codecs.progressive.encoder import padded_pixels
from ddpm_codec.codecs.progressive.ending import TileEnd
from ddpm_codec.codecs.progressive.file import encode_picture
from ddpm_codec.codecs.progressive.parameters import TILE, ProgressiveOptions
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.progressive.reader import ProgressiveReader
from ddpm_codec.codecs.progressive.reconstruction import MEAN, Reconstruction
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.walk import Walk, draw_level
from ddpm_codec.codecs.session import Model
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
    pixels, opened = _rgb(picture), _opened(model, device)
    plain = replace(picture, info=replace(picture.info, name=f"{_NAME}.png"))
    found: list[Milestone] = []
    # A fallback at the end would leave out what the curve is about.
    encoded = encode_picture(opened, plain, ProgressiveOptions(steps=steps, fallback=False), file_name=f"{_NAME}.ddpm")
    data = encoded.file.data
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
    pixels = _rgb(picture)
    (session,) = choose_sessions(_opened(model, device), pixels, ProgressiveOptions(steps=steps))
    chain, code = ProgressiveChain(session.chain), pixel_code(session)
    padded, generator = padded_pixels(pixels), np.random.default_rng(seed)
    height, width = padded.shape[:2]
    walk = Walk(chain, height, width, 0)
    y_0 = chain.coefficients(padded)
    bits, found = 0.0, []
    ending = TileEnd(chain, code, (pixels.shape[1], pixels.shape[0]), TILE)
    reconstruction = Reconstruction(code, ending)
    while walk.level > 0:
        bits += draw_level(walk, y_0, generator)
        shown = {how: reconstruction.picture(walk, how) for how in reconstructions}
        found.append(Milestone(f"level {walk.level}", None, bits, shown))
    bits += ending.ideal_bits(walk.latents, pixels)
    found.append(Milestone(LOSSLESS, None, bits, dict.fromkeys(reconstructions, pixels)))
    return found


def _rgb(picture: Picture) -> Pixels:
    if picture.mode != "RGB":
        raise InputError(f"{picture.name}: has mode {picture.mode}; curves are of RGB pictures")
    return np.ascontiguousarray(picture.array())


@lru_cache(maxsize=2)
def _opened(model: str, device: str) -> Model:
    return Model.open(model, device=device)
