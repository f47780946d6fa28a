"""Finds the blocks of an archive that hold a picture, by their headers, without decoding anything or opening a model."""

from typing import Final

from ddpm_codec.codecs.lossless.layout import read_header
from ddpm_codec.container import CODEC_SINGLE, Container
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader

_HEADER_BYTES: Final = 64
"""Length of prefix that holds most block headers."""


def block_holders(container: Container) -> dict[int, list[int]]:
    """Return the blocks that hold each picture, or its regions, in order.

    That is what the headers of the blocks say; checksums are verified on decoding. A picture that no header names is missing.

    Raises:
        InputError: the file can no longer be read.
    """
    holders: dict[int, list[int]] = {}
    for index, block in enumerate(container.blocks):
        if block is not None:
            for picture in _pictures_in(container, index, block.length):
                holders.setdefault(picture, []).append(index)
    return holders


def _pictures_in(container: Container, index: int, length: int) -> tuple[int, ...]:
    """Return the pictures that the header of a block names; none where it is damaged."""
    if container.head.codec == CODEC_SINGLE:
        return (0,)
    size = _HEADER_BYTES
    while True:
        try:
            return read_header(Reader(container.peek_block(index, size)), len(container.images)).pictures
        except FormatError:
            if size >= length:
                return ()
            size *= 4
