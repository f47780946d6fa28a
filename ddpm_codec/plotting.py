"""Plots; needs matplotlib (the ``bench`` extra)."""

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.errors import InputError, MissingDependencyError
from ddpm_codec.evaluation import BoundReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 32


def need_matplotlib(what: str) -> None:
    """Check that matplotlib is there.

    Raises:
        MissingDependencyError: naming ``what`` needs it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError(f"{what} needs matplotlib: pip install 'ddpm-codec[bench]'")


def check_plot(path: Path, *, overwrite: bool = False) -> None:
    """Check, before any work is done, that a plot can be written to ``path``.

    Raises:
        InputError: matplotlib does not write files of that extension.
        MissingDependencyError: matplotlib is not installed.
        OutputExistsError: it exists, and ``overwrite`` is False.
        OutputError: it cannot be written there.
    """
    check_target(path, overwrite=overwrite)
    need_matplotlib("--plot")
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        extension = path.suffix or "a file without an extension"
        raise InputError(f"{path}: cannot plot to {extension}; use .{', .'.join(sorted(known))}")


def save_figure(figure: "Figure", path: Path, *, overwrite: bool = False, dpi: float = 100.0) -> None:
    """Write a figure, complete or not at all, in the format of the extension.

    Raises:
        OutputExistsError: ``path`` exists, and ``overwrite`` is False.
        OutputError: it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    with new_file(path, overwrite=overwrite) as temporary:
        if kind == "svg":
            temporary.write_text(svg_of(figure), encoding="utf-8")
        else:
            figure.savefig(temporary, format=kind, dpi=dpi)


def svg_of(figure: "Figure") -> str:
    """Return a figure as an SVG file without metadata; equal figures give equal text."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "ddpm-codec"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()


def plot_bound(report: BoundReport, path: Path, *, overwrite: bool = False) -> None:
    """Plot the bits/dim of every message, in the order in which a progressive decoder receives them, and their sum.

    Args:
        report: of :func:`ddpm_codec.evaluation.evaluate_bpd`.
        path: a .png, .svg, .pdf or whatever else matplotlib writes.
        overwrite: replace ``path``.

    Raises:
        InputError, MissingDependencyError, OutputExistsError, OutputError: see :func:`check_plot`.
    """
    check_plot(path, overwrite=overwrite)
    from matplotlib.figure import Figure

    values = report.to_json()
    bits = np.array([values["prior_bpd"], *values["diffusion_bpd"][::-1], values["reconstruction_bpd"]])
    labels = ["prior", *(f"{level:.1f}" for level in report.chain.log_snr[-2::-1]), "x_0"]
    places = range(len(bits))
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.bar(places, bits, color="#4477aa", label="one message")
    axes.plot(places, bits.cumsum(), color="#cc6677", marker="o", label="so far")
    # So many labels can be read beside each other.
    ticks = np.unique(np.linspace(0, len(bits) - 1, min(len(bits), MOST_LABELS)).round().astype(int)).tolist()
    axes.set_xticks(ticks, [labels[tick] for tick in ticks], rotation=45)
    axes.set_xlabel("log-SNR that the message reaches")
    axes.set_ylabel("bits/dim (bound)")
    total = f"{values['total_bpd']:.3f} bits/dim over {values['images']} images"
    axes.set_title(f"{values['model']}, K = {values['steps']}: {total}", parse_math=False)
    axes.legend()
    save_figure(figure, path, overwrite=overwrite)
