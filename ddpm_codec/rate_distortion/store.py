"""The folder of a run: one file per picture, written as soon as it is measured, so that an interrupted run can resume.

``settings.json`` holds the settings of the folder. A run with other settings is refused, so results are never mixed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ddpm_codec.atomic import check_target, new_file, reason
from ddpm_codec.errors import OutputError, OutputExistsError
from ddpm_codec.json_text import json_text
from ddpm_codec.picture import Picture, encode_name
from ddpm_codec.rate_distortion.curves import RatePoint

SETTINGS: Final = "settings.json"
PRODUCTS: Final = ("rd.json", "rd.csv", "bd_rate.csv", "rd.png", "rd.svg", "index.html")
"""What a finished run writes beside the records."""


@dataclass(frozen=True)
class PictureRecord:
    """All points of one picture.

    Attributes:
        name: of the picture.
        size: (width, height).
        key: hash of the settings and the pixels.
        points: in the order of measurement.
        notes: pictures that a codec rejected.
        crops: whether the folder has crops of the decoded pictures for the page.
    """

    name: str
    size: tuple[int, int]
    key: str
    points: tuple[RatePoint, ...]
    notes: tuple[str, ...] = ()
    crops: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as strict JSON."""
        return {
            "name": self.name,
            "size": list(self.size),
            "key": self.key,
            "points": [point.to_json() for point in self.points],
            "notes": list(self.notes),
            "crops": self.crops,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PictureRecord":
        """Undo :meth:`to_json`; infinity stays None."""
        width, height = values["size"]
        points = tuple(RatePoint(**point) for point in values["points"])
        return cls(values["name"], (width, height), values["key"], points, tuple(values["notes"]), values["crops"])


@dataclass(frozen=True)
class Store:
    """A folder of records, all measured with the same settings."""

    folder: Path
    settings_key: str

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> "Store":
        """Create the folder, or reopen one that was measured with the same settings.

        Raises:
            OutputExistsError: it holds results of other settings, or other files under the names of results, and
                ``overwrite`` is False.
            OutputError: it cannot be created.
        """
        store = cls(folder, digest(settings))
        try:
            (folder / "images").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot create the folder ({reason(error)})") from error
        found = _read(folder / SETTINGS)
        if found is not None and found.get("key") == store.settings_key:
            return store
        if found is not None and not overwrite:
            raise OutputExistsError(f"{folder}: holds results of other settings (--overwrite replaces them)")
        for name in (SETTINGS, *PRODUCTS):
            check_target(folder / name, overwrite=overwrite)
        write_json(folder / SETTINGS, {"key": store.settings_key, "settings": dict(settings)})
        return store

    def picture_key(self, picture: Picture) -> str:
        """Return the hash of the settings and the pixels."""
        pixels = hashlib.sha256(picture.pixels).hexdigest()
        return digest({"settings": self.settings_key, "size": picture.size, "pixels": pixels})

    def load(self, picture: Picture) -> PictureRecord | None:
        """Return the record of a picture, or None if it must be measured."""
        values = _read(self._path(picture.name))
        if values is None or values.get("key") != self.picture_key(picture):
            return None
        try:
            # A name that is not UTF-8 is escaped in JSON.
            return replace(PictureRecord.from_json(values), name=picture.name)
        except (KeyError, TypeError, ValueError):
            return None

    def save(self, record: PictureRecord) -> PictureRecord:
        """Write a record, complete or not at all, and return it as :meth:`load` would."""
        values = record.to_json()
        write_json(self._path(record.name), values)
        return PictureRecord.from_json(values)

    def crop_path(self, name: str, point: int | None) -> Path:
        """Return the path of the crop of a point, by its index in the record; None: the crop of the original."""
        return self.folder / "crops" / slug(name) / ("original.webp" if point is None else f"{point:03d}.webp")

    def _path(self, name: str) -> Path:
        return self.folder / "images" / f"{slug(name)}.json"


def slug(name: str) -> str:
    """Return a file name for the name of a picture: its plain characters, and a hash that keeps it unique."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:60]
    return f"{plain}-{hashlib.sha256(encode_name(name)).hexdigest()[:8]}"


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object in hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write strict JSON, complete or not at all, replacing an existing file.

    Raises:
        OutputError: the file cannot be written.
    """
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(json_text(values, indent=1) + "\n", encoding="ascii")


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None if there is no readable one."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
