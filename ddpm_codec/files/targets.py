"""Where ``.ddpm`` files go: names that are refused, folders, and files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from ddpm_codec.atomic import check_target, new_file, reason
from ddpm_codec.codecs.lossless.archive import ArchiveEncoder
from ddpm_codec.errors import DdpmCodecError, InputError, OutputError
from ddpm_codec.image_io import IMAGE_EXTENSIONS


def check_output_name(output: Path) -> None:
    """Refuse the extension of a picture.

    Raises:
        InputError: ``output`` has one.
    """
    if output.suffix.lower() in IMAGE_EXTENSIONS:
        raise InputError(f"{output}: {output.suffix} is an image extension; name the output *.ddpm")


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


def write_spooled(encoder: ArchiveEncoder, path: Path, *, overwrite: bool) -> int:
    """Let the file of an encoder appear at ``path`` and return its bytes.

    Raises:
        InputError: names or metadata do not fit the format.
        OutputExistsError: a file has appeared there meanwhile.
        OutputError: it cannot be written.
    """
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        return encoder.write(file)


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


def progressive_targets(
    inputs: Sequence[Path], files: list[tuple[Path, str]], output: Path, *, overwrite: bool
) -> list[Path]:
    """Return the file that each picture goes to, the folders made.

    Args:
        inputs: what the user named.
        files: the pictures that this means, with their names.
        output: the file of one picture, or a folder.
        overwrite: replace files that are there.

    Raises:
        InputError: ``output`` has the name of a picture.
        OutputExistsError: one is there.
        OutputError: one cannot be written.
    """
    check_output_name(output)
    if len(files) == 1 and not inputs[0].is_dir() and not output.is_dir():
        check_target(output, overwrite=overwrite)
        if output.exists() and files[0][0].samefile(output):
            raise InputError(f"{output}: is the picture itself; name another output")
        return [output]
    if output.suffix == ".ddpm" and not output.is_dir():
        raise InputError(f"{output}: a progressive file holds one picture; name a folder for {len(files)}")
    names = [str(PurePosixPath(name).with_suffix(".ddpm")) for _, name in files]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{name}.ddpm" for _, name in files]
    targets = [output / name for name in names]
    for target in targets:
        if target.parent.is_dir():
            check_target(target, overwrite=overwrite)
    try:
        for folder in dict.fromkeys(target.parent for target in targets):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made a folder ({reason(error)})") from error
    for target in targets:
        check_target(target, overwrite=overwrite)
    return targets
