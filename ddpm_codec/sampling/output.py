"""Files of sampled pictures: sheets, animations, arrays."""

from collections.abc import Iterable
from contextlib import suppress
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
"""White pixels around each picture of a sheet."""

DELAY_MS = 120
"""Between the frames of an animation."""


def check_output(output: Path, sources: Iterable[str | Path], *, moves: bool, overwrite: bool) -> None:
    """Refuse, before any work is done, what cannot be written.

    Args:
        output: the file.
        sources: files that the pictures are made of.
        moves: whether it has frames.
        overwrite: replace ``output``.

    Raises:
        InputError: ``output`` is of no known kind, or of one that does not move; or it is one of the sources.
        OutputExistsError: it is there.
        OutputError: it cannot be written there.
    """
    suffix = output.suffix.lower()
    known = (*FORMATS, *ARRAYS)
    if suffix not in known:
        raise InputError(f"{output}: {suffix or 'no extension'} is not written; use {', '.join(known)}")
    if moves and suffix not in MOVING:
        raise InputError(f"{output}: a {suffix} does not move; use {' or '.join(MOVING)}")
    if suffix == ".gif" and not moves:
        raise InputError(f"{output}: a .gif holds 256 colours; use .png or a lossless .webp")
    check_target(output, overwrite=overwrite)
    for source in sources:
        # A source that cannot be looked at is refused where it is read.
        with suppress(OSError):
            if output.exists() and output.samefile(source):
                raise InputError(f"{output}: is what the pictures are made of; name another output")


def check_sheet(output: Path, pictures: int, columns: int, height: int, width: int) -> None:
    """Refuse a sheet with more pixels a side than its format has.

    Raises:
        InputError: naming both.
    """
    kind = FORMATS.get(output.suffix.lower())
    rows = -(-pictures // columns)
    wide, high = (GAP + count * (side + GAP) for count, side in ((columns, width), (rows, height)))
    if kind is not None and max(wide, high) > MAX_SIDE[kind]:
        most = f"a {output.suffix.lower()} has at most {MAX_SIDE[kind]} a side"
        raise InputError(f"{output}: would have {wide}x{high} pixels, and {most}; use .npy, or fewer pictures")


def sheet(pictures: Pixels, columns: int) -> Pixels:
    """Return pictures [N, H, W, 3] in reading order on white, each pixel as it is, ``GAP`` white pixels around each."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    canvas = np.full((GAP + rows * (height + GAP), GAP + columns * (width + GAP), 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = GAP + number // columns * (height + GAP), GAP + number % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def write_frames(frames: Pixels, columns: int, output: Path, *, overwrite: bool) -> None:
    """Write a sheet, several as an animation, or the pictures of the last frame as an array.

    Args:
        frames: [F, N, H, W, 3].
        columns: of a sheet.
        output: ``.png`` or lossless ``.webp`` of one frame; ``.gif`` or ``.webp`` of several; ``.npy``, or ``.npz`` under
            the name ``images``, of uint8 [N, H, W, 3].
        overwrite: replace ``output``.

    Raises:
        OutputExistsError: it is there.
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
