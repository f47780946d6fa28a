"""Quality metrics of a decoded picture against its original.

MS-SSIM and SSIMULACRA2 need packages of the ``bench`` extra, which are imported on first use.
"""

import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from ddpm_codec.distortion import Pixels, check_pair, psnr_db
from ddpm_codec.errors import InputError, MissingDependencyError
from ddpm_codec.units import GREY_MAX

Metric = Callable[[Pixels, Pixels], float | None]

MS_SSIM_MIN_SIDE: Final = 161
"""The window of 11 pixels must still fit after four halvings."""

SSIMULACRA2_MIN_SIDE: Final = 8


def ms_ssim(original: Pixels, decoded: Pixels) -> float | None:
    """Return MS-SSIM, the product over five scales, averaged over the three channels; 1 for equal pictures.

    Args:
        original: [H, W, 3].
        decoded: [H, W, 3].

    Returns:
        A value in [0, 1], or None where the shorter side is 160 or less.

    Raises:
        InputError: see :func:`~ddpm_codec.distortion.check_pair`.
        MissingDependencyError: pytorch-msssim is not installed.

    Source: Wang, Simoncelli and Bovik (2003), *Multiscale structural similarity for image quality assessment*, eq. 7.
    """
    check_pair(original, decoded)
    if min(original.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    _need("ms_ssim")
    import torch
    from pytorch_msssim import ms_ssim as measure

    # In float32 values above 0.999999 would all be the same.
    pair = [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float64)) for x in (original, decoded)]
    return min(1.0, float(measure(*pair, data_range=GREY_MAX)))


def ms_ssim_db(value: float) -> float:
    """Return ``-10 log10(1 - value)`` in dB, which spreads values close to 1; infinity for 1."""
    return -10.0 * math.log10(1.0 - value) if value < 1.0 else math.inf


def ssimulacra2(original: Pixels, decoded: Pixels) -> float | None:
    """Return SSIMULACRA2: 100 for equal pictures, 90 visually lossless, 70 high, 50 medium, 30 low quality.

    Args:
        original: [H, W, 3], sRGB.
        decoded: [H, W, 3], sRGB.

    Returns:
        A value of at most 100, or None for pictures smaller than 8x8.

    Raises:
        InputError: see :func:`~ddpm_codec.distortion.check_pair`.
        MissingDependencyError: ssimulacra2 is not installed.

    Source: Sneyers (2022), *SSIMULACRA 2*; the Python port of the same name.
    """
    check_pair(original, decoded)
    if min(original.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return None
    _need("ssimulacra2")
    from ssimulacra2 import compute_ssimulacra2

    try:
        value = float(compute_ssimulacra2(_as_file(original), _as_file(decoded)))
    except (ValueError, ZeroDivisionError):  # a shape that the package rejects
        return None
    return value if math.isfinite(value) else None


METRICS: Final[dict[str, Metric]] = {"psnr": psnr_db, "ms_ssim": ms_ssim, "ssimulacra2": ssimulacra2}
"""Metrics by name; greater is better."""

TITLES: Final = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)", "ssimulacra2": "SSIMULACRA2"}
"""Axis titles; MS-SSIM is drawn as :func:`ms_ssim_db`."""

_PACKAGES: Final = {"ms_ssim": ("pytorch_msssim", "pytorch-msssim"), "ssimulacra2": ("ssimulacra2", "ssimulacra2")}


def usable_metrics(names: Sequence[str], note: Callable[[str], None]) -> tuple[str, ...]:
    """Return the metrics whose packages are installed; ``note`` is called with one line for each of the others.

    Raises:
        InputError: an unknown name, or no usable metric.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(f"metric {unknown[0]!r}: must be one of {', '.join(METRICS)}")
    usable = []
    for name in dict.fromkeys(names):
        try:
            _need(name)
        except MissingDependencyError as error:
            note(f"{error}; skipped")
        else:
            usable.append(name)
    if not usable:
        raise InputError("no metric is usable")
    return tuple(usable)


def _need(name: str) -> None:
    module, package = _PACKAGES.get(name, ("math", ""))
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(f"metric {name} needs {package}: pip install 'ddpm-codec[bench]'")


def _as_file(pixels: Pixels) -> io.BytesIO:
    """Return a file in memory: the package reads nothing but files."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    buffer.seek(0)
    return buffer
