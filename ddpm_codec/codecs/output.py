"""Where decoded pictures go: one file, or a folder that appears whole or not at all."""

import shutil
import tempfile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ddpm_codec.atomic import check_target, reason
from ddpm_codec.errors import InputError, OutputError, OutputExistsError
from ddpm_codec.image_io import Picture, PictureInfo, default_extension, write_picture

EXTENSIONS = {"png": ".png", "webp": ".webp", "tiff": ".tiff", "ppm": ".ppm", "bmp": ".bmp"}


class PictureSink:
    """Writes the pictures of one file; used in a ``with`` block, which leaves nothing behind without :meth:`commit`.

    Args:
        output: a picture file, or a folder.
        infos: the image table.
        overwrite: replace files that are there.
        output_format: format of the pictures within a folder; None: the first of PNG and TIFF that holds each.

    Raises:
        InputError: ``output`` is a file and there are several pictures.
        OutputExistsError: ``output`` is a file that is there.
    """

    def __init__(self, output: Path, infos: list[PictureInfo], *, overwrite: bool, output_format: str | None) -> None:
        self._output, self._infos, self._overwrite = output, infos, overwrite
        self._extension = EXTENSIONS[output_format] if output_format else None
        self.single = len(infos) == 1 and bool(output.suffix) and not output.is_dir()
        self._staging: Path | None = None
        self._written: list[PurePosixPath] = []
        self._taken: set[str] = set()

    def __enter__(self) -> Self:
        if self.single:
            check_target(self._output, overwrite=self._overwrite)
            return self
        if self._output.exists() and not self._output.is_dir():
            raise InputError(f"{self._output}: is a file, but the pictures need a folder")
        try:
            parent = self._output if self._output.is_dir() else self._output.parent
            if not parent.is_dir():
                raise OutputError(f"{self._output}: the folder {parent} does not exist")
            self._staging = Path(tempfile.mkdtemp(prefix=".ddpm-", suffix=".tmp", dir=parent))
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self._output}: cannot be written ({reason(error)})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)

    def write(self, index: int, picture: Picture) -> list[str]:
        """Write picture ``index``; return a line for each piece of metadata that its format does not hold."""
        if self.single:
            return write_picture(picture, self._output, overwrite=self._overwrite)
        if self._staging is None:
            raise ValueError("the sink is used outside its with block")
        name = self._name(picture)
        target = self._staging / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self._output / name}: cannot be written ({reason(error)})") from error
        self._written.append(name)
        staged = str(self._staging)
        return [line.replace(staged, str(self._output)) for line in write_picture(picture, target)]

    def commit(self) -> None:
        """Let the folder appear, or move the pictures into the one that is there.

        Raises:
            OutputExistsError: a picture of that name is there.
            OutputError: the folder cannot be written.
        """
        if self._staging is None:
            return
        try:
            if not self._output.exists():
                self._staging.chmod(0o777 & ~_umask())
                self._staging.rename(self._output)
                self._staging = None
                return
            self._move_into_folder(self._staging)
        except FileExistsError:
            raise
        except OSError as error:
            raise OutputError(f"{self._output}: cannot be written ({reason(error)})") from error

    def _move_into_folder(self, staging: Path) -> None:
        for name in self._written:
            target = self._output / name
            if target.exists() and not self._overwrite:
                raise OutputExistsError(f"{target}: exists already (--overwrite replaces it)")
        for name in self._written:
            target = self._output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)

    def _name(self, picture: Picture) -> PurePosixPath:
        """Return the name with the extension of a lossless format; equal names keep their old one in front of it."""
        extension = self._extension or default_extension(picture)
        original = PurePosixPath(picture.name)
        name = original.with_name(original.stem + extension)
        if str(name).casefold() in self._taken:
            name = original.with_name(original.name + extension)
        number = 1
        while str(name).casefold() in self._taken:
            name = original.with_name(f"{original.name}-{number}{extension}")
            number += 1
        self._taken.add(str(name).casefold())
        return name


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
