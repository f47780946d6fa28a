"""The body of a model-coded block: a checksum of the colours, alpha planes, and the colour tiles."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.block import BlockStats, decode_block, encode_block
from ddpm_codec.codecs.fallback import decode_array, encode_array
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.bits_back import LatticeModel
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ColourBody:
    """An encoded body.

    Attributes:
        data: its bytes.
        stats: size of the colours.
        region_bytes: size of each region, alpha included.
    """

    data: bytes
    stats: BlockStats
    region_bytes: tuple[float, ...]


def encode_colours(model: LatticeModel, arrays: list[Pixels], tile: int) -> ColourBody | None:
    """Encode regions, each [H, W, 3 or 4]; return None if they are too small to start a stack."""
    colours = [np.ascontiguousarray(array[:, :, :3]) for array in arrays]
    coded = encode_block(lambda _: model, colours, tile)
    if coded is None:
        return None
    payload, stats = coded
    alphas = [encode_alpha(array) for array in arrays]
    data = _checksum(colours).to_bytes(4, "little") + b"".join(alphas) + payload
    costs = [len(alpha) + bits / 8 for alpha, bits in zip(alphas, stats.region_bits, strict=True)]
    return ColourBody(data, stats, tuple(costs))


def decode_colours(model: LatticeModel, reader: Reader, regions: list[tuple[Rect, bool]], tile: int) -> list[Pixels]:
    """Decode the output of :func:`encode_colours`, given the size of each region and whether it has alpha.

    Raises:
        FormatError: the body does not match these regions, or the network did not reproduce its output.
    """
    checksum = int.from_bytes(reader.take(4), "little")
    alphas = [decode_alpha(reader, rect) if alpha else None for rect, alpha in regions]
    colours = decode_block(lambda _: model, reader.rest(), [rect for rect, _ in regions], tile)
    if _checksum(colours) != checksum:
        raise FormatError("its pixels do not match their checksum")
    return [
        colour if alpha is None else np.dstack([colour, alpha]) for colour, alpha in zip(colours, alphas, strict=True)
    ]


def encode_alpha(array: Pixels) -> bytes:
    """Return the alpha plane of a region [H, W, 3 or 4]: length and fallback payload, or nothing if there is none."""
    if array.shape[2] != 4:
        return b""
    alpha = encode_array(np.ascontiguousarray(array[:, :, 3]))
    out = bytearray()
    write_varint(out, len(alpha))
    return bytes(out) + alpha


def decode_alpha(reader: Reader, rect: Rect) -> Pixels:
    """Read the alpha plane of a region that has one, [H, W].

    Raises:
        FormatError: it is damaged.
    """
    return decode_array(reader.take(reader.varint(reader.left)), (rect.height, rect.width))


def _checksum(colours: list[Pixels]) -> int:
    """Return the CRC-32 of the decoded colours, which detects a network that did not reproduce its output."""
    crc = 0
    for colour in colours:
        crc = zlib.crc32(colour.tobytes(), crc)
    return crc
