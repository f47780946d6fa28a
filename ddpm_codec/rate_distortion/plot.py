"""The curves of a run, drawn with matplotlib (the ``bench`` extra): ``rd.png``, ``rd.svg``, and the page's own chart.

Every point of an SVG has a title, which a browser shows when it is pointed at. The files hold all metrics side by side; the
page has a drawing of each, so that they stand below each other on a narrow screen, and its texts are text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import numpy as np

from ddpm_codec.atomic import new_file
from ddpm_codec.pages import colours, text, themed_svg
from ddpm_codec.plotting import save_figure, svg_of
from ddpm_codec.rate_distortion.curves import IDEAL, OURS, Curve
from ddpm_codec.rate_distortion.metrics import TITLES
from ddpm_codec.rate_distortion.report import RdReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES: Final = {
    "mean": "series-1",
    "sample": "series-2",
    "flow": "series-3",
    "jpeg": "series-4",
    "webp": "series-5",
    "jpeg2000": "series-6",
    "avif": "series-7",
    "jxl": "series-8",
}
"""Name of the colour of each peer, and of each reconstruction of this codec, real or theoretical."""

_MARKERS: Final = {"jpeg": "s", "webp": "^", "jpeg2000": "v", "avif": "D", "jxl": "P"}
"""Peers are told apart without colours too."""

_SVG: Final = "http://www.w3.org/2000/svg"
_NAMESPACES: Final = {"": _SVG, "xlink": "http://www.w3.org/1999/xlink"}

Titles = Mapping[str, Sequence[str]]
"""What a browser says of each point of a curve, by the id of the curve in the SVG."""


def plot_curves(report: RdReport, folder: Path) -> None:
    """Draw one panel a metric against bits per pixel: this codec solid, its theoretical curve dashed, peers thin.

    Args:
        report: of :func:`ddpm_codec.rate_distortion.run.run_rd`.
        folder: gets ``rd.png`` and ``rd.svg``, over what is there.

    Raises:
        OutputError: a file cannot be written.
    """
    with _style():
        figure, titles = _draw(report)
        save_figure(figure, folder / "rd.png", overwrite=True, dpi=120)
        element = _with_titles(svg_of(figure), titles, "Quality over bits per pixel")
    with new_file(folder / "rd.svg", overwrite=True) as temporary:
        temporary.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{element}\n', encoding="utf-8")


def chart_html(report: RdReport) -> str:
    """Return the same for a page with the style of :mod:`ddpm_codec.pages`: a legend, and an ``<svg>`` for each metric."""
    from matplotlib.figure import Figure

    panels = []
    with _style({"svg.fonttype": "none"}):
        for metric in _drawn(report):
            figure = Figure(figsize=(4.6, 3.9), layout="constrained")
            titles = _draw_panel(figure.subplots(), report.curves[metric], metric)
            element = _with_titles(svg_of(figure), titles, f"{TITLES[metric]} over bits per pixel")
            panels.append(themed_svg(_with_own_ids(element, metric)))
    curves = {curve.name: curve for metric in _drawn(report) for curve in report.curves[metric]}
    entries = "".join(f"<li>{_swatch(curve)}{text(name)}</li>" for name, curve in curves.items())
    return f'<ul class="legend">{entries}</ul>\n<div class="panels">{"".join(panels)}</div>'


@contextmanager
def _style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in the colours of the pages, whatever matplotlib's own settings say."""
    import matplotlib as mpl

    known = colours()
    names: dict[Any, str] = {
        "axes.edgecolor": "muted",
        "axes.facecolor": "background",
        "axes.labelcolor": "text",
        "figure.facecolor": "background",
        "grid.color": "grid",
        "text.color": "text",
        "xtick.color": "muted",
        "xtick.labelcolor": "text",
        "ytick.color": "muted",
        "ytick.labelcolor": "text",
    }
    chosen: dict[Any, Any] = {key: known[name] for key, name in names.items()}
    with mpl.rc_context(chosen | {"font.size": 11.0} | dict(settings or {})):
        yield


def _drawn(report: RdReport) -> list[str]:
    """Return the metrics of which there is something to draw."""
    return [metric for metric in report.metrics if any(curve.finite_points() for curve in report.curves[metric])]


def _draw(report: RdReport) -> "tuple[Figure, Titles]":
    from matplotlib.figure import Figure

    drawn = _drawn(report)
    figure = Figure(figsize=(5.5 * max(1, len(drawn)), 5.0), layout="constrained")
    panels = figure.subplots(1, max(1, len(drawn)), squeeze=False)[0]
    titles: dict[str, Sequence[str]] = {}
    for axes, metric in zip(panels, drawn, strict=False):
        titles |= _draw_panel(axes, report.curves[metric], metric)
    if drawn:
        entries = panels[0].get_legend_handles_labels()
        figure.legend(*entries, fontsize="small", loc="outside lower center", ncols=2 * len(drawn), frameon=False)
    count = len(report.records)
    title = f"{Path(report.facts['model']).name}, means over {count} picture{'s' if count != 1 else ''}"
    # A file's name may hold bytes that are not text, which an SVG cannot.
    figure.suptitle(title.encode("utf-8", "replace").decode("utf-8"), parse_math=False)
    return figure, titles


def _draw_panel(axes: "Axes", curves: Sequence[Curve], metric: str) -> Titles:
    """Draw the curves of a metric; return the titles of their points."""
    titles = {f"curve-{metric}-{number}": _draw_curve(axes, curve) for number, curve in enumerate(curves)}
    for line, name in zip(axes.get_lines(), titles, strict=True):
        line.set_gid(name)
    _label(axes, TITLES[metric])
    return titles


def _draw_curve(axes: "Axes", curve: Curve) -> list[str]:
    # The axis of rates is logarithmic.
    points = [point for point in curve.finite_points() if point[1] > 0.0]
    axes.plot(
        [rate for _, rate, _ in points],
        [value for _, _, value in points],
        color=colours()[_colour_of(curve)],
        label=curve.name,
        linestyle="--" if curve.codec == IDEAL else "-",
        linewidth=_width_of(curve),
        marker=_marker_of(curve),
        markersize=4,
    )
    return [f"{curve.name} {setting}: {rate:.4f} bpp, {value:.3f}" for setting, rate, value in points]


def _label(axes: "Axes", title: str) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(title)
    axes.grid(visible=True, which="both", linewidth=0.5)


def _colour_of(curve: Curve) -> str:
    """Return the name of a curve's colour."""
    return _SERIES.get(curve.reconstruction if curve.codec in {OURS, IDEAL} else curve.codec, "muted")


def _width_of(curve: Curve) -> float:
    return 1.8 if curve.codec in {OURS, IDEAL} else 1.0


def _marker_of(curve: Curve) -> str:
    return "o" if curve.codec == OURS else _MARKERS.get(curve.codec, ".")


def _swatch(curve: Curve) -> str:
    """Return a curve's line and marker for the legend of a page, in units of its CSS pixels, 40x14."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    marker = MarkerStyle(_marker_of(curve))
    place = marker.get_transform() + Affine2D().scale(7.0, -7.0).translate(20.0, 7.0)
    (outline, *_) = marker.get_path().transformed(place).to_polygons()
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in np.asarray(outline).tolist())
    colour, dashes = f"var(--{_colour_of(curve)})", ' stroke-dasharray="7 3"' if curve.codec == IDEAL else ""
    line = f'<path d="M0 7H40" stroke="{colour}" stroke-width="{1.5 * _width_of(curve):g}"{dashes}/>'
    return f'<svg viewBox="0 0 40 14" aria-hidden="true">{line}<polygon points="{points}" fill="{colour}"/></svg>'


def _with_titles(svg: str, titles: Titles, label: str) -> str:
    """Return the ``<svg>`` element of a matplotlib file with a ``<title>`` in the marker of every point."""
    for prefix, uri in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(svg)
    root.set("role", "img")
    root.set("aria-label", label)
    for group in root.iter(f"{{{_SVG}}}g"):
        markers = group.iter(f"{{{_SVG}}}use") if group.get("id") in titles else ()
        for marker, title in zip(markers, titles.get(group.get("id", ""), ()), strict=True):
            ElementTree.SubElement(marker, f"{{{_SVG}}}title").text = title
    return ElementTree.tostring(root, encoding="unicode")


def _with_own_ids(svg: str, prefix: str) -> str:
    """Return an SVG whose ids begin with ``prefix``, but for those of curves: several stand in one page."""
    return re.sub(r'( id="|href="#|url\(#)(?!curve-)', rf"\g<1>{prefix}-", svg)
