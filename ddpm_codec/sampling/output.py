"""Writes sampled pictures: sheets, animations, arrays."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.diffusion.pictures import Pixels
from ddpm_codec.errors import InputError
from ddpm_codec.files.drawing import FORMATS, MAX_SIDE, save_pictures

ARRAYS = (".npy", ".npz")
MOVING = (".gif", ".webp")
GAP = 2
"""Width of the white border around each picture of a sheet, in pixels."""

DELAY_MS = 120
"""Duration of a frame of an animation."""


def check_output(output: Path, sources: Iterable[str | Path], *, moves: bool, overwrite: bool) -> None:
    """Check, before any work is done, that an output can be written.

    Args:
        output: the file.
        sources: files that the pictures are made from.
        moves: whether it is an animation.
        overwrite: replace ``output``.

    Raises:
        InputError: the extension is unknown or not one of an animation, or ``output`` is one of the sources.
        OutputExistsError: it exists.
        OutputError: it cannot be written.
    """
    suffix = output.suffix.lower()
    known = (*FORMATS, *ARRAYS)
    if suffix not in known:
        raise InputError(f"{output}: {suffix or 'no extension'} is not supported; use {', '.join(known)}")
    if moves and suffix not in MOVING:
        raise InputError(f"{output}: {suffix} files cannot be animated; use {' or '.join(MOVING)}")
    if suffix == ".gif" and not moves:
        raise InputError(f"{output}: .gif is limited to 256 colours; use .png or .webp")
    check_target(output, overwrite=overwrite, sources=sources)


def check_sheet(output: Path, pictures: int, columns: int, height: int, width: int) -> None:
    """Check that a sheet does not exceed the size limit of its format.

    Raises:
        InputError: it does.
    """
    kind = FORMATS.get(output.suffix.lower())
    rows = -(-pictures // columns)
    wide, high = (GAP + count * (side + GAP) for count, side in ((columns, width), (rows, height)))
    if kind is not None and max(wide, high) > MAX_SIDE[kind]:
        limit = f"{output.suffix.lower()} is limited to at most {MAX_SIDE[kind]} a side"
        raise InputError(f"{output}: {wide}x{high} pixels, but {limit}; use .npy or fewer pictures")


def sheet(pictures: Pixels, columns: int) -> Pixels:
    """Return pictures [N, H, W, 3] in reading order on a white sheet, unscaled, with a border of ``GAP`` pixels."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    canvas = np.full((GAP + rows * (height + GAP), GAP + columns * (width + GAP), 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = GAP + number // columns * (height + GAP), GAP + number % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def write_frames(frames: Pixels, columns: int, output: Path, *, overwrite: bool) -> None:
    """Write a sheet, an animation of sheets, or the pictures of the last frame as an array.

    Args:
        frames: [F, N, H, W, 3].
        columns: of a sheet.
        output: ``.png`` or lossless ``.webp`` for one frame; ``.gif`` or ``.webp`` for several; ``.npy``, or ``.npz`` with
            the key ``images``, for uint8 [N, H, W, 3].
        overwrite: replace ``output``.

    Raises:
        OutputExistsError: it exists.
        OutputError: it cannot be written.
    """
    suffix = output.suffix.lower()
    with new_file(output, overwrite=overwrite) as temporary:
        if suffix in ARRAYS:
            with temporary.open("wb") as stream:
                if suffix == ".npy":
                    np.save(stream, frames[-1], allow_pickle=False)
                else:
                    np.savez(stream, images=frames[-1])
            return
        sheets = [Image.fromarray(sheet(pictures, columns)) for pictures in frames]
        save_pictures(sheets, temporary, FORMATS[suffix], output, DELAY_MS)
