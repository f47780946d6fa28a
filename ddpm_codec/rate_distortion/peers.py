"""Other lossy codecs, each with a ladder of settings from about 0.08 to 3 bits per pixel on photographs.

All come with Pillow except JPEG XL, which needs ``pillow-jxl-plugin`` (1.3.8 carries libjxl 0.12). Every encoder runs on one
thread, at high effort and without metadata; sizes are those of whole files.
"""

import importlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Setting:
    """One rung of a ladder.

    Attributes:
        label: its name in tables, such as ``q50``.
        options: keywords of Pillow's ``save``.
    """

    label: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A lossy codec behind Pillow.

    Attributes:
        name: as in ``--peers``.
        title: for display.
        container: Pillow's name of the format.
        ladder: settings by increasing rate.
        missing: returns what is not installed, or None if the codec is usable.
    """

    name: str
    title: str
    container: str
    ladder: tuple[Setting, ...]
    missing: Callable[[], str | None]

    def encode(self, pixels: Pixels, setting: Setting) -> bytes:
        """Return a complete file of ``pixels``, [H, W, 3] sRGB.

        Raises:
            InputError: the codec rejects the picture, usually because of its size.
        """
        buffer = io.BytesIO()
        self._load()
        try:
            Image.fromarray(pixels).save(buffer, self.container, **setting.options)
        except (OSError, ValueError, RuntimeError) as error:
            cause = " ".join(str(error).split())[:200]
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise InputError(f"{self.name} {setting.label} cannot encode a picture of {size} ({cause})") from error
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels of a file that :meth:`encode` made, [H, W, 3].

        Raises:
            InputError: the codec does not read its own file, usually because of the picture's size.
        """
        self._load()
        try:
            with opened(data, self.container) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, ValueError, RuntimeError) as error:
            cause = " ".join(str(error).split())[:200]
            raise InputError(f"{self.name} cannot decode its own file of {len(data)} bytes ({cause})") from error

    def _load(self) -> None:
        if self.missing() is not None:
            raise InputError(f"{self.name}: {self.missing()}")


def usable_peers(names: Sequence[str], note: Callable[[str], None]) -> tuple[Peer, ...]:
    """Return the peers that are installed; ``note`` is called with one line for each of the others.

    Raises:
        InputError: an unknown name.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise InputError(f"peer {unknown[0]!r}: must be one of {', '.join(PEERS)}")
    usable = []
    for name in dict.fromkeys(names):
        missing = PEERS[name].missing()
        if missing is None:
            usable.append(PEERS[name])
        else:
            note(f"{name} is skipped: {missing}")
    return tuple(usable)


def jxl_quality(distance: float) -> float:
    """Return the quality that libjxl maps to a Butteraugli ``distance``: the plug-in does not accept distances.

    ``d = 0.1 + 0.09 (100 - q)`` for q >= 30, else ``d = 53/3000 q^2 - 23/20 q + 25``.

    Source: ``JxlEncoderDistanceFromQuality`` of libjxl.
    """
    if distance <= 6.4:
        return 100.0 - (distance - 0.1) / 0.09
    square, linear, constant = 53.0 / 3000.0, -23.0 / 20.0, 25.0 - distance
    return (-linear - math.sqrt(linear * linear - 4.0 * square * constant)) / (2.0 * square)


def _built_in(feature: str) -> Callable[[], str | None]:
    return lambda: None if features.check(feature) else f"this Pillow was built without {feature}"


def _avif_missing() -> str | None:
    # Pillow before 11.3 does not know the feature, and would warn.
    there = "avif" in features.modules and features.check("avif")
    return None if there else "needs Pillow 11.3 or newer, built with AVIF"


def _jxl_missing() -> str | None:
    try:
        importlib.import_module("pillow_jxl")  # registers with Pillow
    except ImportError:
        return "needs pillow-jxl-plugin: pip install 'ddpm-codec[bench]'"
    return None


def _jpeg(quality: int) -> Setting:
    return Setting(f"q{quality}", {"quality": quality, "subsampling": "4:2:0", "optimize": True, "progressive": True})


def _jpeg2000(ratio: int) -> Setting:
    # Without ``mct`` Pillow omits the colour transform, which costs 5 dB.
    return Setting(f"r{ratio}", {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True, "mct": 1})


def _avif(quality: int) -> Setting:
    subsampling = "4:4:4" if quality >= 90 else "4:2:0"
    return Setting(f"q{quality}", {"quality": quality, "speed": 4, "subsampling": subsampling, "max_threads": 1})


def _jxl(distance: float) -> Setting:
    return Setting(f"d{distance:g}", {"quality": jxl_quality(distance), "effort": 7, "num_threads": 1})


def _webp(quality: int) -> Setting:
    return Setting(f"q{quality}", {"quality": quality, "method": 6})


_ALL: Final = (
    Peer("jpeg", "JPEG", "JPEG", tuple(map(_jpeg, (3, 8, 18, 32, 50, 68, 80, 89, 94))), _built_in("jpg")),
    Peer("webp", "WebP", "WEBP", tuple(map(_webp, (0, 5, 15, 30, 50, 70, 82, 92, 97))), _built_in("webp")),
    Peer(
        "jpeg2000",
        "JPEG 2000",
        "JPEG2000",
        tuple(map(_jpeg2000, (300, 160, 85, 48, 30, 20, 13, 10, 8))),
        _built_in("jpg_2000"),
    ),
    Peer("avif", "AVIF", "AVIF", tuple(map(_avif, (6, 14, 24, 36, 48, 60, 72, 82, 90))), _avif_missing),
    Peer("jxl", "JPEG XL", "JXL", tuple(map(_jxl, (25, 15, 9, 6, 4, 2.5, 1.5, 0.9, 0.5))), _jxl_missing),
)
PEERS: Final = {peer.name: peer for peer in _ALL}
