"""The files of a data set: which there are, what is in them, and how a change of one is noticed."""

import glob
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.lossless.holders import block_holders
from ddpm_codec.container import (
    CODEC_PROGRESSIVE,
    ByteSource,
    Container,
    Head,
    SectionReader,
    file_codec,
    read_container,
)
from ddpm_codec.errors import DdpmCodecError, FormatError, InputError, ModelError
from ddpm_codec.files.source import as_path, open_source
from ddpm_codec.models.registry import ModelName, find_by_id
from ddpm_codec.picture import PictureInfo

Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""Files, folders and patterns, one or several."""

_SUFFIX: Final = ".ddpm"
_HEAD_BYTES: Final = 1 << 12
"""Of a progressive file, in which most heads end."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a data set, as it was when the data set was made.

    Attributes:
        path: where it is, absolute.
        label: its path as the user gave it, for messages.
        progressive: whether it is a progressive file; otherwise it is an archive, or a single picture.
        mark: checksum of size, head, table and the checksums of the blocks.
        infos: its pictures without pixels.
        groups: for each picture the number, from 0, of the blocks that hold it, [pictures]: pictures with the same number
            are decoded together.
    """

    path: Path
    label: str
    progressive: bool
    mark: int
    infos: tuple[PictureInfo, ...]
    groups: NDArray[np.int64]

    def changed(self, max_pixels: int) -> bool:
        """Return whether another intact file is there now."""
        try:
            with open_source(self.path) as source:
                if self.progressive != is_progressive(source):
                    return True
                found = progressive_mark(source) if self.progressive else _archive_mark(source, max_pixels)
        except DdpmCodecError:
            return False
        return found != self.mark


def find_files(sources: Sources) -> list[tuple[Path, str]]:
    """Return the absolute path of each file and the path to call it by: those of a folder or pattern sorted.

    Raises:
        InputError: there is none, a file is given twice, a folder has no ``.ddpm`` files, or nothing matches a pattern.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    found = [path for source in given for path in _expanded(as_path(source, "archive"))]
    if not found:
        raise InputError("no archives given")
    absolute = [Path(os.path.abspath(path)) for path in found]
    seen: set[Path] = set()
    for path, label in zip(absolute, found, strict=True):
        if path in seen:
            raise InputError(f"{label}: is given twice")
        seen.add(path)
    return [(path, str(label)) for path, label in zip(absolute, found, strict=True)]


def _expanded(path: Path) -> list[Path]:
    """Return the files that a path stands for. One that exists is no pattern, whatever is in its name."""
    if os.path.isdir(path):
        inside = sorted(child for child in path.iterdir() if child.suffix == _SUFFIX)
        if not inside:
            raise InputError(f"{path}: the folder has no {_SUFFIX} files")
        return inside
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    matching = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if not matching:
        raise InputError(f"{path}: no file matches this pattern")
    return matching


def read_files(sources: Sources, model: ModelName | None, max_pixels: int) -> Iterator[SourceFile]:
    """Yield the files of a data set after reading their heads, tables and block headers.

    Args:
        sources: see :data:`Sources`.
        model: the model that they were coded with; None to look for it among the shipped models.
        max_pixels: refuse files that declare more pixels.

    Raises:
        FormatError: a file is damaged outside its blocks.
        InputError: a file cannot be read; or see :func:`find_files`.
        ModelError: the model of a file is not here.
    """
    checked: set[bytes] = set()
    for path, label in find_files(sources):
        try:
            file, head = _read(path, label, max_pixels)
            if head.needs_model and head.model_id not in checked:
                find_by_id(head.model_id.hex(), model)
                checked.add(head.model_id)
        except (FormatError, InputError, ModelError) as error:
            raise type(error)(f"{label}: {without_path(error, path)}") from None
        yield file


def without_path(error: DdpmCodecError, path: Path) -> str:
    """Return the message of an error about a file without the file's path at its beginning."""
    return str(error).removeprefix(f"{path}: ")


def is_progressive(source: ByteSource) -> bool:
    """Return whether a file is progressive; otherwise it is an archive, a single picture, or none of ours."""
    return file_codec(source) == CODEC_PROGRESSIVE


def progressive_mark(source: ByteSource) -> int:
    """Return the checksum of the size and beginning of a progressive file, which its later checksums continue."""
    return zlib.crc32(source.read(0, _HEAD_BYTES), zlib.crc32(str(source.size).encode()))


def container_mark(container: Container) -> int:
    """Return the checksum of an archive's size and of its checksums, or of those of a single picture."""
    blocks = [(block.offset, block.length, block.crc) for block in container.blocks if block is not None]
    return zlib.crc32(repr((container.file_bytes, container.crc, blocks)).encode())


def _archive_mark(source: ByteSource, max_pixels: int) -> int:
    return container_mark(read_container(source, max_pixels=max_pixels))


def _read(path: Path, label: str, max_pixels: int) -> tuple[SourceFile, Head]:
    with open_source(path) as source:
        if is_progressive(source):
            head, info = _progressive_head(source, max_pixels)
            return SourceFile(path, label, True, progressive_mark(source), (info,), np.zeros(1, np.int64)), head
        container = read_container(source, max_pixels=max_pixels)
        infos = tuple(entry.info for entry in container.images)
        groups = _groups(block_holders(container), len(infos))
        return SourceFile(path, label, False, container_mark(container), infos, groups), container.head


def _progressive_head(source: ByteSource, max_pixels: int) -> tuple[Head, PictureInfo]:
    """Return the head of a progressive file and its picture, reading no more of it than that takes."""
    reader = SectionReader(file_name=source.file_name, max_pixels=max_pixels)
    size = _HEAD_BYTES
    while reader.short is None and reader.file_bytes < source.size:
        try:
            reader.feed(source.read(reader.file_bytes, size))
        except FormatError as error:
            raise FormatError(f"{source.label}: {error}") from None
        size *= 4
    if reader.short is None:
        raise FormatError(f"{source.label}: is too short for a first picture")
    return reader.short.head, reader.short.info


def _groups(holders: dict[int, list[int]], count: int) -> NDArray[np.int64]:
    """Number the sets of blocks that hold the pictures, in order of the blocks; a picture in none is a group of its own."""
    sets = {index: (tuple(holders.get(index, ())), -1 if index in holders else index) for index in range(count)}
    numbers = {one: number for number, one in enumerate(sorted(set(sets.values())))}
    return np.array([numbers[sets[index]] for index in range(count)], np.int64)
