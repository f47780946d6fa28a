"""What of a folder is a picture; whatever is left out is named."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ddpm_codec.atomic import reason
from ddpm_codec.errors import Untaken
from ddpm_codec.image_io.signatures import HEAD_BYTES, sniff

IMAGE_EXTENSIONS: Final = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".icb",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
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
        ".vda",
        ".vst",
        ".webp",
    ]
)
"""Extensions of pictures, in any case; a file with another one, or with none, counts as a picture if its content does."""

UNREADABLE_EXTENSIONS: Final = {".heic": "HEIC", ".heics": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".jxl": "JPEG XL"}
"""Extensions of pictures in formats that cannot be read, and the names of these."""

_UNREADABLE: Final = {"HEIC": "HEIC", "JXL": "JPEG XL"}
# TIFF by their first bytes, but what they hold as ordinary pictures are previews.
_CAMERA_RAW: Final = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "dcr", "dng", "erf", "fff", "iiq", "kdc"),
        *("mef", "mos", "nef", "nrw", "pef", "rwl", "sr2", "srf", "srw"),
    )
)


@dataclass
class Found:
    """The contents of a folder.

    Attributes:
        pictures: files that count as pictures, sorted.
        left_out: files and folders that do not, and why.
        refused: folders that cannot be listed, and why.
    """

    pictures: list[Path] = field(default_factory=list)
    left_out: list[Untaken] = field(default_factory=list)
    refused: list[Untaken] = field(default_factory=list)


def find_pictures(folder: Path) -> Found:
    """Look for pictures in a folder and the folders below it.

    Links are followed, but no folder is entered twice: a link to one that was, or that is above, is left out. Names that
    begin with a dot are hidden, and left out too.
    """
    found, walk = Found(), _Walk()
    walk.enter(folder, found)
    # Links come after all real folders, so that a folder beside a link to it is found under its own name.
    while walk.links:
        links, walk.links = sorted(walk.links), []
        for link in links:
            walk.enter(link, found)
    found.pictures.sort(key=lambda file: file.relative_to(folder).parts)
    found.left_out.sort()
    return found


def why_left_out(path: Path) -> str | None:
    """Return why a file in a folder does not count as a picture; None if it does, by its extension or its content."""
    suffix = path.suffix.lower()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        if suffix in IMAGE_EXTENSIONS:
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return "is a broken link"
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    kind = sniff(head)
    unreadable = UNREADABLE_EXTENSIONS.get(suffix) if kind is None else _UNREADABLE.get(kind)
    if unreadable:
        return f"{unreadable} is a format that cannot be read"
    if kind == "TIFF" and suffix in _CAMERA_RAW:
        return "is a camera raw file, of which only the preview could be read"
    if kind is not None:
        return None
    return "is a .ddpm file" if suffix == ".ddpm" else "is no picture of a format that is read"


class _Walk:
    """Enters folders, each only once.

    Attributes:
        links: links to folders that were met and not yet entered.
    """

    def __init__(self) -> None:
        self.links: list[Path] = []
        self._entered: dict[str, Path] = {}

    def enter(self, folder: Path, found: Found) -> None:
        """Add the contents of a folder and of the real folders below it."""
        pending = [folder]
        while pending:
            place = pending.pop()
            real = os.path.realpath(place)
            before = self._entered.setdefault(real, place)
            if before is not place:
                found.left_out.append(Untaken(str(place), f"is the folder {before}, which is included already"))
                continue
            try:
                with os.scandir(place) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                found.refused.append(Untaken(str(place), f"the folder cannot be read ({reason(error)})"))
                continue
            pending += [place / entry.name for entry in names if self._sort_out(place, entry, found)]

    def _sort_out(self, place: Path, entry: "os.DirEntry[str]", found: Found) -> bool:
        """Put one entry where it belongs; return whether it is a folder to enter next."""
        path = place / entry.name
        if entry.name.startswith("."):
            found.left_out.append(Untaken(str(path), "is hidden"))
        elif entry.is_dir(follow_symlinks=False):
            return True
        # Not Path.is_dir, which raises where a folder on the way may not be entered.
        elif os.path.isdir(path):
            self.links.append(path)
        else:
            why = why_left_out(path)
            if why is None:
                found.pictures.append(path)
            else:
                found.left_out.append(Untaken(str(path), why))
        return False
