"""Block headers: which pictures, which region, and how they are coded."""

from dataclasses import dataclass

from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo
from ddpm_codec.varint import Reader, write_varint

FALLBACK = 0
MODEL = 1

COLOUR_MODES = ("RGB", "RGBA")
"""Picture modes that the model supports."""


def can_be_progressive(info: PictureInfo) -> bool:
    """Whether a model codes the picture step by step: 8-bit colour whose white is 255, as what it reconstructs is."""
    return info.mode in COLOUR_MODES and info.white is None


@dataclass(frozen=True)
class BlockHeader:
    """Header of a block.

    Attributes:
        kind: FALLBACK (whole pictures) or MODEL.
        region: index of the region if the block is one region of a large picture, else 0.
        pictures: indices into the image table, increasing.
    """

    kind: int
    region: int
    pictures: tuple[int, ...]

    def pack(self) -> bytes:
        """Write the header as varints: kind, region, number of runs, then (gap, length) of each run of indices."""
        runs: list[list[int]] = []
        for index in self.pictures:
            if runs and runs[-1][0] + runs[-1][1] == index:
                runs[-1][1] += 1
            else:
                runs.append([index, 1])
        out = bytearray()
        for value in (self.kind, self.region, len(runs)):
            write_varint(out, value)
        end = 0
        for start, length in runs:
            write_varint(out, start - end)
            write_varint(out, length)
            end = start + length
        return bytes(out)


def read_header(reader: Reader, pictures: int) -> BlockHeader:
    """Read a block header, given the number of ``pictures`` in the image table.

    Raises:
        FormatError: unknown kind, or indices outside the table.
    """
    kind, region, runs = reader.varint(MODEL), reader.varint(1 << 32), reader.varint(pictures)
    indices: list[int] = []
    for _ in range(runs):
        start = reader.varint(pictures) + (indices[-1] + 1 if indices else 0)
        length = reader.varint(pictures)
        if start + length > pictures or not length:
            raise FormatError("a block names pictures that are not in the image table")
        indices.extend(range(start, start + length))
    if not indices or (region and len(indices) != 1):
        raise FormatError("a block names no pictures, or one region of several pictures")
    return BlockHeader(kind, region, tuple(indices))
