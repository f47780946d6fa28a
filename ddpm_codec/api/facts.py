"""What files hold, which models there are, and what they promise."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.api.arguments import PICTURE_NAME, Image, as_picture, opened_model
from ddpm_codec.codecs.description import FileInfo, describe
from ddpm_codec.errors import InputError
from ddpm_codec.files.source import Source, open_source
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import DEFAULT, ModelName

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import Model
    from ddpm_codec.diffusion.bound import BoundTerms


@isolated()
def open_model(name_or_path: ModelName = DEFAULT, *, device: str = "auto") -> "Model":
    """Open a model once for use in many calls: ``encode(image, model=model)``.

    Args:
        name_or_path: name of a shipped model (see :func:`~ddpm_codec.list_models`), or the path of a model file or of the
            folder of a trained DDPM.
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


@isolated()
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


@isolated()
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
        model: see :func:`~ddpm_codec.encode`; a DDPM needs no calibration.
        steps: K, for a DDPM the number of timesteps used; None: the model's default, for a DDPM all.
        schedule: ``"dp"`` for the chain with the lowest bound, ``"even"`` for even steps; None: the model's default.
        variance: variance of the steps: the model's own (``"predicted"``), calibrated per ``"class"`` or ``"level"``, or
            fixed (``"beta"``, ``"beta-tilde"``); None: the model's default.
        batch: number of 32x32 images (or the equivalent in pixels) per batch.
        tile: side of the tiles that larger images are cut into, a multiple of 8; None: the model's default.
        seed: seed of the noise. That of an image depends on it and on the place of the image in ``images``, and on nothing
            else.
        device: see :func:`~ddpm_codec.encode`.
        threads: see :func:`~ddpm_codec.encode`.

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
    opened = opened_model(model, device)
    arrays = [_rgb(image) for image in _several(images)]
    with isolated(threads):
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


def _several(images: Image | Iterable[Image]) -> Sequence[Image]:
    if isinstance(images, PIL.Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise InputError(f"expected images [H, W, 3] or [N, H, W, 3], got an array of shape {list(images.shape)}")
    return list(images)


def _rgb(image: Image) -> NDArray[np.uint8]:
    picture = as_picture(image, PICTURE_NAME)
    if picture.mode != "RGB":
        raise InputError(f"mode {picture.mode}: bound needs RGB images")
    return picture.array()
