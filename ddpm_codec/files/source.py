"""Sources of ``.ddpm`` files: a path, bytes, or a binary stream."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ddpm_codec.atomic import reason
from ddpm_codec.container import ByteSource
from ddpm_codec.errors import DdpmCodecError, InputError

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A ``.ddpm`` file: its bytes, its path, or a binary stream positioned at its start."""


def as_path(path: str | os.PathLike[str], what: str) -> Path:
    """Return a path; an empty one would mean the current folder, which nobody who leaves it empty means.

    Raises:
        InputError: it is empty.
    """
    if not os.fspath(path):
        raise InputError(f"the path of the {what} is empty")
    return Path(path)


@contextmanager
def open_source(source: Source | ByteSource, *, file_name: str | None = None) -> Iterator[ByteSource]:
    """Open a source; one that is open already is passed through.

    A path is closed when the block ends; a stream stays open.

    Args:
        source: the source.
        file_name: name that a path will have, where it has another one for the time being.

    Raises:
        InputError: the path is empty, the file is missing, not a regular file, or cannot be read.
        TypeError: ``source`` is not a path, bytes or a binary stream.
    """
    if isinstance(source, ByteSource):
        yield source
    elif isinstance(source, bytes | bytearray | memoryview):
        yield ByteSource(bytes(source))
    elif isinstance(source, str | os.PathLike):
        with _opened(as_path(source, "file")) as file:
            yield ByteSource(file, str(source), Path(source).name if file_name is None else file_name)
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)
        file_name = os.path.basename(name) if isinstance(name, str) else ""
        yield ByteSource(source, str(name) if file_name else "<stream>", file_name)
    else:
        raise TypeError(f"source must be a path, bytes or a binary stream, not {type(source).__name__}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is not a regular file")
        file = path.open("rb")
    except DdpmCodecError:
        raise
    except (OSError, ValueError) as error:
        cause = reason(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be read ({cause})") from error
    with file:
        yield file
