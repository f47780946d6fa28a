"""The HTML page of a run: curves, BD-rates, and decoded pictures side by side at similar file sizes.

The page is self-contained: it loads nothing and works from a local folder.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ddpm_codec.atomic import new_file, reason
from ddpm_codec.errors import OutputError
from ddpm_codec.json_text import json_text
from ddpm_codec.pages import fill, table, text
from ddpm_codec.rate_distortion.curves import AVERAGING, OURS, RatePoint
from ddpm_codec.rate_distortion.metrics import TITLES
from ddpm_codec.rate_distortion.peers import PEERS
from ddpm_codec.rate_distortion.report import BdRow, RdReport
from ddpm_codec.rate_distortion.store import PictureRecord, Store


def write_page(report: RdReport, chart: str, store: Store, pictures: int) -> None:
    """Write ``index.html`` into the folder of a run, replacing an existing one.

    Args:
        report: the run.
        chart: its curves as HTML, of :func:`ddpm_codec.rate_distortion.plot.chart_html`.
        store: holds the crops of the pictures.
        pictures: number of pictures to show side by side; the folder has crops of these.

    Raises:
        OutputError: a crop is missing, or the page cannot be written.
    """
    images = _Images()
    remarks = [text(line) for line in (*report.not_measured(), *report.remarks())]
    shown = [_picture(record, store, images) for record in report.records[:pictures]]
    data = {"pictures": shown, "reconstructions": list(report.reconstructions), "images": images.uris}
    page = fill(
        (files("ddpm_codec.rate_distortion") / "page.html").read_text(encoding="utf-8"),
        summary=_summary(report),
        chart=chart,
        averaging=text("; ".join(f"{metric}: {AVERAGING[metric]}" for metric in report.metrics)),
        remarks="".join(f'<p class="small">{line}.</p>' for line in remarks),
        curve_table=_curve_table(report),
        bd_tables=_bd_tables(report),
        shown_note=_shown_note(len(shown)),
        # Inside <script> a name must not look like a tag.
        data=json_text(data).replace("<", "\\u003c"),
    )
    with new_file(store.folder / "index.html", overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


class _Images:
    """Images as data URIs, each stored once."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._places: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """Return the index of a WebP file in :attr:`uris`."""
        if data not in self._places:
            self._places[data] = len(self.uris)
            self.uris.append("data:image/webp;base64," + base64.b64encode(data).decode("ascii"))
        return self._places[data]


def _picture(record: PictureRecord, store: Store, images: _Images) -> dict[str, Any]:
    """Return what the page shows of a picture: each of our rates, with every peer's file of the nearest size."""

    def image(index: int | None) -> int:
        path = store.crop_path(record.name, index)
        try:
            return images.add(path.read_bytes())
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be read ({reason(error)}); delete {store.folder} and run again"
            ) from error

    ours: dict[str, list[dict[str, Any]]] = {}
    ordered = sorted(enumerate(record.points), key=lambda pair: pair[1].bpp)
    for index, point in ordered:
        if point.codec == OURS and point.file_bytes:
            nearest = _nearest(record.points, point.file_bytes)
            peers = [_entry(record.points[i], image(i)) | {"title": PEERS[name].title} for name, i in nearest.items()]
            ours.setdefault(point.reconstruction, []).append(_entry(point, image(index)) | {"peers": peers})
    size = f"{record.size[0]} x {record.size[1]} pixels"
    return {"name": record.name, "size": size, "original": image(None), "ours": ours}


def _nearest(points: Sequence[RatePoint], count: int) -> dict[str, int]:
    """Return the index of each peer's file whose size is nearest to ``count`` bytes, by ratio."""
    best: dict[str, tuple[float, int]] = {}
    for index, point in enumerate(points):
        if point.codec in PEERS and point.file_bytes:
            distance = abs(math.log(point.file_bytes / count))
            best[point.codec] = min(best.get(point.codec, (math.inf, 0)), (distance, index))
    return {name: index for name, (_, index) in best.items()}


def _entry(point: RatePoint, image: int) -> dict[str, Any]:
    quality = [f"{TITLES[name].split(' (')[0]} {_number(value)}" for name, value in _known(point.metrics)]
    if "psnr" in point.metrics and point.metrics["psnr"] is None:
        quality = ["equal to the original"]
    caption = " · ".join([f"{point.file_bytes:,} bytes", f"{point.bpp:.3f} bpp", *quality])
    return {"setting": point.setting, "caption": caption, "image": image}


def _known(metrics: Mapping[str, float | None]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in metrics.items() if value is not None]


def _number(value: float) -> str:
    return f"{value:.4f}" if 0.0 < value < 1.0 else f"{value:.2f}"


def _summary(report: RdReport) -> str:
    count = len(report.records)
    pictures = f"{count} picture{'s' if count != 1 else ''}"
    used = f"model {report.facts['model']}, steps {report.facts.get('steps') or 'of the model'}"
    return text(f"{pictures} of {report.facts['data']}; {used}.")


def _shown_note(count: int) -> str:
    if not count:
        return "No pictures were requested (--page-pictures)."
    return (
        "The middle of each picture, ours beside the other codecs at the nearest file size. The images shown are WebP copies "
        "of quality 95; bytes and metrics are those of the whole decoded picture."
    )


def _curve_table(report: RdReport) -> str:
    headers = ["curve", "setting", "pictures", "bpp", *(TITLES[metric] for metric in report.metrics)]
    rows = [
        [
            row["curve"],
            row["setting"],
            str(row["pictures"]),
            f"{row['bpp']:.4f}",
            *(_cell(row.get(metric)) for metric in report.metrics),
        ]
        for row in report.mean_rows()
    ]
    return table(headers, rows, text_columns=2, label="Curves as a table")


def _bd_tables(report: RdReport) -> str:
    """Return a table for each metric, one column a peer, and all of it with the ranges folded away."""
    if not report.bd_rates:
        return "<p>No other codec was measured.</p>"
    tables = []
    for metric in report.metrics:
        rows: dict[str, list[str]] = {}
        for row in report.bd_rates:
            if row.metric == metric:
                rows.setdefault(row.curve, [row.curve]).append(_percent(row))
        headers = [f"at equal {TITLES[metric]}", *(PEERS[peer].title for peer in report.peers)]
        tables.append(table(headers, list(rows.values()), text_columns=1, label=f"BD-rates at equal {TITLES[metric]}"))
    ranges = f"<details><summary>Ranges and numbers of pictures</summary>{_bd_ranges(report)}</details>"
    return f'<div class="tables">{"".join(tables)}</div>\n{ranges}'


def _bd_ranges(report: RdReport) -> str:
    headers = ["curve", "against", "at equal", "BD-rate, %", "from", "to", "pictures"]
    rows = []
    for row in report.bd_rates:
        result = row.result
        counted = f"{result.pictures} of {result.of_pictures}"
        names = [row.curve, PEERS[row.anchor].title, TITLES[row.metric]]
        rows.append([*names, _percent(row), _cell(result.low), _cell(result.high), counted])
    return table(headers, rows, text_columns=3, label="Ranges of the BD-rates")


def _percent(row: BdRow) -> str:
    return "-" if row.result.percent is None else f"{row.result.percent:+.1f}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
