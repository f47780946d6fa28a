"""The pages of a TIFF file: which of its directories are pictures."""

from dataclasses import dataclass, field
from typing import Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.ifd import Directory, Note, TiffReader

_NEW_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _SUB_IFDS, _JPEG_OFFSET = 254, 255, 256, 257, 330, 513
_REDUCED: Final = 1
_OLD_REDUCED: Final = 2
_MAX_PAGES: Final = 1 << 16
_MAX_DEPTH: Final = 16


@dataclass
class Pages:
    """The directories of a file that hold pixels.

    Attributes:
        all: in the order of the file, those of sub-IFDs behind the one that points to them.
        notes: a line for each piece that is damaged and left out.
    """

    all: list[Directory] = field(default_factory=list)
    notes: dict[int, list[str]] = field(default_factory=dict)

    @property
    def first(self) -> Directory:
        """The picture that is read: the first page that is no smaller copy."""
        return self.pictures[0]

    @property
    def pictures(self) -> list[Directory]:
        """The pages of full size: those that are no smaller than one that does not say that it is a reduced version."""
        full = [page for page in self.all if not _says_reduced(page)]
        if not full:
            return self.all
        largest = max(_pixels(page) for page in full)
        return [page for page in self.all if page in full or _pixels(page) >= largest]

    @property
    def count(self) -> int:
        """How many pictures the file has.

        Overviews and transparency masks count: nobody can tell that they hold nothing new, and they would be lost. The
        thumbnail of EXIF does not.
        """
        return sum(page in self.pictures or not _is_thumbnail(page) for page in self.all)

    @property
    def thumbnails(self) -> int:
        """How many thumbnails of EXIF there are."""
        return len(self.all) - self.count


def read_pages(reader: TiffReader) -> Pages:
    """Find all pages.

    Raises:
        InputError: a directory does not lie inside the file, follows itself, or there is none or no end of them.
    """
    pages = Pages()
    _follow(reader, reader.first, pages, set())
    if not pages.all:
        raise InputError("is damaged (it has no directory)")
    return pages


def _follow(reader: TiffReader, offset: int, pages: Pages, visited: set[int], depth: int = 0) -> None:
    """Take a chain of directories and the sub-IFDs of each."""
    while offset:
        if offset in visited or len(visited) >= _MAX_PAGES or depth > _MAX_DEPTH:
            raise InputError("is damaged (its directories follow each other in a circle, or without end)")
        visited.add(offset)
        notes: list[str] = []
        directory = reader.directory(offset, notes.append)
        pages.all.append(directory)
        pages.notes[id(directory)] = notes
        for below in _sub_directories(directory, notes.append):
            _follow(reader, below, pages, visited, depth + 1)
        offset = directory.next


def _sub_directories(directory: Directory, note: Note) -> tuple[int, ...]:
    try:
        return directory.integers(_SUB_IFDS)
    except InputError:
        note(f"tag {_SUB_IFDS}, which points to further directories, is damaged and left out")
        return ()


def _says_reduced(page: Directory) -> bool:
    if _is_thumbnail(page):
        return True
    return bool(page.integer(_NEW_SUBFILE, 0) & _REDUCED) or page.integer(_OLD_SUBFILE, 0) == _OLD_REDUCED


def _is_thumbnail(page: Directory) -> bool:
    return page.find(_JPEG_OFFSET) is not None and page.find(_WIDTH) is None


def _pixels(page: Directory) -> int:
    return page.integer(_WIDTH, 0) * page.integer(_LENGTH, 0)
