"""Image sets for training and for bounds: folders, zips, arrays, the CIFAR-10 folder, sheets.

Every kind becomes an :class:`ImageSet`: a sequence of [H, W, 3] uint8 arrays with names. Folders decode lazily and keep
what fits into a cache.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

    def __getitem__(self, index: Any) -> Any:
        """Return image ``index`` as [H, W, 3] uint8 (slices give a list)."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index in self._cache:
            return self._cache[index]
        pixels = self._load(index)
        if pixels.nbytes <= self._room:
            self._cache[index] = pixels
            self._room -= pixels.nbytes
        return pixels

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Return the images at ``indices`` as a set of its own (same loader and cache)."""
        chosen = list(indices)
        return ImageSet([self.names[i] for i in chosen], lambda i: self[chosen[i]], cache_bytes=0)


def from_array(images: Pixels, prefix: str = "") -> ImageSet:
    """Wrap uint8 images [N, H, W, 3] that are in memory already."""
    names = [f"{prefix}{i:06d}" for i in range(len(images))]
    return ImageSet(names, lambda i: images[i], cache_bytes=0)


def open_images(data: str) -> ImageSet:
    """Open DATA of any kind.

    Args:
        data: a folder or .zip of images; a .npz or .npy of uint8 [N, H, W, 3]; a CIFAR-10 folder (python version); or
            ``sheet:FILE:WxH``, one large picture (or a folder or .zip of such) of equal cells.

    Raises:
        InputError: naming what cannot be read.
    """
    if data.startswith("sheet:"):
        return _open_sheets(data)
    path = Path(data)
    if not data or not path.exists():
        raise InputError(f"{data or 'DATA'}: no such file or folder")
    if path.suffix in {".npz", ".npy"}:
        return from_array(_read_array(path))
    if path.is_dir() and any(path.glob("data_batch_*")):
        return from_array(_read_cifar(sorted(path.glob("data_batch_*"))))
    if path.name.startswith(("data_batch_", "test_batch")) and path.is_file():
        return from_array(_read_cifar([path]))
    return _open_folder(path)


def _decode(source: Path | io.BytesIO, name: str) -> Pixels:
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: not a readable image ({error})") from error


def _open_folder(path: Path) -> ImageSet:
    """Open a folder, a zip or a single image."""
    if path.suffix == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a readable zip ({error})") from error
        names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in EXTENSIONS)
        load = lambda i: _decode(io.BytesIO(archive.read(names[i])), f"{path}:{names[i]}")  # noqa: E731
    else:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        files = [f for f in files if f.suffix.lower() in EXTENSIONS and not f.name.startswith(".")]
        names = [f.name if path.is_file() else f.relative_to(path).as_posix() for f in files]
        load = lambda i: _decode(files[i], str(files[i]))  # noqa: E731
    if not names:
        raise InputError(f"{path}: holds no images ({', '.join(sorted(EXTENSIONS))})")
    return ImageSet(names, load)


def _read_array(path: Path) -> Pixels:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[key] for key in loaded.files]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: not a readable array file ({error})") from error
    images = [a for a in arrays if a.dtype == np.uint8 and a.ndim == 4 and a.shape[3] == 3]
    if not images or not all(len(a) for a in images):
        raise InputError(f"{path}: needs a uint8 array of shape [N, H, W, 3]")
    return images[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle dictionaries of numpy arrays and nothing else: any other global is refused."""

    _ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed global."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")
        return super().find_class(module, name)


def _read_cifar(files: list[Path]) -> Pixels:
    """Read CIFAR-10 batches (python version): rows of 3072 bytes, channel by channel."""
    rows = []
    for path in files:
        try:
            with path.open("rb") as stream:
                batch = _ArrayUnpickler(stream, encoding="bytes").load()
            rows.append(np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
        except Exception as error:  # a damaged pickle may raise anything
            raise InputError(f"{path}: not a CIFAR-10 batch ({error})") from error
    return np.ascontiguousarray(np.concatenate(rows).transpose(0, 2, 3, 1))


def _open_sheets(data: str) -> ImageSet:
    try:
        _, file, cell = data.rsplit(":", 2) if data.count(":") > 2 else data.split(":")
        file = data[len("sheet:") : -len(cell) - 1]
        width, height = (int(side) for side in cell.split("x"))
    except ValueError as error:
        raise InputError(f"{data}: write sheet:FILE:WIDTHxHEIGHT, as in sheet:cells.png:32x32") from error
    if width < 1 or height < 1:
        raise InputError(f"{data}: cells need at least one pixel")
    if not Path(file).exists():
        raise InputError(f"{file}: no such file or folder")
    return from_array(np.concatenate([_cut(page, name, width, height) for name, page in _pages(Path(file))]))


def _pages(path: Path) -> list[tuple[str, Pixels]]:
    pages = _open_folder(path)
    return [(name, pages[i]) for i, name in enumerate(pages.names)]


def _cut(sheet: Pixels, name: str, width: int, height: int) -> Pixels:
    """Cut [H, W, 3] into cells, row by row: [N, height, width, 3]."""
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    if rows * height != sheet.shape[0] or columns * width != sheet.shape[1]:
        raise InputError(f"{name}: {sheet.shape[1]}x{sheet.shape[0]} is not a grid of {width}x{height} cells")
    cells = sheet.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(cells.reshape(-1, height, width, 3))


class CropSampler:
    """Random crops and flips, each batch a function of (seed, step) alone, so that a resumed run sees the same data."""

    def __init__(self, images: ImageSet, crop: int, *, flip: bool, seed: int) -> None:
        self._images, self._crop, self._flip, self._seed = images, crop, flip, seed

    def batch(self, step: int, count: int, part: slice) -> NDArray[np.uint8]:
        """Return the images ``part`` of the batch of ``count`` at ``step``, [n, 3, crop, crop] uint8.

        Raises:
            InputError: an image smaller than the crop.
        """
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.integers(len(self._images), size=count)[part]
        places = rng.random((count, 3))[part]
        return np.stack([self._cut(int(i), place) for i, place in zip(chosen, places, strict=True)])

    def _cut(self, index: int, place: NDArray[np.float64]) -> Pixels:
        image, crop = self._images[index], self._crop
        if min(image.shape[:2]) < crop:
            raise InputError(
                f"{self._images.names[index]}: {image.shape[1]}x{image.shape[0]} is smaller than the crop of {crop}"
            )
        top = int(place[0] * (image.shape[0] - crop + 1))
        left = int(place[1] * (image.shape[1] - crop + 1))
        cut = image[top : top + crop, left : left + crop]
        if self._flip and place[2] < 0.5:
            cut = cut[:, ::-1]
        return np.ascontiguousarray(cut.transpose(2, 0, 1))
