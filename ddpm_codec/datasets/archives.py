"""The pictures of many ``.ddpm`` files as one map-style data set of PyTorch."""

import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ddpm_codec.api.arguments import device_name
from ddpm_codec.container import DEFAULT_MAX_PIXELS
from ddpm_codec.datasets.files import Sources, read_files
from ddpm_codec.datasets.reading import BlockReader, ReadingOptions
from ddpm_codec.errors import InputError
from ddpm_codec.image_sets.files import rgb_of
from ddpm_codec.isolation import checked_threads
from ddpm_codec.models.registry import ModelName, find_model
from ddpm_codec.picture import Picture, PictureInfo

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import Model

_CACHED_PIXELS: Final = 1 << 25
"""100 MB of RGB a process: 8 blocks of the usual size."""


class Archives(Dataset[Any]):
    """The pictures of ``.ddpm`` files, decoded on access; ``dataset[i]`` is picture i over all files, in order.

    Making it reads heads, tables and block headers only. An access decodes the block that holds the picture; the blocks used
    last are kept. Order therefore decides the speed: see :class:`BlockShuffle` and, for several workers,
    :class:`BlockBatches`. Every process opens the files for itself, so workers may start by spawn, forkserver or fork, and a
    data set may be pickled.

    Args:
        sources: paths of files, folders (their ``*.ddpm``, sorted, without sub-folders) and patterns (``"train-*.ddpm"``,
            ``**`` for sub-folders; sorted); one or several. Archives, single pictures and progressive files may be mixed.
        model: the model that they were coded with, a path or an open model, which every process opens for itself; None to
            look for it among the shipped models.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``. The CPU, because the GPU is the training's.
        transform: function of a picture's array; the item is what it returns.
        target: function of a picture's :class:`~ddpm_codec.PictureInfo`, such as its label from its name; items are then
            pairs (picture, target).
        rgb: give every picture as uint8 [H, W, 3]: grey in three channels, palettes expanded, alpha dropped. Otherwise, as it
            is stored.
        cached_pixels: most pixels that each process keeps of decoded blocks; the last block is kept even if it has
            more, and blocks of one picture give way first.
        threads: CPU threads of decoding; None: one in a worker of a ``DataLoader``, elsewhere as many as there are cores.
        max_pixels: refuse files that declare more pixels.

    Attributes:
        files: the files, in order, as absolute paths.
        infos: the pictures without pixels, in order: name, mode, size, metadata.
        names: names of the pictures, in order; unique within a file.
        blocks: for each picture the number of the block that holds it, over all files, int64 [pictures]. The blocks of a
            large picture that was cut count as one.

    Raises:
        FormatError: a file is damaged outside its blocks.
        InputError: a file cannot be read or is given twice, there are none, or an option is out of range.
        ModelError: the model of a file is not here.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import ddpm_codec
        >>> from ddpm_codec.datasets import Archives
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("cats", "dogs"):
        ...     pictures = {f"{name}/{index}.png": np.full((4, 6, 3), index, np.uint8) for index in range(3)}
        ...     _ = Path(folder.name, f"{name}.ddpm").write_bytes(ddpm_codec.encode_archive(pictures, model="none"))
        >>> dataset = Archives(folder.name, target=lambda info: int(info.name.startswith("dogs/")))
        >>> len(dataset), dataset.names[4], dataset.blocks.tolist()
        (6, 'dogs/1.png', [0, 0, 0, 1, 1, 1])
        >>> picture, label = dataset[4]
        >>> picture.shape, int(picture.max()), label
        ((4, 6, 3), 1, 1)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        sources: Sources,
        *,
        model: "ModelName | Model | None" = None,
        device: str = "cpu",
        transform: Callable[[NDArray[Any]], Any] | None = None,
        target: Callable[[PictureInfo], Any] | None = None,
        rgb: bool = False,
        cached_pixels: int = _CACHED_PIXELS,
        threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        if isinstance(cached_pixels, bool) or not isinstance(cached_pixels, int) or cached_pixels < 0:
            raise InputError(f"cached_pixels = {cached_pixels!r}: must be an integer, 0 or more")
        path = _model_path(model)
        self.transform, self.target = transform, target
        self._rgb = rgb
        self._options = ReadingOptions(path, device_name(device), checked_threads(threads), cached_pixels, max_pixels)
        self._files = tuple(read_files(sources, path, max_pixels))
        self.files: tuple[Path, ...] = tuple(file.path for file in self._files)
        self.infos: tuple[PictureInfo, ...] = tuple(info for file in self._files for info in file.infos)
        self.names = tuple(info.name for info in self.infos)
        self._starts = np.cumsum([0, *(len(file.infos) for file in self._files)])
        groups = np.cumsum([0, *(file.groups.max() + 1 for file in self._files)])
        self.blocks: NDArray[np.int64] = np.concatenate(
            [file.groups + start for file, start in zip(self._files, groups[:-1], strict=True)]
        )
        self._reader: BlockReader | None = None

    def __repr__(self) -> str:
        return f"<Archives of {len(self)} pictures in {len(self.files)} files>"

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: SupportsIndex) -> Any:  # noqa: ANN401 - what transform and target return
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"index {operator.index(index)} of a data set of {len(self)} pictures")
        array = self._array(place)
        item = array if self.transform is None else self.transform(array)
        return item if self.target is None else (item, self.target(self.infos[place]))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}

    @property
    def cached_pixels(self) -> int:
        """Most pixels that each process keeps."""
        return self._options.cached_pixels

    @property
    def decoded_blocks(self) -> int:
        """Blocks that this process has decoded so far; an epoch in a good order decodes each once."""
        return 0 if self._reader is None or not self._reader.usable else self._reader.decoded_blocks

    def picture(self, index: SupportsIndex) -> Picture:
        """Return a picture as the codecs have it, with its description.

        Raises:
            DdpmCodecError: it cannot be decoded: the file is damaged or has changed, or its model is not here. One line names
                the file and the picture.
        """
        if self._reader is None or not self._reader.usable:
            self._reader = BlockReader(self._files, self._options)
        place = operator.index(index)
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._reader.picture(number, place - int(self._starts[number]))

    def _array(self, place: int) -> NDArray[Any]:
        picture = self.picture(place)
        if not self._rgb:
            return picture.samples().copy()
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return rgb_of(picture, f"{self._files[number].label}: picture {picture.name}").copy()


def _model_path(model: "ModelName | Model | None") -> Path | None:
    """Return what another process can open a model by."""
    if model is None:
        return None
    if isinstance(model, str | os.PathLike):
        return find_model(model).absolute()
    from ddpm_codec.codecs.session import Model

    if not isinstance(model, Model):
        raise TypeError(f"a model is a name, a path or an open model, not {type(model).__name__}")
    return model.path.absolute()
