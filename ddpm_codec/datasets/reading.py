"""Decodes pictures of many files block by block, in one process, and keeps the blocks that were used last."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from torch.utils.data import get_worker_info

from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.container import SectionFile, read_container, read_sections
from ddpm_codec.datasets.files import SourceFile, container_mark, is_progressive, progressive_mark, without_path
from ddpm_codec.errors import DdpmCodecError, FormatError, InputError
from ddpm_codec.files.source import open_source
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture

_OPEN_FILES: Final = 64
"""A process may often open no more than 1024 files; a data set may have more."""

_CHANGED: Final = "the file has changed since the data set was made"


@dataclass(frozen=True)
class ReadingOptions:
    """How pictures are decoded; see :class:`~ddpm_codec.datasets.Archives`."""

    model: ModelName | None
    device: str
    threads: int | None
    cached_pixels: int
    max_pixels: int


class BlockReader:
    """Opens files and decodes blocks when they are asked for. It belongs to the process that made it.

    Args:
        files: the files.
        options: how to decode them.

    Attributes:
        decoded_blocks: blocks decoded so far; a progressive file counts as one.
    """

    def __init__(self, files: Sequence[SourceFile], options: ReadingOptions) -> None:
        self.decoded_blocks = 0
        self._files, self._options = files, options
        self._process, self._lock = os.getpid(), threading.Lock()
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()
        self._kept: OrderedDict[tuple[int, int], dict[int, Picture]] = OrderedDict()
        self._kept_pixels = 0

    @property
    def usable(self) -> bool:
        """Whether this is the process that made the reader: after a fork, parent and child would move one file position."""
        return self._process == os.getpid()

    def picture(self, number: int, place: int) -> Picture:
        """Return picture ``place`` of file ``number``.

        Raises:
            DdpmCodecError: it cannot be decoded; one line names the file and the picture.
        """
        file = self._files[number]
        key = number, int(file.groups[place])
        with self._lock:
            found = self._kept.pop(key, {})
            if place not in found:
                self._kept_pixels -= _pixels(found)
                found = self._decoded(number, place)
                self._kept_pixels += _pixels(found)
            self._keep(key, found)
            return found[place]

    def _decoded(self, number: int, place: int) -> dict[int, Picture]:
        """Return the pictures of the blocks that hold one."""
        file, options = self._files[number], self._options
        threads = 1 if options.threads is None and get_worker_info() is not None else options.threads
        try:
            with isolated(threads):
                opened = self._opened(number)
                found = opened.decode(place)
                self.decoded_blocks += opened.block_count(place)
                return found
        except DdpmCodecError as error:
            self._forget(number)
            what = f"{file.label}: picture {file.infos[place].name}"
            if isinstance(error, FormatError) and file.changed(options.max_pixels):
                raise InputError(f"{what}: {_CHANGED}") from None
            raise type(error)(f"{what}: {without_path(error, file.path)}") from None

    def _opened(self, number: int) -> "_OpenFile":
        if number not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._forget(next(iter(self._open)))
            self._open[number] = _OpenFile(self._files[number], self._options)
        self._open.move_to_end(number)
        return self._open[number]

    def _forget(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            opened.close()

    def _keep(self, key: tuple[int, int], pictures: dict[int, Picture]) -> None:
        """Keep the pictures of a block as the most recent, and drop the oldest beyond the limit."""
        self._kept[key] = pictures
        if len(pictures) == 1:
            # No other picture needs this block: it goes first.
            self._kept.move_to_end(key, last=False)
        while self._kept_pixels > self._options.cached_pixels and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self._kept_pixels -= _pixels(forgotten)


class _OpenFile:
    """One open file and what decodes it.

    Attributes:
        close: closes the file.

    Raises:
        InputError: another file is there than when the data set was made.
        DdpmCodecError: it cannot be read, or its model cannot be opened.
    """

    def __init__(self, file: SourceFile, options: ReadingOptions) -> None:
        self._options = options
        self._decoder: SectionFile | ArchiveDecoder
        with ExitStack() as resources:
            source = resources.enter_context(open_source(file.path))
            if is_progressive(source) != file.progressive:
                raise InputError(_CHANGED)
            if file.progressive:
                _check_mark(progressive_mark(source), file)
                self._decoder = read_sections(source, max_pixels=options.max_pixels)
            else:
                container = read_container(source, max_pixels=options.max_pixels)
                _check_mark(container_mark(container), file)
                self._decoder = ArchiveDecoder(container, model=options.model, device=options.device)
            # A data set has no end that anybody announces: the file is closed with the last reference to it.
            self.close = weakref.finalize(self, resources.pop_all().close)

    def block_count(self, place: int) -> int:
        """Return how many blocks are decoded for a picture."""
        return len(self._decoder.blocks_of(place)) if isinstance(self._decoder, ArchiveDecoder) else 1

    def decode(self, place: int) -> dict[int, Picture]:
        """Return a picture and those beside it, by their places in the file."""
        if isinstance(self._decoder, ArchiveDecoder):
            return self._decoder.pictures_beside(place)
        reader = ProgressiveReader(self._decoder, model=self._options.model, device=self._options.device)
        return {place: reader.decode(DecodeLimits()).picture}


def _check_mark(mark: int, file: SourceFile) -> None:
    if mark != file.mark:
        raise InputError(_CHANGED)


def _pixels(pictures: dict[int, Picture]) -> int:
    return sum(picture.info.pixel_count for picture in pictures.values())
