"""The figure of a run, drawn once with matplotlib (the ``bench`` extra): ``rd.png``, ``rd.svg``, and the page's own chart.

Every point of the SVG has a title, which a browser shows when it is pointed at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from ddpm_codec.atomic import new_file
from ddpm_codec.plotting import save_figure, svg_of
from ddpm_codec.rate_distortion.curves import IDEAL, OURS, Curve
from ddpm_codec.rate_distortion.metrics import TITLES
from ddpm_codec.rate_distortion.report import RdReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that colour-blind readers can tell apart (Paul Tol, bright and muted).
_OURS: Final = {"mean": "#4477aa", "sample": "#aa3377", "flow": "#228833"}
_PEERS: Final = {"jpeg": "#999933", "webp": "#ccbb44", "jpeg2000": "#ee6677", "avif": "#66ccee", "jxl": "#882255"}

_SVG: Final = "http://www.w3.org/2000/svg"
_NAMESPACES: Final = {"": _SVG, "xlink": "http://www.w3.org/1999/xlink"}

Titles = Mapping[str, Sequence[str]]
"""What a browser says of each point of a curve, by the id of the curve in the SVG."""


def plot_curves(report: RdReport, folder: Path) -> str:
    """Draw one panel a metric against bits per pixel: this codec solid, its theoretical curve dashed, peers thin.

    Args:
        report: of :func:`ddpm_codec.rate_distortion.run.run_rd`.
        folder: gets ``rd.png`` and ``rd.svg``, over what is there.

    Returns:
        The ``<svg>`` element of ``rd.svg``, ready to stand in a page; it refers to nothing outside itself.

    Raises:
        OutputError: a file cannot be written.
    """
    figure, titles = _draw(report)
    save_figure(figure, folder / "rd.png", overwrite=True, dpi=120)
    element = _with_titles(svg_of(figure), titles)
    with new_file(folder / "rd.svg", overwrite=True) as temporary:
        temporary.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{element}\n', encoding="utf-8")
    return element


def _draw(report: RdReport) -> "tuple[Figure, Titles]":
    from matplotlib.figure import Figure

    drawn = [metric for metric in report.metrics if any(curve.finite_points() for curve in report.curves[metric])]
    figure = Figure(figsize=(5.5 * max(1, len(drawn)), 5.0), layout="constrained")
    panels = figure.subplots(1, max(1, len(drawn)), squeeze=False)[0]
    titles: dict[str, list[str]] = {}
    for axes, metric in zip(panels, drawn, strict=False):
        for number, curve in enumerate(report.curves[metric]):
            name = f"curve-{metric}-{number}"
            titles[name] = _draw_curve(axes, curve, name)
        _label(axes, TITLES[metric])
    if drawn:
        panels[0].legend(fontsize="small")
    title = f"{Path(report.facts['model']).name}, means over {len(report.records)} pictures"
    # A file's name may hold bytes that are not text, which an SVG cannot.
    figure.suptitle(title.encode("utf-8", "replace").decode("utf-8"), parse_math=False)
    return figure, titles


def _draw_curve(axes: "Axes", curve: Curve, name: str) -> list[str]:
    """Draw a curve under an id; return the titles of its points."""
    # The axis of rates is logarithmic.
    points = [point for point in curve.finite_points() if point[1] > 0.0]
    ours, ideal = curve.codec == OURS, curve.codec == IDEAL
    (line,) = axes.plot(
        [rate for _, rate, _ in points],
        [value for _, _, value in points],
        color=_colour_of(curve),
        label=curve.name,
        linestyle="--" if ideal else "-",
        linewidth=1.8 if ours or ideal else 1.0,
        marker="o" if ours else ".",
        markersize=4,
    )
    line.set_gid(name)
    return [f"{curve.name} {setting}: {rate:.4f} bpp, {value:.3f}" for setting, rate, value in points]


def _label(axes: "Axes", title: str) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(title)
    axes.grid(visible=True, which="both", color="#dddddd", linewidth=0.5)


def _colour_of(curve: Curve) -> str:
    """Return the colour of a curve: one per peer, and one per reconstruction of this codec, real or theoretical."""
    table, key = (_OURS, curve.reconstruction) if curve.codec in {OURS, IDEAL} else (_PEERS, curve.codec)
    return table.get(key, "#555555")


def _with_titles(svg: str, titles: Titles) -> str:
    """Return the ``<svg>`` element of a matplotlib file with a ``<title>`` in the marker of every point."""
    for prefix, uri in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(svg)
    root.set("role", "img")
    root.set("aria-label", "Quality over bits per pixel")
    for group in root.iter(f"{{{_SVG}}}g"):
        markers = group.iter(f"{{{_SVG}}}use") if group.get("id") in titles else ()
        for marker, title in zip(markers, titles.get(group.get("id", ""), ()), strict=True):
            ElementTree.SubElement(marker, f"{{{_SVG}}}title").text = title
    return ElementTree.tostring(root, encoding="unicode")
