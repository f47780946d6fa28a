"""A whole small picture as one byte string: a CRC of its pixels, messages down to the crossing, the streams of its tiles.

As a progressive file, but with nothing that only a cut or a damaged file needs: no sections with checksums of their own.
Of the last stream, the only one of most pictures, even the length is left out.
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder
from ddpm_codec.codecs.progressive.ending import TileEnd, checksum_bytes, pixel_checksum
from ddpm_codec.codecs.progressive.message import decode_message
from ddpm_codec.codecs.progressive.parameters import MAX_REGISTER, MIN_REGISTER, TILE, ProgressiveParameters
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.coding.channel_simulation import TrellisCode
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

Pixels = NDArray[np.uint8]


def encode_indexed(session: CodingSession, pixels: Pixels, register_bits: int) -> bytes:
    """Encode a picture losslessly.

    Args:
        session: the model with its chain.
        pixels: uint8 [H, W, 3].
        register_bits: L of the trellis.
    """
    parameters = ProgressiveParameters(session.crossing, session.steps, register_bits, TILE)
    encoder = ProgressiveEncoder(session.chain, pixel_code(session), parameters, pixels, workers=session.workers())
    out = bytearray(pixel_checksum(pixels))
    out += b"".join(message.data for message in encoder.messages())
    streams = encoder.streams()
    for stream in streams[:-1]:
        write_varint(out, len(stream))
        out += stream
    return bytes(out) + streams[-1]


def decode_indexed(session: CodingSession, data: bytes, size: tuple[int, int], register_bits: int) -> Pixels:
    """Decode the output of :func:`encode_indexed`.

    Args:
        session: the model with the same chain.
        data: the bytes.
        size: (width, height) of the picture.
        register_bits: L of the trellis.

    Raises:
        FormatError: the bytes are damaged, or the network did not reproduce its output.
    """
    if not MIN_REGISTER <= register_bits <= MAX_REGISTER:
        raise FormatError("its coding parameters are damaged")
    width, height = size
    chain, code, reader = ProgressiveChain(session.chain), TrellisCode(register_bits), Reader(data)
    checksum = reader.take(checksum_bytes(width * height))
    walk = Walk(chain, height + -height % PADDING, width + -width % PADDING, 0)
    while not walk.finished:
        state = walk.patch()
        walk.put(*decode_message(code, state.law, walk.message(), reader))
    ending = TileEnd(chain, pixel_code(session), size, TILE, session.workers())
    last = len(ending.tiles) - 1
    streams = {n: reader.take(reader.varint()) if n < last else reader.rest() for n in range(len(ending.tiles))}
    pixels = np.empty((height, width, 3), np.uint8)
    for number, found in ending.decode(walk.latents, streams).items():
        if isinstance(found, FormatError):
            raise found
        ending.view(pixels, number)[:] = found
    # A stream that is damaged may well end where it should: what is popped from an empty one costs nothing.
    if pixel_checksum(pixels) != checksum:
        raise FormatError("its pixels do not match their checksum")
    return pixels
