"""Folders anywhere that fsspec reaches: local ones, s3://, gs://, and the like; a file there appears whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import DdpmCodecError, InputError, MissingDependencyError, OutputError, one_line

TEMPORARY = (".ddpm-", ".tmp")
"""How the names of temporary files begin and end, see :func:`ddpm_codec.atomic.new_file`."""

_WILD = frozenset("*?[")


class UnreachableError(InputError):
    """A place could not be reached, for what may pass: a network, a login that ran out, a mount that is gone."""


class Place:
    """A folder, or what a pattern or a file's address stands for.

    Args:
        url: a local path, or an address of a protocol that fsspec knows.

    Attributes:
        url: as given, without a slash at the end.
        fs: the file system.
        root: the path on it.

    Raises:
        InputError: the protocol is unknown, or the address is empty or malformed.
        MissingDependencyError: the protocol needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingDependencyError("bulk work needs pip install 'ddpm-codec[cluster]'") from error
        if not url:
            raise InputError("the address is empty")
        try:
            self.fs, root = url_to_fs(url)
        except ImportError as error:
            raise MissingDependencyError(f"{url}: {one_line(error)}") from error
        except Exception as error:  # of each protocol its own
            raise InputError(f"{url}: {one_line(error)}") from error
        self.url = url.rstrip("/") or url
        self.root = str(root).rstrip("/") or str(root)

    @property
    def address(self) -> str:
        """What another process calls it: a local path from the root, which no working folder changes."""
        return self.root if self.is_local else self.url

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's own file system."""
        return "file" in _protocols(self.fs)

    @property
    def has_wildcards(self) -> bool:
        """Whether it is a pattern."""
        return bool(_WILD & set(self.root))

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.root.rstrip('/')}/{name}"

    def without(self, name: str, line: str) -> str:
        """Return a line about a file of the folder without the file's name at its front."""
        return line.removeprefix(f"{self.url}/{name}: ").removeprefix(f"{self.address}/{name}: ")

    def label(self, path: str) -> str:
        """Return what a user calls a path of this file system."""
        if not self.is_local:
            return str(self.fs.unstrip_protocol(path))
        # As given, which may be relative.
        return self.url + path[len(self.root) :] if path.startswith(self.root) and "://" not in self.url else path

    def sizes(self) -> dict[str, int]:
        """Return the names of the files that lie in the folder itself, and their bytes; of a folder that is not there, none.

        Raises:
            InputError: it cannot be listed.
        """
        with self.reading(self.root):
            # What others wrote since the last look counts.
            self.fs.invalidate_cache()
            if not self.fs.isdir(self.root):
                return {}
            found = self.fs.ls(self.root, detail=True)
        return {str(one["name"]).rsplit("/", 1)[-1]: int(one["size"] or 0) for one in found if one["type"] == "file"}

    def size(self, name: str) -> int:
        """Return the bytes of a file of the folder, 0 if it is not there.

        Raises:
            InputError: that cannot be found out.
        """
        with self.reading(self.path(name)):
            try:
                return int(self.fs.info(self.path(name))["size"] or 0)
            except FileNotFoundError:
                return 0

    def all_names(self) -> set[str]:
        """Return the paths below the folder of all files in it and in its folders; of one that is not there, none.

        Raises:
            InputError: it cannot be listed.
        """
        with self.reading(self.root):
            self.fs.invalidate_cache()
            start = len(self.root.rstrip("/")) + 1
            return {str(path)[start:] for path in self.fs.find(self.root)} if self.fs.isdir(self.root) else set()

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file, or of a part of it, given by its path.

        Raises:
            InputError: it cannot be read.
        """
        with self.reading(path):
            # Whole files without a range: a request of its own would have to ask for the size.
            return bytes(
                self.fs.cat_file(path) if end is None and not start else self.fs.cat_file(path, start=start, end=end)
            )

    @contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Open a file for reading anywhere in it.

        Raises:
            InputError: it cannot be opened, or reading in the block fails.
        """
        with self.reading(path), self.fs.open(path, "rb") as file:
            yield cast(BinaryIO, file)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder; it appears whole or not at all, and replaces another one.

        Raises:
            OutputError: it cannot be written.
        """
        if self.is_local:
            with self.created(name) as file:
                file.write(data)
            return
        with self.writing(name):
            # Object stores show an object when all of it has arrived.
            self.fs.pipe_file(self.path(name), data)

    @contextmanager
    def created(self, name: str) -> Iterator[BinaryIO]:
        """Open a file of the folder for writing; it appears when the block has ended well, and replaces another one.

        Raises:
            OutputError: it cannot be written.
        """
        if self.is_local:
            target = Path(self.path(name))
            with self.writing(name):
                target.parent.mkdir(parents=True, exist_ok=True)
            with new_file(target, overwrite=True) as temporary, temporary.open("wb") as file:
                yield file
            return
        with self.writing(name):
            file = self.fs.open(self.path(name), "wb", autocommit=False)
            try:
                yield file
                file.close()
                file.commit()
            except BaseException:
                file.discard()
                raise

    def remove(self, name: str) -> None:
        """Remove a file of the folder.

        Raises:
            OutputError: it cannot be removed.
        """
        with self.writing(name):
            self.fs.rm_file(self.path(name))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turn whatever a file system raises into an InputError that names the path, UnreachableError where it may pass."""
        try:
            yield
        except DdpmCodecError:
            raise
        except FileNotFoundError:
            raise InputError(f"{self.label(path)}: no such file or folder") from None
        except Exception as error:  # of each protocol its own
            # Stores answer a login that ran out in the same way as one that may not read this file.
            lasting = self.is_local and isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
            kind = InputError if lasting else UnreachableError
            raise kind(f"{self.label(path)}: cannot be read ({_cause(error)})") from error

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Turn whatever a file system raises into an OutputError that names the file."""
        try:
            yield
        except DdpmCodecError:
            raise
        except Exception as error:  # of each protocol its own
            raise OutputError(f"{self.url}/{name}: cannot be written ({_cause(error)})") from error


def _protocols(fs: Any) -> tuple[str, ...]:  # noqa: ANN401 - file systems of fsspec are untyped
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)
