"""The in-memory API: encode and decode arrays and Pillow images, archives, bounds, progressive decoding.

All public names are also exported by :mod:`ddpm_codec`. Torch is loaded only when a model runs. A *source* is a ``.ddpm``
file: its bytes, its path, or a binary stream positioned at its start.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.codecs.description import FileInfo, describe
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.codecs.lossless.archive import encode_archive as encode_pictures
from ddpm_codec.codecs.lossless.layout import COLOUR_MODES
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, CodingOptions, checked_options
from ddpm_codec.container import (
    CODEC_PROGRESSIVE,
    DEFAULT_MAX_PIXELS,
    Container,
    SectionFile,
    SectionReader,
    file_codec,
    read_container,
    read_sections,
)
from ddpm_codec.container.section_reader import TOO_SHORT
from ddpm_codec.errors import DdpmCodecError, FormatError, InputError
from ddpm_codec.files.source import Source, open_source
from ddpm_codec.image_io import picture_from_image, to_image
from ddpm_codec.models.registry import DEFAULT, ModelInfo, ModelName, list_models
from ddpm_codec.picture import Picture, PictureInfo, picture_from_array

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.decoder import PictureDecoder
    from ddpm_codec.codecs.session import CodingSession, Model
    from ddpm_codec.diffusion.bound import BoundTerms

__all__ = [
    "Archive",
    "FileInfo",
    "Image",
    "ModelInfo",
    "PictureInfo",
    "ProgressiveDecoder",
    "Source",
    "bound",
    "decode",
    "encode",
    "encode_archive",
    "info",
    "list_models",
    "open_archive",
    "open_model",
    "to_pil",
]

Image = NDArray[np.uint8] | PIL.Image.Image
"""An image to encode: a uint8 array [H, W] (grey), [H, W, 2] (grey, alpha), [H, W, 3] (RGB) or [H, W, 4] (RGBA), or a Pillow
image of any mode, with its palette, transparency, ICC profile, EXIF and XMP."""

_NAME = "picture.png"
_LABEL = "<bytes>"
"""Name in messages of a file fed as bytes."""

_KEPT_PIXELS = 1 << 24
"""Maximum pixels of the decoded pictures that an archive caches, so that a block need not be decoded again."""


def encode(
    image: Image,
    /,
    *,
    model: "ModelName | Model" = DEFAULT,
    progressive: bool = False,
    bpp: float | None = None,
    psnr: float | None = None,
    steps: int | None = None,
    tile: int | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> bytes:
    """Encode one image; lossless unless ``bpp`` or ``psnr`` ends a progressive file early.

    Args:
        image: uint8 array [H, W], [H, W, 2], [H, W, 3] or [H, W, 4], or a Pillow image. Modes other than RGB and RGBA are
            coded by the fallback: lossless, never progressive.
        model: an open model, a model name (see :func:`list_models`), or the path of a model file or folder; ``"none"``
            uses the fallback only.
        progressive: write a file that can be cut anywhere; a truncated file decodes to a coarser image.
        bpp: end a progressive file before it exceeds this many bits per pixel.
        psnr: end a progressive file once its image has this PSNR, in dB; with ``bpp`` as well, whichever comes first.
        steps: K, the number of steps of the chain (for a DDPM, of timesteps); None: chosen by the codec.
        tile: side of the tiles that a large image is cut into, a multiple of 8; None: chosen by the codec.
        device: device of the network, ``"auto"``, ``"cpu"`` or ``"cuda"``; an open model stays on its device.
        threads: CPU threads of torch during the call, in the whole process; None: unchanged.

    Returns:
        A ``.ddpm`` file.

    Raises:
        InputError: the image or an option is invalid, or the device is not available.
        ModelError: the model is unknown or damaged, or has no chain with ``steps`` steps.
        TypeError: ``image`` is neither a uint8 array nor a Pillow image.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> image = np.tile(np.arange(64, dtype=np.uint8), (32, 1))
        >>> data = ddpm_codec.encode(image)
        >>> np.array_equal(ddpm_codec.decode(data), image)
        True
    """
    picture = _picture(image, _NAME)
    if not progressive and (bpp, psnr) != (None, None):
        raise InputError("bpp and psnr need progressive=True")
    options = ProgressiveOptions(steps=steps, tile=tile, max_bpp=bpp, min_psnr_db=psnr)
    with _threads(threads):
        if not progressive or picture.mode not in COLOUR_MODES:
            if (bpp, psnr) != (None, None):
                raise InputError(f"mode {picture.mode} cannot be progressive; bpp and psnr need RGB or RGBA")
            session = _session(model, device, steps)
            return encode_pictures([picture], session, _cut(session, DEFAULT_BLOCK_PIXELS, tile))
        from ddpm_codec.codecs.progressive.encoder import encode_picture

        opened = _opened(model, device)
        chosen = choose_steps(opened.codec_model, steps, picture.info.pixel_count)
        return encode_picture(opened.session(chosen), picture, options).file.data


def decode(
    source: Source,
    /,
    *,
    model: "ModelName | Model | None" = None,
    device: str = "auto",
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> NDArray[Any]:
    """Decode a file that holds one picture into an array.

    Args:
        source: the file's bytes, its path, or a binary stream.
        model: the model it was coded with, if that does not ship; any other is refused.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``; the result does not depend on it.
        threads: CPU threads of torch during the call; a file coded in floating point sets its own number.
        max_pixels: refuse files that declare more pixels.

    Returns:
        The samples, [H, W] or [H, W, channels]: uint8; bool for mode 1, int32 for I, float32 for F, uint16 for I;16. For
        palette modes they are indices; use :func:`to_pil` to get the colours. A truncated progressive file gives a coarser
        image.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the file is damaged.
        InputError: the file cannot be read, or holds several pictures (use :func:`open_archive`).
        ModelError: the model it was coded with is not available.
        TypeError: ``source`` is not a path, bytes or a binary stream.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode(np.zeros((4, 6, 3), np.uint8))
        >>> ddpm_codec.decode(data).shape
        (4, 6, 3)
    """
    return _one_picture(source, model, device, threads, max_pixels).samples().copy()


def to_pil(
    source: Source,
    /,
    *,
    model: "ModelName | Model | None" = None,
    device: str = "auto",
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> PIL.Image.Image:
    """Decode a file that holds one picture into a Pillow image, with the encoded mode, palette, transparency and metadata.

    Args:
        source: see :func:`decode`, which also lists the errors.
        model: see :func:`decode`.
        device: see :func:`decode`.
        threads: see :func:`decode`.
        max_pixels: see :func:`decode`.

    Examples:
        >>> import PIL.Image
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode(PIL.Image.new("P", (6, 4)))
        >>> ddpm_codec.to_pil(data).mode
        'P'
    """
    return to_image(_one_picture(source, model, device, threads, max_pixels))


def encode_archive(
    images: Mapping[str, Image] | Iterable[tuple[str, Image]],
    /,
    *,
    model: "ModelName | Model" = DEFAULT,
    steps: int | None = None,
    tile: int | None = None,
    block_pixels: int = DEFAULT_BLOCK_PIXELS,
    device: str = "auto",
    threads: int | None = None,
) -> bytes:
    """Encode many images into one lossless file, which is smaller than separate files.

    Args:
        images: names (plain relative paths, such as ``"cats/001.png"``) and images; see :func:`encode`. An iterator is
            consumed one image at a time.
        model: see :func:`encode`.
        steps: see :func:`encode`.
        tile: see :func:`encode`.
        block_pixels: pixels per block, the unit of damage and of random access.
        device: see :func:`encode`.
        threads: see :func:`encode`.

    Raises:
        InputError: there are no images, a name is invalid or a duplicate, or see :func:`encode`.
        ModelError: see :func:`encode`.
        TypeError: see :func:`encode`.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode_archive({"a.png": np.zeros((4, 6), np.uint8), "b.png": np.ones((5, 5), np.uint8)})
        >>> ddpm_codec.open_archive(data).names
        ('a.png', 'b.png')
    """
    pairs = images.items() if isinstance(images, Mapping) else images
    with _threads(threads):
        session = _session(model, device, steps)
        pictures = (_named(pair) for pair in pairs)
        return encode_pictures(pictures, session, _cut(session, block_pixels, tile))


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
        source: see :func:`decode`. A path stays open until :meth:`Archive.close`; a stream is not closed.
        model: see :func:`decode`.
        device: see :func:`decode`.
        threads: see :func:`decode`.
        max_pixels: see :func:`decode`.

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
    """The pictures of a file, as a mapping from names to arrays (see :func:`decode`); returned by :func:`open_archive`.

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
        self._model, self._device, self._threads = model, _device_name(device), threads
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
        return self._picture(name).samples().copy()

    def pil(self, name: str) -> PIL.Image.Image:
        """Return a picture as a Pillow image, see :func:`to_pil`.

        Raises:
            KeyError: there is no picture with that name.
            DdpmCodecError: see :func:`decode`.
        """
        return to_image(self._picture(name))

    def close(self) -> None:
        """Close the file. Afterwards, no pictures can be decoded."""
        self._closed = True
        self._kept.clear()
        self._resources.close()

    def _picture(self, name: str) -> Picture:
        if self._closed:
            raise ValueError("the archive is closed")
        place = self._places[name]
        if place not in self._kept:
            with _threads(self._threads):
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


def open_model(name_or_path: ModelName = DEFAULT, *, device: str = "auto") -> "Model":
    """Open a model once for use in many calls: ``encode(image, model=model)``.

    Args:
        name_or_path: name of a shipped model (see :func:`list_models`), or the path of a model file or of the folder of a
            trained DDPM.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: the device is not available.
        ModelError: the model does not exist or is damaged.

    Examples:
        >>> import ddpm_codec
        >>> model = ddpm_codec.open_model("photo", device="cpu")
        >>> model.name, model.arithmetic
        ('photo', 'exact')
    """
    from ddpm_codec.codecs.session import cached_model

    return cached_model(name_or_path, device)


def info(source: Source, /) -> FileInfo:
    """Describe a file without decoding it.

    Args:
        source: the file's bytes, its path, or a binary stream.

    Raises:
        FormatError: the file is damaged.
        InputError: the file cannot be read.
        TypeError: ``source`` is not a path, bytes or a binary stream.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> facts = ddpm_codec.info(ddpm_codec.encode(np.zeros((4, 6), np.uint8)))
        >>> facts.codec, facts.pixels, facts.pictures[0].mode
        ('fallback only', 24, 'L')
    """
    with open_source(source) as opened:
        return describe(opened)


def bound(
    images: Image | Iterable[Image],
    /,
    *,
    model: "ModelName | Model" = DEFAULT,
    steps: int | None = None,
    schedule: Literal["dp", "even"] | None = None,
    variance: Literal["predicted", "class", "level", "beta", "beta-tilde"] | None = None,
    batch: int = 64,
    tile: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> "BoundTerms":
    """Compute a model's bound on the bits/dim of RGB images, term by term: -ln P(x_0) <= L_T + sum_k L_k + L_0.

    Args:
        images: one image or several: uint8 arrays [H, W, 3] or Pillow images of mode RGB, or one array [N, H, W, 3].
        model: see :func:`encode`; a DDPM needs no calibration.
        steps: K, for a DDPM the number of timesteps used; None: the model's default, for a DDPM all.
        schedule: ``"dp"`` for the chain with the lowest bound, ``"even"`` for even steps; None: the model's default.
        variance: variance of the steps: the model's own (``"predicted"``), calibrated per ``"class"`` or ``"level"``, or
            fixed (``"beta"``, ``"beta-tilde"``); None: the model's default.
        batch: number of 32x32 images (or the equivalent in pixels) per batch.
        tile: side of the tiles that larger images are cut into, a multiple of 8; None: the model's default.
        seed: seed of the noise.
        device: see :func:`encode`.
        threads: see :func:`encode`.

    Returns:
        The terms of each image in bits per dimension (sub-pixel), and ``mean_bpd``, ``stderr_bpd``, ``pooled_bpd`` over
        all images.

    Raises:
        InputError: an image or an option is invalid, or the device is not available.
        ModelError: the model is unknown or damaged, or has no chain with ``steps`` steps.
        TypeError: an image is neither a uint8 array nor a Pillow image.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> terms = ddpm_codec.bound(np.full((16, 16, 3), 99, np.uint8), model="cifar10", steps=4, device="cpu")
        >>> terms.diffusion_bpd.shape, 0.0 < terms.mean_bpd < 8.0
        ((1, 4), True)
    """
    from ddpm_codec.evaluation import bound_of

    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch = {batch!r}: must be a positive integer")
    opened = _opened(model, device)
    arrays = [_rgb(image) for image in _several(images)]
    with _threads(threads):
        return bound_of(
            arrays,
            opened.codec_model,
            steps=steps,
            schedule=schedule,
            variance=variance,
            batch=batch,
            tile=tile,
            seed=seed,
            device=opened.device.type,
        )


class ProgressiveDecoder:
    """Decodes a progressive file while its bytes arrive.

    Args:
        model: the model it was coded with, if that does not ship; any other is refused.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: CPU threads of torch during each call; None: unchanged.
        max_pixels: refuse files that declare more pixels.

    Attributes:
        used_bytes: bytes up to the end of the last section used.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> y, x = np.mgrid[0:32, 0:48]
        >>> image = np.stack([2 * x + y, 3 * y, 200 - x], axis=2).astype(np.uint8)
        >>> data = ddpm_codec.encode(image, progressive=True, device="cpu")
        >>> decoder = ddpm_codec.ProgressiveDecoder(device="cpu")
        >>> decoder.feed(data[: len(data) // 2])
        True
        >>> decoder.picture().shape, decoder.lossless
        ((32, 48, 3), False)
        >>> _ = decoder.feed(data[len(data) // 2 :])
        >>> decoder.lossless, np.array_equal(decoder.picture(), image)
        (True, True)
    """

    def __init__(
        self,
        *,
        model: "ModelName | Model | None" = None,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._model, self._device, self._threads = model, _device_name(device), threads
        self._reader = SectionReader(max_pixels=max_pixels)
        self._decoder: PictureDecoder | None = None
        self._taken = 0
        self._failed: DdpmCodecError | None = None
        self.used_bytes = 0

    @property
    def info(self) -> PictureInfo | None:
        """The picture without pixels: name, mode, size, metadata; None until the head of the file has arrived."""
        return None if self._decoder is None else self._decoder.info

    @property
    def level(self) -> int | None:
        """Noise level reached by the whole image, 0 the cleanest; -1 is the image itself, None: no level yet."""
        if self._decoder is None or self._decoder.level > self._decoder.parameters.steps:
            return None
        return self._decoder.level

    @property
    def lossless(self) -> bool:
        """Whether the image is complete."""
        return self._decoder is not None and self._decoder.lossless

    def feed(self, data: bytes | bytearray | memoryview, /) -> bool:
        """Feed the next bytes of the file; return whether a better image is available.

        Raises:
            EnvironmentMismatchError: coded in floating point in a different environment.
            FormatError: the bytes are damaged; the image from the bytes before them is still available.
            ModelError: the model it was coded with is not available.
        """
        if self._failed is not None:
            raise self._failed
        before = 0 if self._decoder is None else self._decoder.used
        try:
            with _threads(self._threads):
                self._take(self._reader.feed(bytes(memoryview(data))))
            if self._reader.damaged:
                raise FormatError(f"is damaged after byte {self.used_bytes or self._reader.start}")
        except DdpmCodecError as error:
            # The sections after the one that failed cannot be used: the same error from now on.
            named = str(error) if str(error).startswith(_LABEL) else f"{_LABEL}: {error}"
            self._failed = type(error)(named)
            raise self._failed from None
        return self._decoder is not None and self._decoder.used > before

    def _take(self, payloads: list[bytes]) -> None:
        short = self._reader.short
        if self._decoder is None and short is not None:
            from ddpm_codec.codecs.progressive.decoder import PictureDecoder

            self._decoder = PictureDecoder(short.head, short.info, model=self._model, device=self._device, label=_LABEL)
        for payload in payloads:
            if self._decoder is not None:
                self._decoder.feed(payload)
                self.used_bytes = self._reader.ends[self._taken]
                self._taken += 1

    def picture(self, reconstruction: str = "mean") -> NDArray[np.uint8]:
        """Return the image decoded so far, [H, W, 3] or [H, W, 4].

        Args:
            reconstruction: how missing detail is filled in: ``"mean"`` has the lowest squared error, ``"sample"`` draws it
                from the model and is the most realistic, ``"flow"`` follows the probability-flow ODE.

        Raises:
            FormatError: there are too few bytes for a first image.
            InputError: unknown reconstruction.
        """
        return self._shown(reconstruction).array().copy()

    def pil(self, reconstruction: str = "mean") -> PIL.Image.Image:
        """Return the image as a Pillow image; see :meth:`picture`."""
        return to_image(self._shown(reconstruction))

    def _shown(self, reconstruction: str) -> Picture:
        if self._decoder is None or not self._decoder.used:
            raise FormatError(f"{_LABEL}: {TOO_SHORT}")
        with _threads(self._threads):
            return self._decoder.picture(reconstruction)


def _named(pair: tuple[str, Image]) -> Picture:
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
        raise TypeError("images are a mapping from names to images, or pairs of a name (text) and an image")
    return _picture(pair[1], pair[0])


def _picture(image: Image, name: str) -> Picture:
    if isinstance(image, PIL.Image.Image):
        return picture_from_image(image, name)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a uint8 array or a Pillow image, not {type(image).__name__}")
    return picture_from_array(image, name)


def _one_picture(
    source: Source, model: "ModelName | Model | None", device: str, threads: int | None, max_pixels: int
) -> Picture:
    with Archive(source, model=model, device=device, threads=threads, max_pixels=max_pixels) as archive:
        if len(archive) != 1:
            raise InputError(f"the file is an archive of {len(archive)} pictures; use open_archive")
        return archive._picture(archive.names[0])


def _threads(threads: int | None) -> AbstractContextManager[None]:
    """Return a context in which torch uses ``threads`` CPU threads; None does nothing and does not load torch."""
    if threads is None:
        return nullcontext()
    from ddpm_codec.device import torch_threads

    return torch_threads(threads)


def _opened(model: "ModelName | Model", device: str) -> "Model":
    """Return an open model. A model that is already open stays on its device."""
    from ddpm_codec.codecs.session import Model, cached_model

    _device_name(device)
    if isinstance(model, str | os.PathLike):
        if model == "none":
            raise InputError("model none: only encode without progressive works without a model")
        return cached_model(model, device)
    if not isinstance(model, Model):
        raise TypeError(f"a model is a name, a path or an open model, not {type(model).__name__}")
    if device not in ("auto", model.device.type):
        raise InputError(f"device {device}: the model was opened on {model.device.type}")
    return model


def _session(model: "ModelName | Model", device: str, steps: int | None) -> "CodingSession | None":
    return None if isinstance(model, str) and model == "none" else _opened(model, device).session(steps)


def _device_name(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r}: use auto, cpu or cuda")
    return device


def _cut(session: "CodingSession | None", block_pixels: int, tile: int | None) -> CodingOptions:
    own = 256 if session is None else session.model.tile
    return checked_options(block_pixels, own if tile is None else tile)


def _several(images: Image | Iterable[Image]) -> Sequence[Image]:
    if isinstance(images, PIL.Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise InputError(f"expected images [H, W, 3] or [N, H, W, 3], got an array of shape {list(images.shape)}")
    return list(images)


def _rgb(image: Image) -> NDArray[np.uint8]:
    picture = _picture(image, _NAME)
    if picture.mode != "RGB":
        raise InputError(f"mode {picture.mode}: bound needs RGB images")
    return picture.array()
