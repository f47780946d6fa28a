"""Metadata in ``info`` of Pillow's images."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from ddpm_codec.image_io.metadata.density import density, parse_density
from ddpm_codec.image_io.metadata.found import in_order
from ddpm_codec.image_io.metadata.png import keys_of_chunks
from ddpm_codec.picture import MetadataKey

_EXIF_PREFIX: Final = b"Exif\0\0"
_NAMES: Final[dict[MetadataKey, str]] = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp", "comment": "comment"}
_JFIF_UNITS: Final = (1, 2)


def metadata_to_info(metadata: dict[MetadataKey, bytes]) -> dict[str, Any]:
    """Return what Pillow has a place for: ``icc_profile``, ``exif``, ``xmp``, ``comment`` and ``dpi``.

    EXIF is without prefix, as in the metadata. A density without a unit, IPTC and PNG chunks have no place, but for chunks
    that tell a comment or a density.
    """
    try:
        known, _ = keys_of_chunks(metadata)
    except ValueError:
        known = metadata
    info: dict[str, Any] = {name: known[key] for key, name in _NAMES.items() if key in known}
    if "density" in known:
        try:
            pair = parse_density(known["density"]).per_inch()
        except ValueError:
            pair = None
        if pair is not None:
            info["dpi"] = tuple(int(value) if value.denominator == 1 else float(value) for value in pair)
    return info


def metadata_of_info(info: Mapping[Any, Any], kind: str | None) -> dict[MetadataKey, bytes]:
    """Return the metadata in ``info`` of an image.

    Args:
        info: as Pillow gives it.
        kind: Pillow's name of the format that the image was read from, or None. A JPEG file without a density has a ``dpi``
            nevertheless, which is not taken.
    """
    found: dict[MetadataKey, bytes] = {}
    for key, name in _NAMES.items():
        value = info.get(name)
        data = value.encode() if isinstance(value, str) else value
        if isinstance(data, bytes | bytearray) and data:
            found[key] = bytes(data).removeprefix(_EXIF_PREFIX) if key == "exif" else bytes(data)
    made_up = kind in ("JPEG", "MPO") and info.get("jfif_unit") not in _JFIF_UNITS
    data = b"" if made_up else _density(info.get("dpi"))
    return in_order(found | ({"density": data} if data else {}))


def _density(dpi: object) -> bytes:
    """Return a pair of pixels per inch as metadata, floats by their decimal digits; empty if it is none."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return b""
    try:
        across, down = (Fraction(str(value)) for value in dpi)
    except (ValueError, ZeroDivisionError):
        return b""
    return density(across, down, "inch")
