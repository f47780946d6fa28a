"""Writes files that appear complete or not at all."""

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
    """Check that ``path`` may be written, before any work is done.

    Args:
        path: the output.
        overwrite: whether it may replace a file.
        sources: inputs that it must not replace.

    Raises:
        InputError: ``path`` is one of the sources.
        OutputExistsError: ``path`` exists, and ``overwrite`` is False.
        OutputError: ``path`` is a folder or a device, or its folder is missing.
    """
    try:
        if any(_same_file(path, source) for source in sources):
            raise InputError(f"{path}: is one of the inputs; name another output")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        if os.path.lexists(path) and not overwrite:
            raise OutputExistsError(f"{path}: already exists (use --overwrite to replace it)")
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
        # An inaccessible source is reported when it is read.
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that names ``path``.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    try:
        yield
    except DdpmCodecError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Provide a temporary path in the folder of ``path``; on success it is renamed to ``path``, else removed.

    Without ``overwrite``, a file that appears at ``path`` in the meantime is never replaced.

    Raises:
        OutputExistsError: see :func:`check_target`.
        OutputError: on any OSError; one line that names ``path``.
    """
    check_target(path, overwrite=overwrite)
    # A symbolic link is followed, so that its target is replaced rather than the link.
    target = Path(os.path.realpath(path)) if overwrite else path
    temporary = target.parent / f".ddpm-{secrets.token_hex(8)}.tmp"
    try:
        with writing(path):
            # Unlike tempfile.mkstemp, which sets mode 0600, this honours the umask.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
            yield temporary
            _sync(temporary)
            _publish(temporary, target, path, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """Return the cause of an OSError without its path, which the caller adds."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_permissions(temporary: Path, target: Path) -> None:
    """Give a finished file the permissions, the access lists and, where allowed, the owner of the one it will replace.

    Nothing changes where ``target`` does not exist. Where the owner cannot be kept, the group is, if that is allowed; the
    set-user-ID and set-group-ID bits stay only with owner and group.

    Raises:
        OSError: the permissions cannot be set.
    """
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(old.st_mode)
    new = temporary.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) and not _give(temporary, old.st_uid, old.st_gid):
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    # After the owner, whose change clears bits of the mode.
    temporary.chmod(mode)
    _copy_access_lists(target, temporary)


def _give(path: Path, user: int, group: int) -> bool:
    """Change owner and group, or at least the group; return whether both are as wanted."""
    if not hasattr(os, "chown"):
        return False
    with suppress(OSError):
        os.chown(path, user, group)
        return True
    with suppress(OSError):
        os.chown(path, -1, group)
    return False


def _copy_access_lists(source: Path, target: Path) -> None:
    """Copy POSIX access lists, where the system has them."""
    if not hasattr(os, "listxattr"):
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            if name.startswith("system.posix_acl_"):
                os.setxattr(target, name, os.getxattr(source, name))


def _publish(temporary: Path, target: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        keep_permissions(temporary, target)
        os.replace(temporary, target)
        return
    try:
        # Unlike a rename, a hard link fails if the name is taken.
        os.link(temporary, target)
    except FileExistsError:
        raise OutputExistsError(f"{path}: already exists (use --overwrite to replace it)") from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        check_target(path, overwrite=False)
        os.replace(temporary, target)


@contextmanager
def proved(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Provide a temporary path beside ``path``, to write a file and read it back; on success it is renamed to ``path``.

    If the block fails, no file is left, and a FormatError about the temporary file names ``path``.

    Raises:
        FormatError: the block raised one.
        OutputExistsError: ``path`` exists.
        OutputError: ``path`` cannot be written.
    """
    # Replacing a symbolic link replaces its target, which may be on another file system.
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
    """Rename a finished file to ``path``; without ``overwrite``, an existing file is never replaced.

    Raises:
        OutputExistsError: ``path`` exists.
        OutputError: ``path`` cannot be written.
    """
    target = Path(os.path.realpath(path)) if overwrite else path
    with writing(path):
        _publish(temporary, target, path, overwrite=overwrite)


@contextmanager
def streamed(stream: BinaryIO, name: str, label: str) -> Iterator[Path]:
    """Provide a path in a temporary folder; on success the file there is copied to ``stream``.

    Args:
        stream: gets all of the file, or nothing if the block fails.
        name: name of the file.
        label: what errors call it.

    Raises:
        BrokenPipeError: nobody reads the stream any more.
        OutputError: the file or the stream cannot be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="ddpm-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"{label}: no temporary folder can be made ({reason(error)})") from error
    with folder as place:
        path = Path(place, name)
        try:
            yield path
        except DdpmCodecError as error:
            error.args = (str(error).replace(str(path), label),)
            raise
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, stream)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{label}: cannot be written ({reason(error)})") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Provide a temporary folder beside ``path`` for files; on success it is renamed to ``path``, else removed.

    Raises:
        OutputExistsError: ``path`` exists; folders are never replaced.
        OutputError: on any OSError; one line that names ``path``.
    """
    temporary = path.with_name(f".ddpm-{secrets.token_hex(8)}.tmp")
    try:
        with writing(path):
            if os.path.lexists(path):
                raise OutputExistsError(f"{path}: already exists, and folders are never replaced")
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            # Fails if anything but an empty folder has appeared there in the meantime.
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def spooled(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Provide an unnamed temporary file in the folder of ``path``, for data needed until the output is assembled.

    Raises:
        OutputExistsError: ``path`` exists.
        OutputError: the temporary file cannot be written.
    """
    check_target(path, overwrite=overwrite)
    # In the folder of the output, because the system's temporary folder may be small or in memory.
    with writing(path):
        spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - only opening may fail here
    try:
        yield cast(BinaryIO, spool)
    except BaseException:
        # Closing flushes, which fails again on a full disk; the first error is the one to report.
        with suppress(OSError):
            spool.close()
        raise
    with writing(path):
        spool.close()


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove ``folder`` if it is new and still empty when the block fails."""
    new = not os.path.lexists(folder)
    try:
        yield
    except BaseException:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
