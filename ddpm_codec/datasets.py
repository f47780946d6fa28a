"""Image sets for training and for bounds: folders, zips, arrays, the CIFAR-10 folder, sheets.

Every kind becomes an :class:`ImageSet`: a sequence of [H, W, 3] uint8 arrays with names. Folders are decoded lazily and
cached up to a limit.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError

Pixels = NDArray[np.uint8]
EXTENSIONS = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".gif"}
CACHE_BYTES = 4 << 30


class ImageSet(Sequence[Pixels]):
    """Named RGB images behind one loader, with a bounded cache."""

    def __init__(self, names: list[str], load: Callable[[int], Pixels], cache_bytes: int = CACHE_BYTES) -> None:
        self.names = names
        self._load = load
        self._cache: dict[int, Pixels] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        """Return image ``index`` as [H, W, 3] uint8 (slices give a list)."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        if position in self._cache:
            return self._cache[position]
        pixels = self._load(position)
        if pixels.nbytes <= self._room:
            self._cache[position] = pixels
            self._room -= pixels.nbytes
        return pixels

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Return the images at ``indices`` as a set of its own (same loader and cache)."""
        chosen = list(indices)
        return ImageSet([self.names[i] for i in chosen], lambda i: self[chosen[i]], cache_bytes=0)


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Return the images of all ``sets``, one set after the other (each keeps its own loader and cache)."""
    if len(sets) == 1:
        return sets[0]
    places = [(images, index) for images in sets for index in range(len(images))]

    def load(index: int) -> Pixels:
        images, place = places[index]
        return images[place]

    return ImageSet([images.names[index] for images, index in places], load, cache_bytes=0)


def from_array(images: Pixels, prefix: str = "") -> ImageSet:
    """Wrap uint8 images [N, H, W, 3] that are in memory already."""
    names = [f"{prefix}{i:06d}" for i in range(len(images))]

    def load(index: int) -> Pixels:
        image: Pixels = images[index]
        return image

    return ImageSet(names, load, cache_bytes=0)


def open_images(data: str, *, test: bool = False) -> ImageSet:
    """Open DATA of any kind.

    Args:
        data: an image, or a folder or .zip of images; a .npz or .npy of uint8 [N, H, W, 3]; a CIFAR-10 folder (python
            version; its training batches) or one of its batches; or ``sheet:FILE:WxH``, one large picture (or a folder or
            .zip of such) of equal cells.
        test: of a CIFAR-10 folder take the test batch.

    Raises:
        InputError: naming what cannot be read. Images of folders and zips are decoded, and may be refused, when they
            are first asked for.
    """
    if data.startswith("sheet:"):
        return _open_sheets(data)
    path = _existing(data)
    batches = sorted(path.glob("data_batch_*")) if path.is_dir() else []
    if batches and test:
        batches = [_existing(str(path / "test_batch"))]
    if batches or (path.is_file() and path.name.startswith(("data_batch_", "test_batch"))):
        return from_array(_read_cifar(batches or [path]))
    if path.suffix.lower() in {".npz", ".npy"} and path.is_file():
        return from_array(_read_array(path))
    return _open_pictures(path)


def _existing(data: str) -> Path:
    # Not Path.exists, which raises where the name is too long or may not be looked at.
    if not data or not os.path.exists(data):
        raise InputError(f"{data or 'DATA'}: no such file or folder")
    return Path(data)


def _decode(source: Path | io.BytesIO, name: str) -> Pixels:
    try:
        with Image.open(source) as image:
            mode, pixels = image.mode, np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged picture may raise anything
        raise InputError(f"{name}: not a readable image ({_cause(error)})") from error
    if mode.startswith(("I", "F")):
        raise InputError(f"{name}: {mode} pixels have more than 8 bits; models take 8-bit pixels")
    return pixels


def _cause(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _open_pictures(path: Path) -> ImageSet:
    """Open a folder, a zip or a single image."""
    if path.suffix.lower() == ".zip" and path.is_file():
        return _open_zip(path)
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    files = [file for file in files if _is_picture(file.name) and file.is_file()]
    names = [file.name if path.is_file() else file.relative_to(path).as_posix() for file in files]
    return _pictures(path, names, lambda index: _decode(files[index], str(files[index])))


def _open_zip(path: Path) -> ImageSet:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip ({_cause(error)})") from error
    names = sorted(name for name in archive.namelist() if _is_picture(name))

    def load(index: int) -> Pixels:
        try:
            content = archive.read(names[index])
        except Exception as error:  # damaged, encrypted or packed in a way that this Python lacks
            raise InputError(f"{path}:{names[index]}: not readable ({_cause(error)})") from error
        return _decode(io.BytesIO(content), f"{path}:{names[index]}")

    return _pictures(path, names, load)


def _is_picture(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in EXTENSIONS


def _pictures(path: Path, names: list[str], load: Callable[[int], Pixels]) -> ImageSet:
    if not names:
        raise InputError(f"{path}: contains no images ({', '.join(sorted(EXTENSIONS))})")
    return ImageSet(names, load)


def _read_array(path: Path) -> Pixels:
    try:
        # Opened here, since np.load leaves a damaged archive open.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[key] for key in loaded.files]
    except Exception as error:  # damaged arrays and archives raise many kinds
        raise InputError(f"{path}: not a readable array file ({_cause(error)})") from error
    images = [a for a in arrays if a.dtype == np.uint8 and a.ndim == 4 and a.shape[3] == 3 and a.size]
    if not images:
        found = ", ".join(f"{a.dtype} {list(a.shape)}" for a in arrays) or "nothing"
        raise InputError(f"{path}: expected a uint8 array of shape [N, H, W, 3], found {found}")
    return images[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle dictionaries of numpy arrays and nothing else: any other global is refused."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as the base class has it
        """Return an allowed global."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")
        return super().find_class(module, name)


def _read_cifar(files: list[Path]) -> Pixels:
    """Read CIFAR-10 batches (python version): rows of 3072 bytes, channel by channel."""
    rows: list[Pixels] = []
    for path in files:
        try:
            with path.open("rb") as stream:
                data = _ArrayUnpickler(stream, encoding="bytes").load()[b"data"]
            found = f"{data.dtype} {list(data.shape)}"
        except Exception as error:  # a damaged pickle may raise anything
            raise InputError(f"{path}: not a CIFAR-10 batch ({_cause(error)})") from error
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 or not len(data):
            raise InputError(f"{path}: not a CIFAR-10 batch (expected uint8 [N, 3072], found {found})")
        rows.append(data.reshape(-1, 3, 32, 32))
    return np.ascontiguousarray(np.concatenate(rows).transpose(0, 2, 3, 1))


def _open_sheets(data: str) -> ImageSet:
    file, _, cell = data.removeprefix("sheet:").rpartition(":")
    try:
        width, height = (int(side) for side in cell.split("x"))
    except ValueError as error:
        raise InputError(f"{data}: expected sheet:FILE:WIDTHxHEIGHT, such as sheet:cells.png:32x32") from error
    if width < 1 or height < 1:
        raise InputError(f"{data}: cells need at least one pixel")
    pages = _open_pictures(_existing(file))
    return from_array(
        np.concatenate([_cut(pages[index], name, width, height) for index, name in enumerate(pages.names)])
    )


def _cut(sheet: Pixels, name: str, width: int, height: int) -> Pixels:
    """Cut [H, W, 3] into cells, row by row: [N, height, width, 3]."""
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    if rows * height != sheet.shape[0] or columns * width != sheet.shape[1]:
        raise InputError(f"{name}: {sheet.shape[1]}x{sheet.shape[0]} is not a grid of {width}x{height} cells")
    cells = sheet.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(cells.reshape(-1, height, width, 3))
