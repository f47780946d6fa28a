"""Where the pictures of a set are: a folder, a pattern, a file, or webdataset tars, wherever fsspec reaches."""

import io
import os
import re
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ddpm_codec.bulk.entries import WHOLE, Entry, Listing, table_of
from ddpm_codec.bulk.places import Place, UnreachableError
from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_io import IMAGE_EXTENSIONS, check_header
from ddpm_codec.image_io.folders import find_pictures
from ddpm_codec.picture import check_name

READERS = 8
"""Threads that read ahead: most of the time of a read from a store is waiting."""

RETRY_SECONDS = (1.0, 4.0)
"""Pauses before a place that could not be reached is tried again."""

_AHEAD_BYTES = 1 << 25
_AHEAD_READS = 64
_SPAN_BYTES = 1 << 22
_SPAN_GAP = 1 << 16
"""What a request for several pictures of a tar reads at most, and what may lie between two of them."""

_HEADER_BYTES = 1 << 12
_HEADERS = 1 << 10
_NO_PICTURE = "has no extension of a picture"
_BLOCK = 512
_PACKED = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")

Read = Callable[[], bytes]
Said = Callable[[int], None]
"""Told how many pictures were found so far."""


class Source:
    """The pictures of a set.

    Args:
        url: a folder, a pattern with wildcards, a picture, a tar of pictures, or a pattern of such tars.

    Raises:
        InputError: see :class:`~ddpm_codec.bulk.places.Place`.
        MissingDependencyError: as there.
    """

    def __init__(self, url: str) -> None:
        self.place = Place(url)

    def label(self, entry: Entry) -> str:
        """Return what a user calls a picture; one of a tar has its name there behind an exclamation mark."""
        file = self.place.label(entry.file)
        return file if entry.offset == WHOLE else f"{file}!{entry.name}"

    def read(self, entry: Entry) -> bytes:
        """Return the image file of an entry.

        Raises:
            InputError: it cannot be read, or is not as long as it was.
        """
        if entry.offset == WHOLE:
            data = self.place.read(entry.file)
        else:
            data = self.place.read(entry.file, entry.offset, entry.offset + entry.bytes)
        if len(data) != entry.bytes:
            raise InputError(f"{self.label(entry)}: has {len(data)} bytes, where the listing has {entry.bytes}")
        return data

    def read_ahead(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Read]]:
        """Yield every entry with what returns its image file, or raises what :meth:`read` does.

        Threads read before they are asked to, within bounds of memory; what lies side by side in a tar, in one request.
        """
        waiting: deque[tuple[list[Entry], Future[list[Read]]]] = deque()
        ahead = 0
        with ThreadPoolExecutor(READERS) as pool:
            try:
                for span in _spans(entries):
                    while waiting and (ahead + _length(span) > _AHEAD_BYTES or len(waiting) >= _AHEAD_READS):
                        ahead -= _length(waiting[0][0])
                        yield from _of_span(*waiting.popleft())
                    waiting.append((span, pool.submit(self._read_span, span)))
                    ahead += _length(span)
                while waiting:
                    yield from _of_span(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read_span(self, span: list[Entry]) -> list[Read]:
        """Return what gives the image file of each entry, with a single request for all of them."""
        for pause in (*RETRY_SECONDS, None):
            try:
                found = [self.read(span[0])] if len(span) == 1 else self._together(span)
                return [partial(bytes, data) for data in found]
            except UnreachableError as error:
                failed: InputError = error
                if pause is not None:
                    time.sleep(pause)
            except InputError as error:
                failed = error
                break
        return [partial(_raise, failed)] * len(span)

    def _together(self, span: list[Entry]) -> list[bytes]:
        start = span[0].offset
        data = self.place.read(span[0].file, start, start + _length(span))
        if len(data) != _length(span):
            raise InputError(f"{self.place.label(span[0].file)}: has become shorter")
        return [data[entry.offset - start : entry.offset - start + entry.bytes] for entry in span]

    def listing(self, *, pixels: bool = False, said: Said | None = None) -> Listing:
        """Find all pictures, in the order of their names; those of a tar in its own order, tar by tar.

        A local folder is searched as ``encode`` does; of other places, files count as pictures by their extension.

        Args:
            pixels: read the headers too, and fill in how many pixels each has.
            said: told how far it is.

        Raises:
            InputError: there is nothing, or nothing that is a picture.
        """
        found, left_out = self._found()
        if found and all(path.endswith(".tar") for path in found):
            entries, more = self._in_tars(found)
            left_out += more
        else:
            entries = self._files(found)
            tars = [path for path in found if path.endswith(".tar")]
            left_out += [Untaken(self.place.label(path), "is a tar among pictures") for path in tars]
        taken, refused = _with_usable_names(entries, self.label)
        if not taken and not refused:
            raise InputError(f"{self.place.url}: has no pictures")
        if pixels:
            taken = list(self._with_pixels(taken, said))
        return Listing(table_of(taken), left_out, refused)

    def _found(self) -> tuple[dict[str, int], list[Untaken]]:
        """Return the files that may be pictures or tars, by path with their bytes, and what else there is."""
        place = self.place
        base = place.root
        with place.reading(place.root):
            place.fs.invalidate_cache()
            if place.has_wildcards and not place.fs.exists(place.root):
                found = place.fs.glob(place.root, detail=True)
                base = _before_wildcards(place.root)
            elif place.fs.isfile(place.root):
                found = {place.root: place.fs.info(place.root)}
            elif place.is_local and place.fs.isdir(place.root):
                return self._in_local_folder()
            else:
                found = place.fs.find(place.root, detail=True)
        if place.root.lower().endswith(_PACKED):
            raise InputError(f"{place.url}: is a compressed tar, in which no picture can be reached; unpack it first")
        if not found:
            raise InputError(f"{place.url}: no such file or folder, or nothing in it")
        # Links of a local pattern are followed, as those in a folder are.
        linked = {str(path) for path, facts in found.items() if facts.get("islink") or facts["type"] == "link"}
        files = {str(path): int(facts["size"] or 0) for path, facts in found.items() if facts["type"] == "file"}
        files |= {path: os.path.getsize(path) for path in linked if place.is_local and os.path.isfile(path)}
        reasons = {path: _why_left_out(path, base) for path in files}
        reasons |= dict.fromkeys(linked - files.keys(), "is a link to no file")
        left_out = [Untaken(place.label(path), why) for path, why in sorted(reasons.items()) if why]
        return {path: size for path, size in files.items() if not reasons[path]}, left_out

    def _in_local_folder(self) -> tuple[dict[str, int], list[Untaken]]:
        folder = Path(self.place.root)
        found = find_pictures(folder)
        if found.refused:
            raise InputError(str(found.refused[0]))
        left_out = [Untaken(self.place.label(one.path), one.reason) for one in found.left_out]
        return {str(path): path.stat().st_size for path in found.pictures}, left_out

    def _base(self, found: Iterable[str]) -> str:
        """Return the folder that names are relative to: the one given, that in front of the wildcards, or that of a file."""
        root = self.place.root
        if list(found) == [root]:
            return root.rsplit("/", 1)[0]
        # A folder whose name has a bracket is no pattern.
        return _before_wildcards(root) if not all(path.startswith(root + "/") for path in found) else root

    def _files(self, found: dict[str, int]) -> list[Entry]:
        base = self._base(found)
        pictures = [path for path in found if not path.endswith(".tar")]
        names = {path: path[len(base) :].lstrip("/") for path in pictures}
        ordered = sorted(pictures, key=lambda path: names[path].split("/"))
        return [Entry(names[path], path, WHOLE, found[path]) for path in ordered]

    def _in_tars(self, found: dict[str, int]) -> tuple[list[Entry], list[Untaken]]:
        entries: list[Entry] = []
        left_out: list[Untaken] = []
        base = self._base(found)
        for path in sorted(found):
            start = "" if len(found) == 1 else path[len(base) :].lstrip("/").removesuffix(".tar") + "/"
            others = 0
            with self.place.opened(path) as file:
                for member in _members(file, self.place.label(path)):
                    name = member.name.removeprefix("./")
                    whole = member.isreg() and not member.issparse()
                    why = _why_left_out(name, "") if whole else "is a link, or no ordinary file"
                    if why == _NO_PICTURE:
                        # Labels and the like: every sample has some.
                        others += 1
                    elif why:
                        left_out.append(Untaken(f"{self.place.label(path)}!{name}", why))
                    else:
                        entries.append(Entry(start + name, path, member.offset_data, member.size))
            if others:
                left_out.append(Untaken(self.place.label(path), f"{others:,} files in it have {_NO_PICTURE[4:]}"))
        return entries, left_out

    def _with_pixels(self, entries: list[Entry], said: Said | None) -> Iterator[Entry]:
        with ThreadPoolExecutor(READERS) as pool:
            # By the thousand: a pool makes a future of each at once.
            for start in range(0, len(entries), _HEADERS):
                batch = entries[start : start + _HEADERS]
                for entry, pixels in zip(batch, pool.map(self._pixels, batch), strict=True):
                    yield entry._replace(pixels=pixels)
                if said is not None:
                    said(start + len(batch))

    def _pixels(self, entry: Entry) -> int:
        """Return the pixels of a picture, 0 where its header cannot be read: it will be refused when it is coded."""
        start = max(entry.offset, 0)
        for length in sorted({min(_HEADER_BYTES, entry.bytes), entry.bytes}):
            try:
                head = self.place.read(entry.file, start, start + length)
                width, height = check_header(io.BytesIO(head), first_frame=True, name=entry.name).size
            except InputError:
                continue
            return width * height
        return 0


def _spans(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries in runs that lie side by side in a tar; others by themselves."""
    span: list[Entry] = []
    for entry in entries:
        if span and not _beside(span, entry):
            yield span
            span = []
        span.append(entry)
    if span:
        yield span


def _beside(span: list[Entry], entry: Entry) -> bool:
    last = span[-1]
    gap = entry.offset - (last.offset + last.bytes)
    long = entry.offset + entry.bytes - span[0].offset > _SPAN_BYTES
    return WHOLE not in (entry.offset, last.offset) and entry.file == last.file and 0 <= gap <= _SPAN_GAP and not long


def _length(span: list[Entry]) -> int:
    """Return the bytes that a run takes, what lies between its pictures included."""
    return span[-1].offset + span[-1].bytes - span[0].offset


def _of_span(span: list[Entry], read: "Future[list[Read]]") -> Iterator[tuple[Entry, Read]]:
    yield from zip(span, read.result(), strict=True)


def _raise(error: Exception) -> bytes:
    raise error


def _members(file: BinaryIO, label: str) -> Iterator[tarfile.TarInfo]:
    """Yield everything in a tar but its folders.

    Raises:
        InputError: it is damaged, or compressed.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield from (member for member in tar if not member.isdir())
            file.seek(tar.offset)
            # tarfile takes the end of the file for that of the tar, which is a block of zeros.
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise InputError(f"{label}: is cut short, or has no end-of-archive block")
    except tarfile.TarError as error:
        raise InputError(f"{label}: cannot be read as an uncompressed tar ({error})") from error


def _before_wildcards(pattern: str) -> str:
    """Return the folder in front of the first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rsplit("/", 1)[0]


def _why_left_out(path: str, root: str) -> str:
    """Return why a file is not taken; empty: it is."""
    inner = path[len(root) :] if path.startswith(root) else path
    if any(part.startswith(".") and part != ".." for part in inner.split("/")):
        return "is hidden"
    extension = os.path.splitext(path)[1].lower()
    if path != root and extension not in IMAGE_EXTENSIONS and extension != ".tar":
        return _NO_PICTURE
    return ""


def _with_usable_names(entries: Iterable[Entry], label: Callable[[Entry], str]) -> tuple[list[Entry], list[Untaken]]:
    """Return the entries that a shard can hold, and the others."""
    taken: list[Entry] = []
    refused: list[Untaken] = []
    seen: set[str] = set()
    for entry in entries:
        try:
            check_name(entry.name)
            # Columns of names are UTF-8.
            (entry.name + entry.file).encode()
            if entry.name in seen:
                raise InputError("its name is there twice")
        except ValueError as error:
            reason = str(error) if isinstance(error, InputError) else "its name is not UTF-8"
            refused.append(Untaken(label(entry), reason))
        else:
            seen.add(entry.name)
            taken.append(entry)
    return taken, refused
