"""Which chain a progressive file has: that of the crossing at which its limits are reached.

A higher crossing needs fewer bits, a lower one goes further. Without limits the model says which is best for the whole file.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.encoder import padded_pixels
from ddpm_codec.codecs.progressive.ending import TileEnd
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps, register_for, slack_of
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.progressive.reconstruction import MEAN, Reconstruction
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.walk import Walk, draw_level
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.distortion import psnr_db

Pixels = NDArray[np.uint8]


_FRAMING = 4
"""Bytes that a section takes beside its messages, about."""


def choose_sessions(
    model: Model,
    pixels: Pixels,
    options: ProgressiveOptions,
    before: Callable[[CodingSession], int] = lambda _: 0,
) -> list[CodingSession]:
    """Return the model with the chain for a picture.

    If the messages of no chain reach a limit there are two to try: that of the whole file, which may be lossless within the
    limit, and that of the lowest crossing, which shows most where it is not.

    Args:
        model: the model.
        pixels: the picture, [H, W, 3].
        options: limits, and the number of steps.
        before: bytes of a file with a chain before its messages.

    Raises:
        ModelError: the model has no such chain.
    """
    known = model.codec_model
    count = pixels.shape[0] * pixels.shape[1]
    limited = options.max_bpp is not None or options.min_psnr_db is not None
    for crossing in reversed(range(len(known.crossings))) if limited and len(known.crossings) > 1 else ():
        session = session_at(model, crossing, count, options)
        with session.environment():
            if _reaches(session, pixels, options, before(session)):
                return [session]
    ends = dict.fromkeys((known.progressive_crossing, 0) if limited else (known.progressive_crossing,))
    return [session_at(model, crossing, count, options) for crossing in ends]


def session_at(model: Model, crossing: int, pixels: int, options: ProgressiveOptions) -> CodingSession:
    """Return the model with the chain above a crossing for a picture of so many pixels.

    Raises:
        ModelError: the model has no such chain.
    """
    return model.session(choose_steps(model.codec_model, options.steps, pixels, crossing), crossing)


def _reaches(session: CodingSession, pixels: Pixels, options: ProgressiveOptions, before: int) -> bool:
    """Return whether the messages of a chain reach a limit, about: with draws from q in the place of codewords."""
    chain, padded, generator = ProgressiveChain(session.chain), padded_pixels(pixels), np.random.default_rng(0)
    count = pixels.shape[0] * pixels.shape[1]
    walk = Walk(chain, padded.shape[0], padded.shape[1], 0)
    slack, bits = slack_of(options.register_bits or register_for(count)), 8.0 * before
    y_0 = chain.coefficients(padded)
    while not walk.finished:
        bits += slack * draw_level(walk, y_0, generator) + 8 * _FRAMING
        if options.max_bpp is not None and bits >= options.max_bpp * count:
            return True
    if options.min_psnr_db is None:
        return False
    code = pixel_code(session)
    ending = TileEnd(chain, code, (pixels.shape[1], pixels.shape[0]), options.tile or max(padded.shape))
    return psnr_db(pixels, Reconstruction(code, ending).picture(walk, MEAN)) >= options.min_psnr_db
