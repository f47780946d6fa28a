"""Files of the container format by path: what the library does with streams, for tests that damage or make up files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ddpm_codec.atomic import new_file, spooled, writing
from ddpm_codec.container import (
    CODEC_SINGLE,
    DEFAULT_MAX_PIXELS,
    ByteSource,
    Container,
    ContainerWriter,
    Head,
    ImageEntry,
    SectionFile,
    ShortHead,
    read_container,
    read_sections,
    write_sections,
    write_single,
)
from ddpm_codec.picture import PictureInfo


def source_of(path: Path) -> ByteSource:
    """Return the bytes of a file."""
    return ByteSource(path.read_bytes(), str(path), path.name)


def read_archive(path: Path, *, tolerant: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS) -> Container:
    """Open an archive, or what there is of one."""
    return read_container(source_of(path), tolerant=tolerant, max_pixels=max_pixels)


def read_progressive(path: Path) -> SectionFile:
    """Open a progressive file, or what there is of one."""
    return read_sections(source_of(path))


def write_progressive(
    path: Path, head: Head, info: PictureInfo, payloads: Sequence[bytes], *, named_after: Path
) -> list[int]:
    """Write a progressive file and return where its head and its sections end."""
    file = write_sections(head, info, payloads, file_name=named_after.name)
    path.write_bytes(file.data)
    return [file.start, *file.ends]


class ArchiveWriter:
    """Writes an archive block by block, as the library does."""

    def __init__(self, path: Path, writer: ContainerWriter, overwrite: bool) -> None:
        self._path, self.writer, self._overwrite = path, writer, overwrite

    def add_block(self, payload: bytes) -> None:
        """Put a block behind those already there."""
        with writing(self._path):
            self.writer.add_block(payload)

    def finish(self, head: Head, images: Sequence[ImageEntry]) -> int:
        """Let the file appear and return its bytes."""
        with new_file(self._path, overwrite=self._overwrite) as temporary, temporary.open("wb") as file:
            return self.writer.finish(file, head, images)


@contextmanager
def archive_writer(path: Path, *, overwrite: bool = False) -> Iterator[ArchiveWriter]:
    """Give a writer that leaves nothing behind unless it finishes."""
    with spooled(path, overwrite=overwrite) as spool:
        yield ArchiveWriter(path, ContainerWriter(spool), overwrite)


def write_again(
    opened: Container,
    target: Path,
    *,
    payload: bytes | None = None,
    head: Head | None = None,
    info: PictureInfo | None = None,
) -> Path:
    """Write a file of one block again in its layout, some of it changed, with right checksums."""
    data, head = opened.read_block(0) if payload is None else payload, head or opened.head
    images = opened.images if info is None else [ImageEntry(info, opened.images[0].route)]
    if head.codec == CODEC_SINGLE:
        short = ShortHead(head, images[0].info, route=images[0].route)
        target.write_bytes(write_single(short, data, file_name=target.name))
        return target
    with archive_writer(target, overwrite=True) as writer:
        writer.add_block(data)
        writer.finish(head, images)
    return target
