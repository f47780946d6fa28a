"""Pictures of rate-distortion curves; needs matplotlib (the ``bench`` extra)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ddpm_codec.atomic import new_file
from ddpm_codec.rate_distortion.curves import IDEAL, OURS, Curve
from ddpm_codec.rate_distortion.metrics import TITLES
from ddpm_codec.rate_distortion.report import RdReport

# Colours that colour-blind readers can tell apart (Paul Tol, bright and muted).
_OURS: Final = {"mean": "#4477aa", "sample": "#aa3377", "flow": "#228833"}
_PEERS: Final = {"jpeg": "#999933", "webp": "#ccbb44", "jpeg2000": "#ee6677", "avif": "#66ccee", "jxl": "#882255"}


def colour_of(curve: Curve) -> str:
    """Return the colour of a curve: one a peer, and one a reconstruction of this codec, real or theoretical."""
    table, key = (_OURS, curve.reconstruction) if curve.codec in {OURS, IDEAL} else (_PEERS, curve.codec)
    return table.get(key, "#555555")


def plot_curves(report: RdReport, paths: Sequence[Path]) -> None:
    """Draw one panel a metric against bits per pixel: this codec solid, its theoretical curve dashed, peers thin.

    Args:
        report: of :func:`ddpm_codec.rate_distortion.run.run_rd`.
        paths: files to write, over what is there; their endings say the format.

    Raises:
        OutputError: a file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    drawn = [metric for metric in report.metrics if any(curve.finite_points() for curve in report.curves[metric])]
    figure = Figure(figsize=(5.5 * max(1, len(drawn)), 5.0), layout="constrained")
    panels = figure.subplots(1, max(1, len(drawn)), squeeze=False)[0]
    for axes, metric in zip(panels, drawn, strict=False):
        for curve in report.curves[metric]:
            _, rates, values = zip(*curve.finite_points(), strict=True) if curve.finite_points() else ((), (), ())
            ours = curve.codec in {OURS, IDEAL}
            axes.plot(
                rates,
                values,
                color=colour_of(curve),
                label=curve.name,
                linestyle="--" if curve.codec == IDEAL else "-",
                linewidth=1.8 if ours else 1.0,
                marker="o" if curve.codec == OURS else None if curve.codec == IDEAL else ".",
                markersize=4,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(TITLES[metric])
        axes.grid(visible=True, which="both", color="#dddddd", linewidth=0.5)
    if drawn:
        panels[0].legend(fontsize="small")
    title = f"{Path(report.facts['model']).name}, means over {len(report.records)} pictures"
    figure.suptitle(title, parse_math=False)
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "ddpm-codec"}):
        for path in paths:
            kind = path.suffix.removeprefix(".")
            with new_file(path, overwrite=True) as temporary:
                figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
