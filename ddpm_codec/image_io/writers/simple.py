"""Writes BMP, and PBM, PGM and PPM."""

import struct
from typing import Final

import numpy as np

from ddpm_codec.image_io.metadata.density import density, parse_density
from ddpm_codec.image_io.writers.pillow import saved
from ddpm_codec.image_io.writers.written import Written
from ddpm_codec.picture import MetadataKey, Picture

_BMP_DENSITY_OFFSET: Final = 38
_MAX_INT32: Final = (1 << 31) - 1


def write_bmp(picture: Picture, metadata: dict[MetadataKey, bytes]) -> Written:
    """Return a picture as a BMP file with its density, 0 where there is none.

    Raises:
        InputError: BMP does not hold the picture.
    """
    file = bytearray(saved(picture, "BMP"))
    across = down = 0
    kept: dict[MetadataKey, bytes] = {}
    notes = []
    if "density" in metadata:
        given = parse_density(metadata["density"])
        pair = given.per_metre()
        if pair is None:
            notes.append("bmp does not hold a density without a unit; it is left out")
        else:
            across, down = (min(max(1, round(value)), _MAX_INT32) for value in pair)
            kept["density"] = density(across, down, "m")
            if not given.close_to(parse_density(kept["density"])):
                notes.append(
                    f"bmp holds whole pixels per metre; the density {metadata['density'].decode()} is written as "
                    f"{kept['density'].decode()}"
                )
    struct.pack_into("<ii", file, _BMP_DENSITY_OFFSET, across, down)
    return Written(bytes(file), kept, notes)


def pnm_largest(mode: str, white: int | None) -> int | None:
    """Return the largest sample value that a PGM or PPM file of a picture declares; None if they cannot hold it.

    Their samples take two bytes if and only if it is 256 or more, so that 16-bit samples cannot be white at less.
    """
    if mode in ("L", "RGB"):
        return 255 if white is None else white
    if mode in ("I;16", "RGB;16"):
        return 65535 if white is None else white if white > 255 else None
    return 1 if mode == "1" and white is None else None


def write_pnm(picture: Picture, metadata: dict[MetadataKey, bytes]) -> Written:
    """Return a picture as a PBM, PGM or PPM file, whose header holds its comment and the value of white.

    Raises:
        ValueError: the format has no such mode; see :func:`pnm_largest`.
    """
    largest = pnm_largest(picture.mode, picture.info.white)
    if largest is None:
        raise ValueError(f"mode {picture.mode} with white {picture.info.white}")
    samples = picture.samples()
    magic = b"P4" if picture.mode == "1" else b"P6" if picture.info.layout.channels == 3 else b"P5"
    size = f"{picture.size[0]} {picture.size[1]}\n".encode()
    kept: dict[MetadataKey, bytes] = {}
    notes, comment = [], b""
    if "comment" in metadata:
        lines = metadata["comment"].split(b"\n")
        comment = b"".join(b"# " + line + b"\n" for line in lines)
        if any(line != line.strip() or not line or b"\r" in line for line in lines):
            notes.append("ppm comments hold no carriage returns, empty lines or blanks around lines; they are left out")
        else:
            kept["comment"] = metadata["comment"]
        comment = comment.replace(b"\r", b" ")
    if picture.mode == "1":
        # Ones are black there.
        return Written(magic + b"\n" + comment + size + np.packbits(~samples, axis=1).tobytes(), kept, notes)
    pixels = samples.astype(">u2" if largest > 255 else "u1").tobytes()
    return Written(magic + b"\n" + comment + size + f"{largest}\n".encode() + pixels, kept, notes)
