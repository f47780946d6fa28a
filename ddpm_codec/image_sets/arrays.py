"""Arrays of images: .npy, .npz, and the batches of CIFAR-10."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_sets.image_set import Pixels


def cause(error: Exception) -> str:
    """Return what another library's error says on one line, or its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def read_array(path: Path) -> Pixels:
    """Return the first uint8 array [N, H, W, 3] of a .npy or .npz file.

    Raises:
        InputError: it is damaged, or has none.
    """
    try:
        # Opened here, since np.load leaves a damaged archive open.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[key] for key in loaded.files]
    except Exception as error:  # damaged arrays and archives raise many kinds
        raise InputError(f"{path}: not a readable array file ({cause(error)})") from error
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


def read_cifar(files: list[Path]) -> Pixels:
    """Read CIFAR-10 batches (python version): rows of 3072 bytes, channel by channel.

    Raises:
        InputError: one is damaged, or holds something else.
    """
    rows: list[Pixels] = []
    for path in files:
        try:
            with path.open("rb") as stream:
                data = _ArrayUnpickler(stream, encoding="bytes").load()[b"data"]
            found = f"{data.dtype} {list(data.shape)}"
        except Exception as error:  # a damaged pickle may raise anything
            raise InputError(f"{path}: not a CIFAR-10 batch ({cause(error)})") from error
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 or not len(data):
            raise InputError(f"{path}: not a CIFAR-10 batch (expected uint8 [N, 3072], found {found})")
        rows.append(data.reshape(-1, 3, 32, 32))
    return np.ascontiguousarray(np.concatenate(rows).transpose(0, 2, 3, 1))
