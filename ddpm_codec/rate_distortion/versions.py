"""Versions of the libraries behind the peers: a package's own version does not tell them."""

import importlib.metadata
import re
from pathlib import Path
from typing import Final

from PIL import features

from ddpm_codec.errors import MissingDependencyError
from ddpm_codec.rate_distortion.libjxl import Libjxl

PILLOW: Final = {
    "libjpeg-turbo": "libjpeg_turbo",
    "libwebp": "webp",
    "libavif": "avif",
    "OpenJPEG": "jpg_2000",
    "zlib-ng": "zlib_ng",
}
"""Libraries inside Pillow, and its names of them."""


def peer_versions(libjxl: Libjxl | None = None) -> dict[str, str]:
    """Return the version of every library that codes for a peer; those that are not here are left out.

    Args:
        libjxl: the one that makes progressive lossless files; None: the one that is found.
    """
    found = {name: _pillow_version(feature) for name, feature in PILLOW.items()}
    found |= _avif_coders()
    found["libjxl"] = _plugin_libjxl()
    found["libjxl (progressive lossless)"] = _libjxl_version(libjxl)
    return {name: version for name, version in found.items() if version}


def versions_line(versions: dict[str, str]) -> str:
    """Return versions as one line."""
    return "peers: " + ", ".join(f"{name} {version}" for name, version in versions.items())


def _pillow_version(feature: str) -> str:
    known = feature in features.modules or feature in features.features or feature in features.codecs
    return str(features.version(feature) or "") if known else ""


def _avif_coders() -> dict[str, str]:
    """Return encoders and decoders inside libavif, such as ``aom``."""
    if not _pillow_version("avif"):
        return {}
    from PIL import _avif

    return dict(re.findall(r"(\w+) \[[^]]*\]:v?([0-9.]+)", _avif.codec_versions()))


def _plugin_libjxl() -> str:
    """Return the version of libjxl inside the Pillow plug-in.

    The plug-in has no call that tells it; the binary holds the name of the crate that it was built from.
    """
    try:
        files = importlib.metadata.files("pillow-jxl-plugin") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    for file in files:
        if re.match(r"pillow_jxl\..*(so|pyd)$", file.name):
            match = re.search(rb"libjxl-(\d+\.\d+\.\d+)", Path(str(file.locate())).read_bytes())
            return (
                match[1].decode()
                if match
                else f"of pillow-jxl-plugin {importlib.metadata.version('pillow-jxl-plugin')}"
            )
    return ""


def _libjxl_version(libjxl: Libjxl | None) -> str:
    try:
        return (libjxl or Libjxl()).version
    except MissingDependencyError:
        return ""
