"""Input files of a command, and their names in an archive."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ddpm_codec.atomic import reason
from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_io.folders import find_pictures
from ddpm_codec.picture import check_name


@dataclass
class Listing:
    """What was found where the user pointed.

    Attributes:
        files: pictures, each with its name in an archive.
        left_out: contents of folders that are not pictures, and why.
        refused: inputs that cannot be used, and why: they are missing, have no pictures, or no usable name.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[Untaken] = field(default_factory=list)
    refused: list[Untaken] = field(default_factory=list)


def list_inputs(paths: Iterable[Path], *, output: Path | None = None) -> Listing:
    """Find every picture file among ``paths``.

    A file is named by its last part; the pictures in a folder (sorted, sub-folders included, see
    :func:`~ddpm_codec.image_io.folders.find_pictures`) by their path below it. Names that would be equal get as many of
    the folders above in front as tell them apart. A file under two names, by a link or a hard link, is listed under both.

    Args:
        paths: files and folders.
        output: where given, a file that may lie in one of the folders without being mentioned.

    Raises:
        InputError: there are no paths, a file is given twice by the same path, if only inside two folders, or names stay
            equal.
    """
    listing, found = Listing(), list[tuple[Path, str]]()
    given = list(paths)
    if not given:
        raise InputError("no pictures given")
    for path in given:
        found += _expand(path, listing)
    if output is not None:
        listing.left_out = [one for one in listing.left_out if not _same_file(Path(one.path), output)]
    for path, name in _told_apart(found):
        try:
            check_name(name)
        except InputError as error:
            listing.refused.append(Untaken(str(path), str(error)))
        else:
            listing.files.append((path, name))
    return listing


def _expand(path: Path, listing: Listing) -> list[tuple[Path, str]]:
    """Return the pictures that a path stands for, with their shortest names; add to the listing what is none."""
    try:
        if not path.is_dir():
            path.stat()
            return [(path, path.name)]
    except (OSError, ValueError) as error:
        cause = reason(error) if isinstance(error, OSError) else str(error)
        listing.refused.append(Untaken(str(path), cause))
        return []
    found = find_pictures(path)
    listing.left_out += found.left_out
    listing.refused += found.refused
    if not found.pictures and not found.refused:
        listing.refused.append(Untaken(str(path), "the folder has no pictures"))
    return [(file, file.relative_to(path).as_posix()) for file in found.pictures]


def _told_apart(found: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Put as many folders in front of equal names as tell them apart."""
    whole = [Path(os.path.abspath(path)).parts[1:] for path, _ in found]
    seen: set[tuple[str, ...]] = set()
    for (path, _), parts in zip(found, whole, strict=True):
        if parts in seen:
            raise InputError(f"{path}: is given twice")
        seen.add(parts)
    lengths = [len(Path(name).parts) for _, name in found]
    while True:
        owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, length in enumerate(lengths):
            owners[whole[index][-length:]].append(index)
        equal = [indices for indices in owners.values() if len(indices) > 1]
        if not equal:
            break
        for indices in equal:
            longer = [index for index in indices if lengths[index] < len(whole[index])]
            if not longer:
                _refuse_equal(found[indices[0]][0], found[indices[1]][0])
            for index in longer:
                lengths[index] += 1
    return [(path, "/".join(parts[-length:])) for (path, _), parts, length in zip(found, whole, lengths, strict=True)]


def _refuse_equal(first: Path, second: Path) -> None:
    if _same_file(first, second):
        raise InputError(f"{second}: is given twice")
    raise InputError(f"{second}: has the same name as {first}")


def _same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
