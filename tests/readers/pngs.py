"""PNG files of every colour type, depth and interlacing, made without a library's writer."""

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunk = tuple[bytes, bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def rows(samples: NDArray[Any], depth: int) -> bytes:
    """Return rows of [height, width, channels] samples, each behind filter type 0."""
    out = b""
    for row in samples.reshape(len(samples), -1):
        bits = np.unpackbits(row.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 16 - depth :]
        out += b"\0" + np.packbits(bits).tobytes()
    return out


def png(
    samples: NDArray[Any],
    depth: int,
    colour: int,
    *,
    interlaced: bool = False,
    before: Iterable[Chunk] = (),
    after: Iterable[Chunk] = (),
) -> bytes:
    """Return a file of [height, width, channels] samples; chunks ``before`` and ``after`` the data."""
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[top::down, left::across] for left, top, across, down in ADAM7]
        data = b"".join(rows(part, depth) for part in passes if part.size)
    else:
        data = rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(data)), *after, (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def noise(depth: int, colour: int, size: tuple[int, int] = (13, 11)) -> NDArray[Any]:
    shape = (size[1], size[0], CHANNELS[colour])
    return np.random.default_rng(depth + 16 * colour).integers(0, 1 << depth, shape, np.uint16)


def palette(depth: int) -> Chunk:
    colours = np.random.default_rng(depth).integers(0, 256, 3 << depth, np.uint8)
    return b"PLTE", colours.tobytes()


def one(depth: int, colour: int, *, interlaced: bool = False) -> bytes:
    before = [palette(depth)] if colour == 3 else []
    return png(noise(depth, colour), depth, colour, interlaced=interlaced, before=before)
