"""Where decoded pictures go: one file, or a folder that appears whole or not at all."""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ddpm_codec.atomic import check_target, publish, reason
from ddpm_codec.errors import DdpmCodecError, InputError, OutputError, OutputExistsError
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, PictureInfo, default_extension, format_for, write_picture

EXTENSIONS = {"png": ".png", "webp": ".webp", "tiff": ".tiff", "ppm": ".ppm", "bmp": ".bmp"}
MAX_NAME_BYTES = 240
"""Of one part of a path; file systems end at 255."""


def plan_names(infos: list[PictureInfo], extension: str | None) -> list[PurePosixPath]:
    """Return where each picture of an archive goes below the output folder.

    A picture keeps its name, with the extension of a lossless format; where that name is taken, by another picture
    (whatever the case of its letters) or by a folder, the old extension stays in front, then a number follows.

    Args:
        infos: the image table.
        extension: the same for all; None: the first of PNG, TIFF and NPY that holds each.
    """
    folders = {str(parent).casefold() for info in infos for parent in PurePosixPath(info.name).parents}
    taken: set[str] = set()
    names = []
    for info in infos:
        original = PurePosixPath(info.name)
        suffix = extension or default_extension(info)
        number = 0
        name = original.with_name(_shortened(original.stem, suffix))
        while str(name).casefold() in taken or str(name).casefold() in folders:
            ending = suffix if number == 0 else f"-{number}{suffix}"
            name = original.with_name(_shortened(original.name, ending))
            number += 1
        taken.add(str(name).casefold())
        names.append(name)
    return names


def _shortened(stem: str, ending: str) -> str:
    while len(os.fsencode(stem + ending)) > MAX_NAME_BYTES:
        stem = stem[:-1]
    return stem + ending


class PictureSink:
    """Writes the pictures of one file; used in a ``with`` block, which leaves nothing behind without :meth:`commit`.

    Everything that can be refused is refused on entering, before anything is decoded.

    Args:
        output: a picture file, or a folder.
        infos: the image table.
        overwrite: replace files that are there.
        output_format: format of the pictures within a folder, or what the extension of a picture has to name; None: the
            first of PNG and TIFF that holds each.

    Raises:
        InputError: ``output`` is a file and there are several pictures, or of another format than ``output_format``, or
            a format cannot hold a picture.
        OutputExistsError: a file is there.
        OutputError: the place cannot be written.
    """

    def __init__(self, output: Path, infos: list[PictureInfo], *, overwrite: bool, output_format: str | None) -> None:
        self._output, self._infos, self._overwrite = output, infos, overwrite
        self._format = output_format
        self.single = len(infos) == 1 and bool(output.suffix) and not output.is_dir()
        if self.single:
            self._names = [PurePosixPath(output.name)]
        else:
            self._names = plan_names(infos, EXTENSIONS[output_format] if output_format else None)
        self._staging: Path | None = None
        self._written: list[PurePosixPath] = []

    def __enter__(self) -> Self:
        parent = self._check_file() if self.single else self._check_folder()
        staging = parent / f".ddpm-{secrets.token_hex(8)}.tmp"
        try:
            staging.mkdir()
        except OSError as error:
            raise OutputError(f"{self._output}: cannot be written ({reason(error)})") from error
        self._staging = staging
        return self

    def _check_file(self) -> Path:
        """Check a single output; return the folder that its temporary files belong in."""
        kind = format_for(self._infos[0], self._output)
        if self._format not in (None, kind):
            raise InputError(f"{self._output}: is named as {kind}, but the format asked for is {self._format}")
        check_target(self._output, overwrite=self._overwrite)
        # A link is followed, so that its target is replaced and not the link.
        return Path(os.path.realpath(self._output)).parent if self._overwrite else self._output.parent

    def _check_folder(self) -> Path:
        """Check an output folder and every place in it; return the folder that its temporary files belong in."""
        for info, name in zip(self._infos, self._names, strict=True):
            format_for(info, self._output / name)
        if self._output.is_dir():
            for name in self._names:
                self._check_place(name)
            return self._output
        if os.path.lexists(self._output):
            raise InputError(f"{self._output}: is a file, but the pictures need a folder")
        if len(self._infos) > 1 and self._output.suffix.lower() in IMAGE_EXTENSIONS:
            raise InputError(f"{self._output}: names one picture, but there are {len(self._infos)}; name a folder")
        if not self._output.parent.is_dir():
            raise OutputError(f"{self._output}: the folder {self._output.parent} does not exist")
        return self._output.parent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)

    def write(self, index: int, picture: Picture) -> list[str]:
        """Write picture ``index``; return a line for each piece of metadata that its format does not hold."""
        if self._staging is None:
            raise ValueError("the sink is used outside its with block")
        name = self._names[index]
        target = self._staging / "new" / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            notes = write_picture(picture, target)
        except DdpmCodecError as error:
            raise type(error)(self._named(str(error))) from error
        except OSError as error:
            raise OutputError(self._named(f"{target}: cannot be written ({reason(error)})")) from error
        self._written.append(name)
        return [self._named(line) for line in notes]

    def commit(self) -> None:
        """Let the picture or the folder appear, or move the pictures into the folder that is there: all or none.

        Raises:
            OutputExistsError: a picture of that name has appeared meanwhile.
            OutputError: the folder cannot be written.
        """
        if self._staging is None or not self._written:
            return
        try:
            if self.single:
                publish(self._staging / "new" / self._names[0], self._output, overwrite=self._overwrite)
            elif self._output.is_dir():
                self._move_into_folder(self._staging)
            else:
                (self._staging / "new").rename(self._output)
        except DdpmCodecError:
            raise
        except OSError as error:
            raise OutputError(f"{self._output}: cannot be written ({reason(error)})") from error

    def _move_into_folder(self, staging: Path) -> None:
        for name in self._written:
            self._check_place(name)
        begun: list[PurePosixPath] = []
        made: list[Path] = []
        try:
            for name in self._written:
                target, old = self._output / name, staging / "old" / name
                made += reversed([folder for folder in target.parents if not folder.exists()])
                target.parent.mkdir(parents=True, exist_ok=True)
                begun.append(name)
                if os.path.lexists(target):
                    old.parent.mkdir(parents=True, exist_ok=True)
                    target.rename(old)
                (staging / "new" / name).rename(target)
        except BaseException:  # an interruption too
            for name in begun:
                self._move_back(staging, name)
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()
            raise

    def _move_back(self, staging: Path, name: PurePosixPath) -> None:
        """Undo what has been done of the move of one picture."""
        if not os.path.lexists(staging / "new" / name):
            (self._output / name).unlink(missing_ok=True)
        if os.path.lexists(staging / "old" / name):
            (staging / "old" / name).rename(self._output / name)

    def _check_place(self, name: PurePosixPath) -> None:
        """Check that a picture can be put at ``name`` in the folder that is there."""
        target = self._output / name
        if target.is_dir():
            raise OutputError(f"{target}: is a folder")
        if os.path.lexists(target) and not self._overwrite:
            raise OutputExistsError(f"{target}: exists already (--overwrite replaces it)")
        for parent in name.parents:
            place = self._output / parent
            if os.path.lexists(place) and not place.is_dir():
                raise OutputError(f"{place}: is a file, where {name} needs a folder")

    def _named(self, line: str) -> str:
        """Return a message with the place that the user knows."""
        new = f"{self._staging}{os.sep}new"
        return line.replace(f"{new}{os.sep}{self._names[0]}" if self.single else new, str(self._output))
