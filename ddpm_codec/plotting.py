"""Pictures of figures; needs matplotlib (the ``bench`` extra)."""

from pathlib import Path

import numpy as np

from ddpm_codec.errors import InputError, MissingDependencyError, OutputError
from ddpm_codec.evaluation import BoundReport


def plot_bound(report: BoundReport, path: Path) -> None:
    """Draw bits/dim of every message, in the order in which a progressive decoder receives them, and their sum.

    Args:
        report: of :func:`ddpm_codec.evaluation.evaluate_bpd`.
        path: a .png, .svg or .pdf.

    Raises:
        InputError: a kind of file that matplotlib does not write.
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("--plot needs matplotlib: pip install 'ddpm-codec[bench]'") from error
    values = report.to_json()
    bits = np.array([values["prior_bpd"], *values["diffusion_bpd"][::-1], values["reconstruction_bpd"]])
    steps = values["levels"]
    labels = ["prior", *(f"{level:.1f}" for level in report.log_snr[-2::-1]), "x_0"]
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(steps + 2), bits, color="#4477aa", label="one message")
    axes.plot(range(steps + 2), bits.cumsum(), color="#cc6677", marker="o", label="so far")
    axes.set_xticks(range(steps + 2), labels, rotation=45)
    axes.set_xlabel("log-SNR that the message reaches")
    axes.set_ylabel("bits/dim (bound)")
    title = f"{values['model']}, K = {steps}: {values['total_bpd']:.3f} bits/dim over {values['images']} images"
    axes.set_title(title)
    axes.legend()
    try:
        figure.savefig(path)
    except ValueError as error:
        raise InputError(f"{path}: cannot draw this kind of file ({error})") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot write the picture ({error.strerror})") from error
