"""The pictures of a file by name."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.api.arguments import device_name
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.container import (
    CODEC_PROGRESSIVE,
    DEFAULT_MAX_PIXELS,
    Container,
    SectionFile,
    file_codec,
    read_container,
    read_sections,
)
from ddpm_codec.files.source import Source, open_source
from ddpm_codec.image_io import to_image
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, PictureInfo

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import Model


_KEPT_PIXELS = 1 << 24
"""Maximum pixels of the decoded pictures that an archive caches, so that a block need not be decoded again."""


def open_archive(
    source: Source,
    /,
    *,
    model: "ModelName | Model | None" = None,
    device: str = "auto",
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> "Archive":
    """Open a file with any number of pictures, which are decoded on access.

    Args:
        source: see :func:`~ddpm_codec.decode`. A path stays open until :meth:`Archive.close`; a stream is not closed.
        model: see :func:`~ddpm_codec.decode`.
        device: see :func:`~ddpm_codec.decode`.
        threads: see :func:`~ddpm_codec.decode`.
        max_pixels: see :func:`~ddpm_codec.decode`.

    Raises:
        FormatError: the file is damaged outside its blocks.
        InputError: the file cannot be read.
        TypeError: ``source`` is not a path, bytes or a binary stream.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode_archive([("a.png", np.zeros((4, 6), np.uint8))])
        >>> with ddpm_codec.open_archive(data) as archive:
        ...     len(archive), archive["a.png"].shape
        (1, (4, 6))
    """
    return Archive(source, model=model, device=device, threads=threads, max_pixels=max_pixels)


class Archive(Mapping[str, NDArray[Any]]):
    """The pictures of a file, as a mapping from names to arrays; see :func:`~ddpm_codec.open_archive`.

    ``archive["name"]`` decodes only the block that holds the picture; recently decoded pictures are cached. Damage in one
    block does not affect the others. An archive may be used from several threads, but only by one at a time.

    Attributes:
        names: names of the pictures, in order.
        infos: the pictures without pixels, in order: name, mode, size, palette, transparency, metadata.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> archive = ddpm_codec.open_archive(ddpm_codec.encode_archive({"a.png": np.ones((2, 3), np.uint8)}))
        >>> archive.infos[0].size
        (3, 2)
        >>> [(name, int(image.sum())) for name, image in archive.items()]
        [('a.png', 6)]
        >>> archive.pil("a.png").mode
        'L'
    """

    @isolated()
    def __init__(
        self,
        source: Source,
        /,
        *,
        model: "ModelName | Model | None" = None,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._model, self._device, self._threads = model, device_name(device), threads
        self._resources = ExitStack()
        self._closed = False
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        opened = self._resources.enter_context(open_source(source))
        try:
            self._file: SectionFile | Container
            if file_codec(opened) == CODEC_PROGRESSIVE:
                self._file = read_sections(opened, max_pixels=max_pixels)
                self.infos: tuple[PictureInfo, ...] = (self._file.info,)
            else:
                self._file = read_container(opened, max_pixels=max_pixels)
                self.infos = tuple(entry.info for entry in self._file.images)
        except BaseException:
            self.close()
            raise
        self.names = tuple(info.name for info in self.infos)
        self._places = {name: place for place, name in enumerate(self.names)}
        self._decoder: ArchiveDecoder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Two archives are equal where they are the same: a mapping would decode both and compare arrays.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Archive of {len(self)} pictures>"

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.picture(name).samples().copy()

    def pil(self, name: str) -> PIL.Image.Image:
        """Return a picture as a Pillow image, see :func:`~ddpm_codec.to_pil`.

        Raises:
            KeyError: there is no picture with that name.
            DdpmCodecError: see :func:`~ddpm_codec.decode`.
        """
        return to_image(self.picture(name))

    def close(self) -> None:
        """Close the file. Afterwards, no pictures can be decoded."""
        self._closed = True
        self._kept.clear()
        self._resources.close()

    def picture(self, name: str) -> Picture:
        """Return a picture with its description, as the codecs have it.

        Raises:
            KeyError: there is no picture of that name.
            ValueError: the archive is closed.
            DdpmCodecError: as :func:`~ddpm_codec.api.coding.decode`.
        """
        if self._closed:
            raise ValueError("the archive is closed")
        place = self._places[name]
        if place not in self._kept:
            with isolated(self._threads):
                self._keep(place, self._decoded(place))
        self._kept.move_to_end(place)
        return self._kept[place]

    def _decoded(self, place: int) -> dict[int, Picture]:
        if isinstance(self._file, SectionFile):
            reader = ProgressiveReader(self._file, model=self._model, device=self._device)
            return {place: reader.decode(DecodeLimits()).picture}
        if self._decoder is None:
            self._decoder = ArchiveDecoder(self._file, model=self._model, device=self._device)
        return self._decoder.pictures_beside(place)

    def _keep(self, place: int, pictures: dict[int, Picture]) -> None:
        """Cache pictures, the one at ``place`` as the most recent, and drop the oldest beyond the limit."""
        self._kept |= pictures
        self._kept.move_to_end(place)
        pixels = sum(picture.info.pixel_count for picture in self._kept.values())
        while pixels > _KEPT_PIXELS and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            pixels -= forgotten.info.pixel_count
