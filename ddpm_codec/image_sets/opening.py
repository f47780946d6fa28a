"""Opens DATA of any kind."""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_io import IMAGE_EXTENSIONS, list_inputs
from ddpm_codec.image_io.readers import READERS
from ddpm_codec.image_io.signatures import HEAD_BYTES, sniff
from ddpm_codec.image_sets.arrays import cause, read_array, read_cifar
from ddpm_codec.image_sets.files import file_header, open_file
from ddpm_codec.image_sets.image_set import Header, ImageSet, Opened, Pixels, from_array
from ddpm_codec.image_sets.saying import read_all


def open_images(data: str, *, test: bool = False, first_frame: bool = False) -> ImageSet:
    """Open DATA of any kind.

    Files are read exactly, as ``encode`` reads them, and then taken as 8-bit RGB: what that changes (alpha, grey, palettes,
    frames) is said by :meth:`ImageSet.opened`.

    Args:
        data: an image, or a folder or .zip of images; a .npz or .npy of uint8 [N, H, W, 3]; a CIFAR-10 folder (python
            version; its training batches) or one of its batches; or ``sheet:FILE:WxH``, one large picture (or a folder or
            .zip of such) of equal cells.
        test: of a CIFAR-10 folder take the test batch.
        first_frame: take the first frame of image files that have several, instead of refusing them.

    Raises:
        InputError: naming what cannot be read. Images of folders and zips are decoded, and may be refused, when they
            are first asked for.
    """
    if data.startswith("sheet:"):
        return _open_sheets(data, first_frame)
    path = _existing(data)
    batches = sorted(path.glob("data_batch_*")) if path.is_dir() else []
    if batches and test:
        batches = [_existing(str(path / "test_batch"))]
    if batches or (path.is_file() and path.name.startswith(("data_batch_", "test_batch"))):
        return from_array(read_cifar(batches or [path]), source=data)
    if path.suffix.lower() in {".npz", ".npy"} and path.is_file():
        return from_array(read_array(path), source=data)
    return _open_pictures(path, first_frame)


def _existing(data: str) -> Path:
    # Not Path.exists, which raises where the name is too long or may not be looked at.
    if not data or not os.path.exists(data):
        raise InputError(f"{data or 'DATA'}: no such file or folder")
    return Path(data)


def _open_pictures(path: Path, first_frame: bool) -> ImageSet:
    """Open a folder, a zip or a single image."""
    if path.suffix.lower() == ".zip" and path.is_file():
        return _open_zip(path, first_frame)
    listing = list_inputs([path])
    if listing.refused:
        raise InputError(str(listing.refused[0]))
    files, names = [file for file, _ in listing.files], [name for _, name in listing.files]
    paths = [str(file) for file in files]

    def load(index: int) -> Opened:
        return open_file(files[index], paths[index], first_frame=first_frame)

    def header(index: int) -> Header:
        return file_header(files[index], paths[index], first_frame=first_frame)

    return ImageSet(names, load, header, paths=paths, left_out=listing.left_out)


def _open_zip(path: Path, first_frame: bool) -> ImageSet:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip ({cause(error)})") from error
    # By entry and not by name: a zip may have a name twice.
    members = [entry for entry in archive.infolist() if not entry.is_dir()]
    kinds = {id(entry): _left_out(archive, entry) for entry in members}
    entries = sorted((entry for entry in members if not kinds[id(entry)]), key=lambda e: e.filename)
    left_out = [Untaken(f"{path}:{entry.filename}", kinds[id(entry)]) for entry in members if kinds[id(entry)]]
    names = [entry.filename for entry in entries]
    _check_some(path, names)
    paths = [f"{path}:{name}" for name in names]

    def load(index: int) -> Opened:
        try:
            content = archive.read(entries[index])
        except Exception as error:  # damaged, encrypted or packed in a way that this Python lacks
            raise InputError(f"{paths[index]}: not readable ({cause(error)})") from error
        return open_file(content, paths[index], first_frame=first_frame)

    def header(index: int) -> Header:
        try:
            stream = archive.open(entries[index])
        except Exception as error:  # as above
            raise InputError(f"{paths[index]}: not readable ({cause(error)})") from error
        with stream:
            return file_header(cast(BinaryIO, stream), paths[index], first_frame=first_frame)

    return ImageSet(names, load, header, paths=paths, left_out=left_out)


def _left_out(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Return why an entry is no picture, by its name or else by its first bytes; empty: it is one."""
    if any(part.startswith(".") for part in entry.filename.split("/")):
        return "is hidden"
    if os.path.splitext(entry.filename)[1].lower() in IMAGE_EXTENSIONS:
        return ""
    try:
        with archive.open(entry) as stream:
            kind = sniff(stream.read(HEAD_BYTES))
    except Exception as error:  # damaged, encrypted or packed in a way that this Python lacks
        return f"is not readable ({cause(error)})"
    if kind is None:
        return "is no picture of a format that is read"
    return "" if kind in READERS else f"{kind} is a format that cannot be read"


def _check_some(path: Path, names: list[str]) -> None:
    if not names:
        raise InputError(f"{path}: contains no images ({', '.join(sorted(IMAGE_EXTENSIONS))})")


def _open_sheets(data: str, first_frame: bool) -> ImageSet:
    file, _, cell = data.removeprefix("sheet:").rpartition(":")
    try:
        width, height = (int(side) for side in cell.split("x"))
    except ValueError as error:
        raise InputError(f"{data}: expected sheet:FILE:WIDTHxHEIGHT, such as sheet:cells.png:32x32") from error
    if width < 1 or height < 1:
        raise InputError(f"{data}: cells need at least one pixel")
    pages = _open_pictures(_existing(file), first_frame)
    read_all(pages)
    cells: list[Opened] = []
    paths: list[str] = []
    for index, path in enumerate(pages.paths):
        pixels, changed = pages.opened(index)
        found = [Opened(image, changed) for image in _cut(pixels, pages.names[index], width, height)]
        cells += found
        paths += [path] * len(found)
    names = [f"{index:06d}" for index in range(len(cells))]
    return ImageSet(names, cells.__getitem__, paths=paths, left_out=pages.left_out, cache_bytes=0)


def _cut(sheet: Pixels, name: str, width: int, height: int) -> Pixels:
    """Cut [H, W, 3] into cells, row by row: [N, height, width, 3]."""
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    if rows * height != sheet.shape[0] or columns * width != sheet.shape[1]:
        raise InputError(f"{name}: {sheet.shape[1]}x{sheet.shape[0]} is not a grid of {width}x{height} cells")
    cells = sheet.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(cells.reshape(-1, height, width, 3))
