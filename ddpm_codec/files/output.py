"""Writes decoded pictures to one file, or to a folder that appears complete or not at all."""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ddpm_codec.atomic import check_target, keep_permissions, publish, reason
from ddpm_codec.errors import DdpmCodecError, InputError, OutputError, OutputExistsError
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, PictureInfo, default_extension, format_for, write_picture
from ddpm_codec.image_sets import listed

EXTENSIONS = {"png": ".png", "webp": ".webp", "tiff": ".tiff", "ppm": ".ppm", "bmp": ".bmp"}
MAX_NAME_BYTES = 240
"""Maximum bytes of a path component; file systems allow 255."""


def plan_names(infos: list[PictureInfo], extension: str | None) -> list[PurePosixPath]:
    """Return the path of each picture of an archive below the output folder.

    A picture keeps its name, with the extension of a lossless format. If that name is taken by another picture (ignoring
    case) or by a folder, the old extension is kept before the new one, then a number is added.

    Args:
        infos: the image table.
        extension: extension of all pictures; None: the first of PNG, TIFF and NPY that supports each picture.

    Raises:
        OutputError: a name has characters that file names do not have under the locale of the process.
    """
    folders = {str(parent).casefold() for info in infos for parent in PurePosixPath(info.name).parents}
    planned: dict[int, PurePosixPath] = {}
    taken: set[str] = set()
    # Names that need not change come first, so that no picture gets the name of another.
    suffixes = [extension or default_extension(info) for info in infos]
    changed = [not info.name.endswith(suffix) for info, suffix in zip(infos, suffixes, strict=True)]
    for index in sorted(range(len(infos)), key=changed.__getitem__):
        info, suffix = infos[index], suffixes[index]
        original = PurePosixPath(info.name)
        number = 0
        name = original.with_name(_shortened(original.stem, suffix))
        while str(name).casefold() in taken or str(name).casefold() in folders:
            ending = suffix if number == 0 else f"-{number}{suffix}"
            name = original.with_name(_shortened(original.name, ending))
            number += 1
        taken.add(str(name).casefold())
        planned[index] = name
    return [planned[index] for index in range(len(infos))]


def _shortened(stem: str, ending: str) -> str:
    try:
        while len(os.fsencode(stem + ending)) > MAX_NAME_BYTES:
            stem = stem[:-1]
    except UnicodeEncodeError as error:
        raise OutputError(f"{stem + ending}: no file can have this name under a locale of {error.encoding}") from None
    return stem + ending


class PictureSink:
    """Writes the pictures of one file. A context manager; without :meth:`commit` it leaves no files behind.

    Entering it checks everything that can be checked before decoding.

    Args:
        output: a picture file, or a folder.
        infos: the image table.
        overwrite: replace existing files.
        output_format: format of pictures in a folder, which the extension of a single picture must match; None: the
            first of PNG and TIFF that supports each picture.

    Raises:
        InputError: ``output`` is a file but there are several pictures, its extension does not match ``output_format``,
            or a format does not support a picture.
        OutputExistsError: an output exists.
        OutputError: the output cannot be written, or a name is none of a file here.
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
        """Check a single output; return the folder for its temporary files."""
        kind = format_for(self._infos[0], self._output)
        if self._format not in (None, kind):
            raise InputError(f"{self._output}: has the extension of {kind}, but --format is {self._format}")
        check_target(self._output, overwrite=self._overwrite)
        # A symbolic link is followed, so that its target is replaced rather than the link.
        return Path(os.path.realpath(self._output)).parent if self._overwrite else self._output.parent

    def _check_folder(self) -> Path:
        """Check an output folder and every path in it; return the folder for its temporary files."""
        obstacles = []
        for info, name in zip(self._infos, self._names, strict=True):
            try:
                format_for(info, self._output / name)
            except InputError as error:
                obstacles.append(str(error))
        if obstacles:
            count = f"{len(obstacles)} of {len(self._infos)} pictures: " if len(obstacles) > 1 else ""
            raise InputError(count + listed(obstacles, "; "))
        if self._output.is_dir():
            for name in self._names:
                self._check_place(name)
            return self._output
        if os.path.lexists(self._output):
            raise InputError(f"{self._output}: is a file; the output must be a folder")
        if len(self._infos) > 1 and self._output.suffix.lower() in IMAGE_EXTENSIONS:
            raise InputError(
                f"{self._output}: is one picture file; with {len(self._infos)} pictures, the output must be a folder"
            )
        if not self._output.parent.is_dir():
            raise OutputError(f"{self._output}: the folder {self._output.parent} does not exist")
        return self._output.parent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)

    def write(self, index: int, picture: Picture) -> list[str]:
        """Write picture ``index``; return a line for each kind of metadata its format does not support."""
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

    @property
    def written(self) -> list[tuple[str, str]]:
        """What has been written: the picture's name in the file, and where it goes."""
        places = {name: str(self._output if self.single else self._output / name) for name in self._written}
        return [
            (info.name, places[name]) for info, name in zip(self._infos, self._names, strict=True) if name in places
        ]

    def commit(self) -> None:
        """Publish the picture or the new folder, or move the pictures into an existing folder, all or none.

        Raises:
            OutputExistsError: a file of that name has appeared in the meantime.
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
                    keep_permissions(staging / "new" / name, target)
                    old.parent.mkdir(parents=True, exist_ok=True)
                    target.rename(old)
                (staging / "new" / name).rename(target)
        except BaseException:  # includes KeyboardInterrupt
            for name in begun:
                self._move_back(staging, name)
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()
            raise

    def _move_back(self, staging: Path, name: PurePosixPath) -> None:
        """Undo the move of one picture."""
        if not os.path.lexists(staging / "new" / name):
            (self._output / name).unlink(missing_ok=True)
        if os.path.lexists(staging / "old" / name):
            (staging / "old" / name).rename(self._output / name)

    def _check_place(self, name: PurePosixPath) -> None:
        """Check that a picture can be written to ``name`` in the existing folder."""
        target = self._output / name
        if target.is_dir():
            raise OutputError(f"{target}: is a folder")
        if os.path.lexists(target) and not self._overwrite:
            raise OutputExistsError(f"{target}: already exists (use --overwrite to replace it)")
        for parent in name.parents:
            place = self._output / parent
            if os.path.lexists(place) and not place.is_dir():
                raise OutputError(f"{place}: is a file, but {name} needs a folder")

    def _named(self, line: str) -> str:
        """Return a message with the temporary path replaced by the final one."""
        new = f"{self._staging}{os.sep}new"
        return line.replace(f"{new}{os.sep}{self._names[0]}" if self.single else new, str(self._output))
