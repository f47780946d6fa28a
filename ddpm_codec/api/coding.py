"""Images to bytes and back."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.api.archive import Archive
from ddpm_codec.api.arguments import (
    PICTURE_NAME,
    Image,
    as_picture,
    cut_options,
    named_picture,
    opened_model,
    session_of,
)
from ddpm_codec.codecs.lossless.archive import encode_archive as encode_pictures
from ddpm_codec.codecs.lossless.layout import can_be_progressive
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.container import (
    DEFAULT_MAX_PIXELS,
)
from ddpm_codec.errors import InputError
from ddpm_codec.files.source import Source
from ddpm_codec.image_io import to_image
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import DEFAULT, ModelName
from ddpm_codec.picture import Picture

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import Model


@isolated()
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
        image: uint8, uint16, uint32 or float32 array [H, W], [H, W, 2], [H, W, 3] or [H, W, 4], or a Pillow image. All but
            8-bit RGB and RGBA is coded by the fallback: lossless, never progressive.
        model: an open model, a model name (see :func:`~ddpm_codec.list_models`), or the path of a model file or folder;
            ``"none"`` uses the fallback only.
        progressive: write a file that can be cut anywhere; a truncated file decodes to a coarser image.
        bpp: end a progressive file before it exceeds this many bits per pixel.
        psnr: end a progressive file once its image has this PSNR, in dB; with ``bpp`` as well, whichever comes first.
        steps: K, the number of steps of the chain (for a DDPM, of timesteps); None: chosen by the codec.
        tile: side of the tiles that a large image is cut into, a multiple of 8; None: chosen by the codec.
        device: device of the network, ``"auto"``, ``"cpu"`` or ``"cuda"``; an open model stays on its device.
        threads: CPU threads during the call: tiles that an exact model evaluates at once, each in one thread, as many as the
            process has cores if None; for a model in floating point the threads of torch, unchanged if None (a forked process
            has one). Results of exact models do not depend on it.

    Returns:
        A ``.ddpm`` file.

    Raises:
        InputError: the image or an option is invalid, or the device is not available.
        ModelError: the model is unknown or damaged, or has no chain with ``steps`` steps.
        TypeError: ``image`` is neither an array of such a type nor a Pillow image.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> image = np.tile(np.arange(64, dtype=np.uint8), (32, 1))
        >>> data = ddpm_codec.encode(image)
        >>> np.array_equal(ddpm_codec.decode(data), image)
        True
    """
    picture = as_picture(image, PICTURE_NAME)
    if not progressive and (bpp, psnr) != (None, None):
        raise InputError("bpp and psnr need progressive=True")
    options = ProgressiveOptions(steps=steps, tile=tile, max_bpp=bpp, min_psnr_db=psnr)
    with isolated(threads):
        if not progressive or not can_be_progressive(picture.info):
            if (bpp, psnr) != (None, None):
                raise InputError(f"mode {picture.mode} cannot be progressive; bpp and psnr need RGB or RGBA")
            session = session_of(model, device, steps)
            return encode_pictures([picture], session, cut_options(session, DEFAULT_BLOCK_PIXELS, tile))
        from ddpm_codec.codecs.progressive.encoder import encode_picture

        opened = opened_model(model, device)
        chosen = choose_steps(opened.codec_model, steps, picture.info.pixel_count)
        return encode_picture(opened.session(chosen), picture, options).file.data


@isolated()
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
        threads: see :func:`~ddpm_codec.encode`; a file coded in floating point sets its own number.
        max_pixels: refuse files that declare more pixels.

    Returns:
        The samples, [H, W] or [H, W, channels]: uint8; bool for mode 1, int32 for I, float32 for F and ;F, uint16 for ;16,
        uint32 for ;32. For palette modes they are indices; use :func:`~ddpm_codec.to_pil` to get the colours. A truncated
        progressive file gives a coarser image.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the file is damaged.
        InputError: the file cannot be read, or holds several pictures (use :func:`~ddpm_codec.open_archive`).
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


@isolated()
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
        source: see :func:`~ddpm_codec.decode`, which also lists the errors.
        model: see :func:`~ddpm_codec.decode`.
        device: see :func:`~ddpm_codec.decode`.
        threads: see :func:`~ddpm_codec.decode`.
        max_pixels: see :func:`~ddpm_codec.decode`.

    Examples:
        >>> import PIL.Image
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode(PIL.Image.new("P", (6, 4)))
        >>> ddpm_codec.to_pil(data).mode
        'P'
    """
    return to_image(_one_picture(source, model, device, threads, max_pixels))


@isolated()
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
        images: names (plain relative paths, such as ``"cats/001.png"``) and images; see :func:`~ddpm_codec.encode`. An
            iterator is consumed one image at a time.
        model: see :func:`~ddpm_codec.encode`.
        steps: see :func:`~ddpm_codec.encode`.
        tile: see :func:`~ddpm_codec.encode`.
        block_pixels: pixels per block, the unit of damage and of random access.
        device: see :func:`~ddpm_codec.encode`.
        threads: see :func:`~ddpm_codec.encode`.

    Raises:
        InputError: there are no images, a name is invalid or a duplicate, or see :func:`~ddpm_codec.encode`.
        ModelError: see :func:`~ddpm_codec.encode`.
        TypeError: see :func:`~ddpm_codec.encode`.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> data = ddpm_codec.encode_archive({"a.png": np.zeros((4, 6), np.uint8), "b.png": np.ones((5, 5), np.uint8)})
        >>> ddpm_codec.open_archive(data).names
        ('a.png', 'b.png')
    """
    pairs = images.items() if isinstance(images, Mapping) else images
    with isolated(threads):
        session = session_of(model, device, steps)
        pictures = (named_picture(pair) for pair in pairs)
        return encode_pictures(pictures, session, cut_options(session, block_pixels, tile))


def _one_picture(
    source: Source, model: "ModelName | Model | None", device: str, threads: int | None, max_pixels: int
) -> Picture:
    with Archive(source, model=model, device=device, threads=threads, max_pixels=max_pixels) as archive:
        if len(archive) != 1:
            raise InputError(f"the file is an archive of {len(archive)} pictures; use open_archive")
        return archive.picture(archive.names[0])
