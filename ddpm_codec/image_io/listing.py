"""Input files of a command, and their names in an archive."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ddpm_codec.atomic import reason
from ddpm_codec.errors import InputError
from ddpm_codec.picture import check_name

IMAGE_EXTENSIONS: Final = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".j2k",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".qoi",
        ".sgi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
"""What counts as an image inside a folder; a file that is named by itself may be called anything."""


def list_inputs(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return every picture file among ``paths`` with its name in an archive.

    A file is named by its last part; the pictures in a folder (sorted, sub-folders included, hidden ones not) by their
    path below it. Names that would be equal get the name of the folder in front.

    Raises:
        InputError: a path is missing, a folder has no pictures, a file is given twice, or names stay equal.
    """
    found = [pair for path in paths for pair in _expand(path)]
    if not found:
        raise InputError("no pictures given")
    twice = [path for path, count in Counter(path.resolve() for path, _ in found).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: is given twice")
    counts = Counter(name for _, name in found)
    named = [(path, _longer(path, name) if counts[name] > 1 else name) for path, name in found]
    owners: dict[str, Path] = {}
    for path, name in named:
        if name in owners:
            raise InputError(f"{path}: has the same name as {owners[name]} ({name})")
        owners[name] = path
        try:
            check_name(name)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return named


def _expand(path: Path) -> list[tuple[Path, str]]:
    try:
        if path.is_dir():
            below = _walk(path)
            if not below:
                raise InputError(f"{path}: the folder has no pictures")
            return [(file, file.relative_to(path).as_posix()) for file in below]
        path.stat()
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    return [(path, path.name)]


def _walk(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            if file.suffix.lower() in IMAGE_EXTENSIONS and not name.startswith(".") and file.is_file():
                files.append(file)
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def _longer(path: Path, name: str) -> str:
    """Return ``name`` with the folder in front that it was found in."""
    folder = path.resolve().parents[len(Path(name).parts) - 1].name
    return f"{folder}/{name}" if folder else name
