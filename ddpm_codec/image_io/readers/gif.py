"""GIF files (87a and 89a): of an animation the first frame."""

import struct
from typing import BinaryIO, Final

import imagecodecs

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.simple import file_metadata, picture_of, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture

_IMAGE: Final = 0x2C
_EXTENSION: Final = 0x21
_TRAILER: Final = 0x3B
_GRAPHIC_CONTROL: Final = 0xF9


class _Walk:
    """What a walk along the blocks finds: the first frame alone as a file of its own, and the number of frames."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        start = read_exactly(file, 13)
        self.size: tuple[int, int] = struct.unpack_from("<HH", start, 6)
        flags = start[10]
        self.frames = 0
        self.has_palette = bool(flags & 0x80)
        palette = read_exactly(file, 3 << (flags & 7) + 1) if self.has_palette else b""
        self.first = [start, palette]
        control = b""
        while (kind := read_exactly(file, 1)[0]) != _TRAILER:
            if kind == _EXTENSION:
                label = read_exactly(file, 1)[0]
                block = _sub_blocks(file)
                if label == _GRAPHIC_CONTROL and not self.frames:
                    control = bytes((_EXTENSION, label)) + block
            elif kind == _IMAGE:
                self._image(file, control)
            else:
                raise InputError(f"is damaged (a GIF block of unknown type {kind:02X})")
        self.end = file.tell()
        if not self.frames:
            raise InputError("is damaged (it has no picture)")

    def _image(self, file: BinaryIO, control: bytes) -> None:
        descriptor = read_exactly(file, 9)
        own = bool(descriptor[8] & 0x80)
        palette = read_exactly(file, 3 << (descriptor[8] & 7) + 1) if own else b""
        bits = read_exactly(file, 1)
        data = _sub_blocks(file)
        self.frames += 1
        if self.frames > 1:
            return
        if not own and not self.has_palette:
            raise InputError("has no palette, so its colours are not known")
        if struct.unpack_from("<4H", descriptor) != (0, 0, *self.size):
            raise InputError("has a first frame that covers only part of the canvas; the rest has no pixels")
        self.first += [control, bytes([_IMAGE]), descriptor, palette, bits, data, bytes([_TRAILER])]


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    walk = _Walk(file)
    return Header("GIF", walk.size, walk.frames)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    walk = _Walk(file)
    surplus = file.seek(0, 2) - walk.end
    metadata, notes = file_metadata(file, "GIF")
    first = b"".join(walk.first)
    # Pillow fills in what is missing where a process asks for it (LOAD_TRUNCATED_IMAGES); giflib never does.
    imagecodecs.gif_decode(first)
    with opened(first, "GIF") as image:
        picture = picture_of(image, name, metadata)
    if surplus:
        notes = (*notes, f"{surplus} bytes behind the picture are left out")
    return ReadPicture(picture, notes)


def _sub_blocks(file: BinaryIO) -> bytes:
    """Return a chain of sub-blocks as it is, with the empty one that ends it."""
    parts = []
    while length := read_exactly(file, 1)[0]:
        parts += [bytes([length]), read_exactly(file, length)]
    return b"".join((*parts, b"\0"))
