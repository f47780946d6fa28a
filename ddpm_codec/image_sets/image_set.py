"""A sequence of RGB images with names, decoded when they are asked for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import Untaken

Pixels = NDArray[np.uint8]
CACHE_BYTES = 4 << 30


class Opened(NamedTuple):
    """An image as models take it.

    Attributes:
        pixels: [H, W, 3] uint8.
        changed: what of its file is lost or made up on the way there, such as ``alpha dropped``; empty: nothing.
    """

    pixels: Pixels
    changed: str = ""


class Header(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
        size: (width, height) in pixels.
        changed: see :class:`Opened`; may be empty where only decoding shows it.
    """

    size: tuple[int, int]
    changed: str = ""


class ImageSet(Sequence[Pixels]):
    """Named RGB images behind one loader, with a bounded cache.

    Args:
        names: of the images.
        load: decodes an image by index; raises InputError where it cannot.
        header: reads its header alone; raises InputError where that tells that the image cannot be used. None: decodes it.
        paths: what messages call the images; None: their names.
        left_out: contents of the folder that are not pictures.
        cache_bytes: keep decoded images up to this size together.

    Attributes:
        names: of the images.
        paths: what messages call them.
        left_out: contents of the folder that are not pictures.
    """

    def __init__(
        self,
        names: list[str],
        load: Callable[[int], Opened],
        header: Callable[[int], Header] | None = None,
        *,
        paths: list[str] | None = None,
        left_out: Sequence[Untaken] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.names, self.paths = names, names if paths is None else paths
        self.left_out = tuple(left_out)
        self._load, self._header = load, header
        self._cache: dict[int, Opened] = {}
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
        return self.opened(index).pixels

    def opened(self, index: int) -> Opened:
        """Return image ``index``, and what its file has that the image has not.

        Raises:
            IndexError: there is no such image.
            InputError: it cannot be read, or has more than 8 bits a sample.
        """
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        if position in self._cache:
            return self._cache[position]
        opened = self._load(position)
        if opened.pixels.nbytes <= self._room:
            self._cache[position] = opened
            self._room -= opened.pixels.nbytes
        return opened

    def header(self, index: int) -> Header:
        """Return what the header of image ``index`` tells, without decoding it where its kind allows that.

        Raises:
            InputError: see :meth:`opened`; damage that only decoding shows is not found.
        """
        if self._header is not None:
            return self._header(index)
        pixels, changed = self.opened(index)
        return Header((pixels.shape[1], pixels.shape[0]), changed)

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Return the images at ``indices`` as a set of its own (same loader and cache)."""
        chosen = list(indices)
        return ImageSet(
            [self.names[i] for i in chosen],
            lambda i: self.opened(chosen[i]),
            lambda i: self.header(chosen[i]),
            paths=[self.paths[i] for i in chosen],
            left_out=self.left_out,
            cache_bytes=0,
        )


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Return the images of all ``sets``, one set after the other (each keeps its own loader and cache)."""
    if len(sets) == 1:
        return sets[0]
    places = [(images, index) for images in sets for index in range(len(images))]

    def load(index: int) -> Opened:
        images, place = places[index]
        return images.opened(place)

    def header(index: int) -> Header:
        images, place = places[index]
        return images.header(place)

    names = [images.names[index] for images, index in places]
    paths = [images.paths[index] for images, index in places]
    left_out = [one for images in sets for one in images.left_out]
    return ImageSet(names, load, header, paths=paths, left_out=left_out, cache_bytes=0)


def from_array(images: Pixels, prefix: str = "", source: str = "") -> ImageSet:
    """Wrap uint8 images [N, H, W, 3] that are in memory already.

    Args:
        images: the array.
        prefix: of their names.
        source: where they come from; messages call them ``source[0]`` and so on, unless it is empty.
    """
    names = [f"{prefix}{index:06d}" for index in range(len(images))]
    paths = [f"{source}[{index}]" for index in range(len(images))] if source else None
    return ImageSet(names, lambda index: Opened(images[index]), paths=paths, cache_bytes=0)
