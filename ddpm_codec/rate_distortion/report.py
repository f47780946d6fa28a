"""The results of a run: mean curves, BD-rates, and the files that hold them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import Untaken
from ddpm_codec.image_sets import listed, refusal
from ddpm_codec.rate_distortion.curves import (
    AVERAGING,
    IDEAL,
    OURS,
    BdRate,
    Curve,
    RatePoint,
    bd_rate,
    curve_name,
    finite,
    mean_curves,
)
from ddpm_codec.rate_distortion.store import PictureRecord, write_json


@dataclass(frozen=True)
class BdRow:
    """A BD-rate and the curves that it compares.

    Attributes:
        metric: the quality at which rates are compared.
        codec: the codec judged, ``OURS`` or ``IDEAL``.
        reconstruction: its reconstruction.
        anchor: the peer that it is compared with.
        result: of :func:`ddpm_codec.rate_distortion.curves.bd_rate`.
    """

    metric: str
    codec: str
    reconstruction: str
    anchor: str
    result: BdRate

    @property
    def curve(self) -> str:
        """Codec and reconstruction in one."""
        return curve_name(self.codec, self.reconstruction)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as one row."""
        names = {
            "metric": self.metric,
            "codec": self.codec,
            "reconstruction": self.reconstruction,
            "anchor": self.anchor,
        }
        values = asdict(self.result)
        return names | {"bd_rate_percent": values.pop("percent")} | values


@dataclass(frozen=True)
class RdReport:
    """The points of every picture, and the curves and BD-rates computed from them.

    Attributes:
        records: one per picture.
        metrics: names, in the order of the panels.
        peers: names of the peers measured.
        reconstructions: of this codec.
        facts: data, model, settings and versions.
        left_out: pictures of DATA that were not measured, by path, and why.
    """

    records: tuple[PictureRecord, ...]
    metrics: tuple[str, ...]
    peers: tuple[str, ...]
    reconstructions: tuple[str, ...]
    facts: dict[str, Any]
    left_out: tuple[Untaken, ...] = ()

    @cached_property
    def curves(self) -> dict[str, list[Curve]]:
        """Mean curves by metric."""
        pictures = [record.points for record in self.records]
        return {metric: mean_curves(pictures, metric) for metric in self.metrics}

    @cached_property
    def bd_rates(self) -> list[BdRow]:
        """This codec against every peer, by metric and reconstruction."""
        pictures = [record.points for record in self.records]
        return [
            BdRow(metric, codec, how, peer, bd_rate(pictures, metric, (peer, ""), (codec, how)))
            for metric in self.metrics
            for codec in (OURS, IDEAL)
            for how in self.reconstructions
            for peer in self.peers
        ]

    def mean_rows(self) -> list[dict[str, Any]]:
        """Return one row per curve and setting: mean rate and quality by every metric (MS-SSIM in dB).

        Where metrics have values of different pictures, the means over each of these stand in rows of their own.
        """
        rows: dict[tuple[str, str, str, tuple[int, ...]], dict[str, Any]] = {}
        for metric in self.metrics:
            for curve in self.curves[metric]:
                for setting, bpp, value in zip(curve.settings, curve.bpp, curve.values, strict=True):
                    key = (curve.codec, curve.reconstruction, setting, curve.left_out)
                    facts = {"curve": curve.name, "setting": setting, "pictures": curve.pictures, "bpp": bpp}
                    rows.setdefault(key, facts)[metric] = value
        return list(rows.values())

    def remarks(self) -> list[str]:
        """Return lines about what the means do not show: pictures and settings left out, and pictures that are exact."""
        kinds: dict[tuple[str, str, str], list[str]] = {}
        for metric in self.metrics:
            for curve in self.curves[metric]:
                names = [self.records[index].name for index in curve.left_out]
                for what, which in (("without", names), ("without the settings", curve.dropped)):
                    if which:
                        kinds.setdefault((metric, what, listed(which)), []).append(curve.name)
        lines = [f"mean {metric} of {', '.join(of)}: {what} {which}" for (metric, what, which), of in kinds.items()]
        exact = self.exact_pictures()
        return lines + (
            [f"exact where others are not, counted with an error of zero: {listed(exact)}"] if exact else []
        )

    def not_measured(self) -> list[str]:
        """Return a line about the pictures of DATA that were not measured, if there are any."""
        total = len(self.records) + len(self.left_out)
        return [f"{refusal(self.left_out, total)}; not measured"] if self.left_out else []

    def exact_pictures(self) -> list[str]:
        """Return the pictures that come back exactly at a setting at which another one does not: of infinite PSNR."""
        if "psnr" not in self.metrics:
            return []
        lossy = {_key(point) for record in self.records for point in record.points if finite(point.metrics["psnr"])}
        return [
            record.name
            for record in self.records
            if any(finite(point.metrics["psnr"]) is None and _key(point) in lossy for point in record.points)
        ]

    def _curve_json(self, curve: Curve) -> dict[str, Any]:
        names = [self.records[index].name for index in curve.left_out]
        return asdict(curve) | {"left_out": names}

    def to_json(self) -> dict[str, Any]:
        """Return everything except the points, which :meth:`write` adds to ``rd.json``."""
        return self.facts | {
            "pictures": len(self.records),
            "pixels": sum(record.size[0] * record.size[1] for record in self.records),
            "metrics": list(self.metrics),
            "peers": list(self.peers),
            "reconstructions": list(self.reconstructions),
            "left_out": [one.to_json() for one in self.left_out],
            "averaging": {metric: AVERAGING[metric] for metric in self.metrics},
            "exact": self.exact_pictures(),
            "curves": {metric: [self._curve_json(curve) for curve in curves] for metric, curves in self.curves.items()},
            "bd_rate": [row.to_json() for row in self.bd_rates],
        }

    def write(self, folder: Path) -> None:
        """Write ``rd.json``, ``rd.csv`` and ``bd_rate.csv``, replacing existing ones.

        Raises:
            OutputError: a file cannot be written.
        """
        write_json(folder / "rd.json", self.to_json() | {"records": [record.to_json() for record in self.records]})
        _write_csv(folder / "rd.csv", self._point_rows())
        _write_csv(folder / "bd_rate.csv", [row.to_json() for row in self.bd_rates])

    def _point_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "picture": record.name,
                "width": record.size[0],
                "height": record.size[1],
                "codec": point.codec,
                "reconstruction": point.reconstruction,
                "setting": point.setting,
                "file_bytes": point.file_bytes,
                "bpp": point.bpp,
            }
            | {metric: point.metrics.get(metric) for metric in self.metrics}
            for record in self.records
            for point in record.points
        ]


def _key(point: RatePoint) -> tuple[str, str, str]:
    return point.codec, point.reconstruction, point.setting


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
