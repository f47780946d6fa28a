"""The pictures to encode: where they are, and which of them cannot be used."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ddpm_codec.errors import InputError, LeftOutError, RefusedInputsError, Untaken
from ddpm_codec.files.options import EncodeOptions
from ddpm_codec.files.streams import StreamPicture
from ddpm_codec.image_io import check_header, list_inputs, read_stored
from ddpm_codec.picture import Picture

Check = Callable[[Picture], None]
"""Raises an InputError if a picture cannot be used."""


@dataclass(frozen=True)
class Entry:
    """A picture to encode.

    Attributes:
        source: where it is.
        name: its name in an archive.
    """

    source: Path | StreamPicture
    name: str

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.source.label if isinstance(self.source, StreamPicture) else str(self.source)


@dataclass
class Inputs:
    """The pictures to encode, in order.

    Attributes:
        entries: those that may be used as far as is known.
        left_out: contents of the given folders that are not pictures.
        refused: inputs that cannot be used.
        options: how to read them.
        notes: by what errors call an entry, a line for everything in its file that is left out.
        given: number of entries and refused inputs.
    """

    entries: list[Entry]
    left_out: list[Untaken]
    refused: list[Untaken]
    options: EncodeOptions
    given: int
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def found(cls, inputs: Sequence[Path | StreamPicture], options: EncodeOptions, output: Path) -> Self:
        """List the pictures among files, folders and streams; nothing is read yet.

        Raises:
            InputError: a file is given twice, or names cannot be told apart.
            LeftOutError: with ``strict``, something of a folder would be left out.
        """
        paths = [one for one in inputs if isinstance(one, Path)]
        streams = [one for one in inputs if isinstance(one, StreamPicture)]
        entries: list[Entry] = []
        left_out: list[Untaken] = []
        refused: list[Untaken] = []
        if paths or not streams:
            listing = list_inputs(paths, output=output)
            entries += [Entry(path, name) for path, name in listing.files]
            left_out, refused = listing.left_out, listing.refused
        for stream in streams:
            entries.append(Entry(stream, _free_name(stream.name, {entry.name for entry in entries})))
        if options.strict and left_out:
            raise LeftOutError(left_out)
        return cls(entries, left_out, refused, options, len(entries) + len(refused))

    @property
    def paths(self) -> list[Path]:
        """The files among the entries."""
        return [entry.source for entry in self.entries if isinstance(entry.source, Path)]

    def check_headers(self, check: Check | None = None) -> None:
        """Look at the headers of all entries, and drop those that are refused.

        If one is refused that the others are not to be used without, all others are read as well, so as to name in one go
        whatever is refused.

        Args:
            check: see :meth:`pictures`.

        Raises:
            RefusedInputsError: see above, or no entry is left.
        """
        good = []
        for entry in self.entries:
            try:
                self._check_header(entry)
            except InputError as error:
                self._refuse(entry, error)
            else:
                good.append(entry)
        self.entries = good
        if self.refused and not self.options.keep_going:
            for _ in self.pictures(check):
                pass
        self._raise_refused(left=len(good))

    def pictures(self, check: Check | None = None) -> Iterator[tuple[Entry, Picture]]:
        """Read the entries one after the other.

        After the first one that is refused, the others are still read, so as to name all that are refused, but not yielded.

        Args:
            check: a further check of each picture.

        Raises:
            RefusedInputsError: at the end: see :meth:`check_headers`.
        """
        yielded = 0
        for entry in self.entries:
            try:
                picture = self._read(entry)
                if check is not None:
                    check(picture)
            except InputError as error:
                self._refuse(entry, error)
                continue
            if self.options.keep_going or not self.refused:
                yielded += 1
                yield entry, picture
        self._raise_refused(left=yielded)

    def notes_of(self, entry: Entry) -> list[str]:
        """Return a line for everything in the file of an entry, which has been read, that is left out."""
        return [f"{entry.label}: {note}" for note in self.notes.get(entry.label, ())]

    def _raise_refused(self, *, left: int) -> None:
        if self.refused and not (self.options.keep_going and left):
            raise RefusedInputsError(self.refused, self.given, self.left_out)

    def _refuse(self, entry: Entry, error: InputError) -> None:
        text = str(error)
        for start in (entry.label, entry.name):
            text = text.removeprefix(f"{start}: ")
        self.refused.append(Untaken(entry.label, text))

    def _check_header(self, entry: Entry) -> None:
        if isinstance(entry.source, StreamPicture):
            # All of it, which is in memory anyway.
            self._read(entry)
        else:
            check_header(entry.source, first_frame=self.options.first_frame)

    def _read(self, entry: Entry) -> Picture:
        """Read a picture; ``strip`` omits its metadata."""
        source = entry.source.data if isinstance(entry.source, StreamPicture) else entry.source
        found = read_stored(source, first_frame=self.options.first_frame, name=entry.name)
        self.notes[entry.label] = found.notes
        return found.picture.without_metadata() if self.options.strip else found.picture


def _free_name(name: str, taken: set[str]) -> str:
    stem, dot, extension = name.partition(".")
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{stem}-{number}{dot}{extension}"
    return free
