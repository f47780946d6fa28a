"""Files that appear complete or not at all."""

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from ddpm_codec.errors import DdpmCodecError, FormatError, InputError, OutputError, OutputExistsError

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def check_target(path: Path, *, overwrite: bool, sources: Iterable[str | Path] = ()) -> None:
    """Check, before any work is done, that ``path`` may be written.

    Args:
        path: the output.
        overwrite: whether it may replace a file.
        sources: inputs that it must not replace.

    Raises:
        InputError: it is one of the sources.
        OutputExistsError: it is there, and ``overwrite`` is False.
        OutputError: it is a folder or a device, or its folder is missing.
    """
    try:
        if any(_same_file(path, source) for source in sources):
            raise InputError(f"{path}: is one of the inputs; name another output")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        if os.path.lexists(path) and not overwrite:
            raise OutputExistsError(f"{path}: exists already (--overwrite replaces it)")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OutputError(f"{path}: is not a regular file")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: the folder {path.parent} does not exist")
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: {reason(error)}") from error


def _same_file(path: Path, source: str | Path) -> bool:
    try:
        return os.path.samefile(path, source)
    except OSError:
        # A source that cannot be looked at is refused where it is read.
        return False


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; on success what is there becomes ``path``, else it is removed.

    Without ``overwrite`` a file that appears at ``path`` in the meantime is never replaced.

    Raises:
        OutputExistsError: see :func:`check_target`.
        OutputError: any OSError, in one line that names ``path``.
    """
    check_target(path, overwrite=overwrite)
    # A link is followed, so that its target is replaced and not the link.
    target = Path(os.path.realpath(path)) if overwrite else path
    temporary = target.parent / f".ddpm-{secrets.token_hex(8)}.tmp"
    try:
        # Not tempfile.mkstemp, whose mode 0600 would stay: this honours the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        yield temporary
        _sync(temporary)
        _publish(temporary, target, path, overwrite=overwrite)
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """Return the cause of an OSError without the path, which the caller names."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(temporary: Path, target: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # A hard link, unlike a rename, fails where the name is taken.
        os.link(temporary, target)
    except FileExistsError:
        raise OutputExistsError(f"{path}: exists already (--overwrite replaces it)") from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        check_target(path, overwrite=False)
        os.replace(temporary, target)


@contextmanager
def proved(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path beside ``path`` to write a file to and to read it back; after the block it becomes ``path``.

    Where the block fails, nothing is left, and a FormatError of what was written names ``path``.

    Raises:
        FormatError: the block raised one.
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    # Where a link is replaced its target is, and that may lie in another file system.
    target = Path(os.path.realpath(path)) if overwrite else path
    temporary = target.with_name(f".ddpm-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        publish(temporary, path, overwrite=overwrite)
    except FormatError as error:
        raise FormatError(f"{str(error).replace(str(temporary), str(path))}; nothing was written") from error
    except OutputError as error:
        raise type(error)(str(error).replace(str(temporary), str(path))) from error
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, overwrite: bool = False) -> None:
    """Let a finished file appear at ``path``; without ``overwrite``, never in the place of another.

    Raises:
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    target = Path(os.path.realpath(path)) if overwrite else path
    try:
        _publish(temporary, target, path, overwrite=overwrite)
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to write files to; on success it becomes ``path``, else it is removed.

    Raises:
        OutputExistsError: ``path`` is there: folders are never replaced.
        OutputError: any OSError, in one line that names ``path``.
    """
    temporary = path.with_name(f".ddpm-{secrets.token_hex(8)}.tmp")
    try:
        if os.path.lexists(path):
            raise OutputExistsError(f"{path}: exists already, and a folder is not replaced")
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        # Fails where anything but an empty folder has appeared there in the meantime.
        os.rename(temporary, path)
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def spooled(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give an unnamed file beside ``path``, for what has to wait until a file can be put together.

    Raises:
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    check_target(path, overwrite=overwrite)
    # Beside the output, because a temporary folder may be small, or memory.
    with writing(path):
        spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - opening alone is what may fail here
    try:
        yield cast(BinaryIO, spool)
    except BaseException:
        # Closing flushes; on a full disk that fails once more, and what counts is the first error.
        with suppress(OSError):
            spool.close()
        raise
    with writing(path):
        spool.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that names ``path``.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove ``folder`` again where it was not there and the block fails before anything is in it."""
    new = not os.path.lexists(folder)
    try:
        yield
    except BaseException:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
