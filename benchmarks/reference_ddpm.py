"""Question: what are the terms of a DDPM's bound beside those of Ho et al., and what do few levels cost with which variances?

Run: python -m benchmarks.reference_ddpm [--model models/ddpm-small] [--limit 128] [--few-limit 128] [--json FILE]
The first table is the whole process, T levels, on the first --limit test images: L_T, L_1..T-1 (the rate), L_0 (the
distortion), with the RMSE that belongs to it. The second is shaped as table 1 of Bao et al. 2022 (Analytic-DPM), on the
first --few-limit test images: K levels, even or by dynamic programming (DP), with the two fixed variances of Ho et al. and
with variances calibrated on training images, per level (theirs) and per level and coefficient class (ours).
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.chain_table import batches
from benchmarks.cifar import test_images
from benchmarks.common import table, write_json
from ddpm_codec.diffusion.bound import BoundTerms, evaluate_bound
from ddpm_codec.diffusion.measurement import VarianceKind, measure_errors
from ddpm_codec.diffusion.prediction import Denoiser, Prediction
from ddpm_codec.diffusion.transform import identity
from ddpm_codec.models.ddpm_model import DdpmModel
from ddpm_codec.models.opening import open_folder
from ddpm_codec.models.protocol import Schedule
from ddpm_codec.units import GREY_PER_UNIT

LEVELS = (10, 25, 50, 100)
CURVE = 21
"""Timesteps of the curve."""

ROWS: tuple[tuple[str, Schedule, VarianceKind], ...] = (
    ("even, beta-tilde", "even", "beta-tilde"),
    ("even, beta", "even", "beta"),
    ("even, calibrated per level", "even", "level"),
    ("even, calibrated per class", "even", "class"),
    ("DP, beta", "dp", "beta"),
    ("DP, calibrated per level", "dp", "level"),
    ("DP, calibrated per class", "dp", "class"),
)
PAPER_HO = {"rate": 1.78, "distortion": 1.97, "total": 3.75, "rmse": 0.95}
"""Ho et al. 2020, table 1 and sec. 4.3 (CIFAR-10, L_simple)."""

PAPER_BAO = {
    "even, beta-tilde": (74.95, 24.98, 12.01, 7.08, 3.73),
    "even, beta": (6.99, 6.11, 5.44, 4.86, 3.75),
    "even, calibrated per level": (5.47, 4.79, 4.38, 4.07, 3.59),
    "DP, beta": (5.38, 4.34, 3.97, 3.82, 3.75),
    "DP, calibrated per level": (4.11, 3.68, 3.61, 3.59, 3.59),
}
"""Bao et al. 2022, table 1, CIFAR-10 (LS) at K = 10, 25, 50, 100, 1000."""


class Remembering:
    """A denoiser that answers once: bounds over one chain and one noise share their network evaluations."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._known: dict[float, tuple[torch.Tensor, Prediction]] = {}

    def __call__(self, x_t: torch.Tensor, log_snr: torch.Tensor) -> Prediction:
        """Predict, or repeat what was predicted for the same x_t."""
        level = float(log_snr[0])
        if level not in self._known or not torch.equal(self._known[level][0], x_t):
            self._known[level] = x_t, self._denoiser(x_t, log_snr)
        return self._known[level][1]


def bounds(
    model: DdpmModel, images: list[torch.Tensor], levels: int, how: Schedule, kinds: Sequence[VarianceKind]
) -> dict[str, dict[str, Any]]:
    """Return the terms of the bounds of several variances over one chain, means over images."""
    denoiser = model.bound_denoiser(torch.device("cpu"), "float32")
    collected: dict[str, list[BoundTerms]] = {kind: [] for kind in kinds}
    done = 0
    for batch in images:
        shared = Remembering(denoiser)
        for kind in kinds:
            setting = model.bound_setting(model.chain_steps(levels), how, kind)
            terms = evaluate_bound(
                shared,
                [batch],
                setting.transform,
                setting.chain,
                setting.prior,
                variance=setting.variances,
                numbers=range(done, done + len(batch)),
            )
            collected[kind].append(terms)
        done += len(batch)
    return {kind: summary(levels, how, kind, parts) for kind, parts in collected.items()}


def summary(levels: int, how: Schedule, kind: str, parts: list[BoundTerms]) -> dict[str, Any]:
    """Return means over the images of all batches."""
    totals = np.concatenate([part.total_bpd for part in parts])
    steps = np.concatenate([part.diffusion_bpd for part in parts])
    return {
        "levels": levels,
        "schedule": how,
        "variance": kind,
        "images": len(totals),
        "prior_bpd": float(np.concatenate([part.prior_bpd for part in parts]).mean()),
        "rate_bpd": float(steps.sum(axis=1).mean()),
        "distortion_bpd": float(np.concatenate([part.reconstruction_bpd for part in parts]).mean()),
        "total_bpd": float(totals.mean()),
        "stderr_bpd": float(totals.std(ddof=1) / math.sqrt(len(totals))) if len(totals) > 1 else None,
        "diffusion_bpd": steps.mean(axis=0).tolist(),
    }


def closed_prior_bpd(model: DdpmModel, images: list[torch.Tensor]) -> float:
    """Return L_T from the mean square of the pixels alone: 1/2 [alpha_bar (E x^2 - 1) - ln(1 - alpha_bar)]."""
    power = float(torch.cat(images).double().square().mean())
    alpha_bar = float(model.process.schedule.alpha_bar[-1])
    return 0.5 * (alpha_bar * (power - 1.0) - math.log1p(-alpha_bar)) / math.log(2.0)


def progress(model: DdpmModel, images: list[torch.Tensor], whole: dict[str, Any]) -> list[list[float]]:
    """Return timestep, rate so far in bits/dim and RMSE of x0_mean in grey levels, from noise to picture (Ho et al., fig. 5).

    The rate when x_t is known is L_T and the steps above t.
    """
    denoiser = model.bound_denoiser(torch.device("cpu"), "float32")
    timesteps = np.unique(np.rint(np.linspace(0, model.process.timesteps - 1, CURVE)).astype(int))
    levels = model.process.schedule.log_snr[timesteps].tolist()
    rmse = GREY_PER_UNIT * np.sqrt(measure_errors(denoiser, images, identity(), levels, 0).mse.mean(axis=1))
    above = [whole["prior_bpd"] + sum(whole["diffusion_bpd"][t:]) for t in timesteps.tolist()]
    return [[int(t), rate, float(error)] for t, rate, error in zip(timesteps, above, rmse, strict=True)][::-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/ddpm-small"))
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--few-limit", type=int, default=128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = open_folder(options.model)
    images = batches(test_images()[: options.limit])
    whole = bounds(model, images, model.process.timesteps, "even", ("beta-tilde", "beta", "level", "class"))
    curve, closed = progress(model, images, whole["beta"]), closed_prior_bpd(model, images)
    rows: list[list[Any]] = [
        [
            f"{kind} ({options.limit} images)",
            f"{v['prior_bpd']:.2e}",
            v["rate_bpd"],
            v["distortion_bpd"],
            v["total_bpd"],
        ]
        for kind, v in whole.items()
    ]
    rows.append(["Ho et al. 2020, 35.7 M parameters", "-", PAPER_HO["rate"], PAPER_HO["distortion"], PAPER_HO["total"]])
    print(table(["T levels, variance", "L_T", "L_1..T-1", "L_0", "total bits/dim"], rows))
    print(f"\nL_T in closed form: {closed:.6e} bits/dim")
    print(f"RMSE at the cleanest level: {curve[-1][2]:.3f} grey levels (Ho et al.: {PAPER_HO['rmse']})")
    print(table(["t", "rate so far, bits/dim (beta)", "RMSE of x0_mean, 0..255"], [list(row) for row in curve]))
    print(f"standard error of the total with beta: {whole['beta']['stderr_bpd']:.3f}\n")
    few = batches(test_images()[: options.few_limit])
    results: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for levels in LEVELS:
        results["even", levels] = bounds(model, few, levels, "even", ("beta-tilde", "beta", "level", "class"))
        for kind in ("beta", "level", "class"):
            results[f"dp {kind}", levels] = bounds(model, few, levels, "dp", (kind,))
    lines = []
    for label, how, kind in ROWS:
        source = how if how == "even" else f"dp {kind}"
        lines.append(
            [label, *(results[source, levels][kind]["total_bpd"] for levels in LEVELS), whole[kind]["total_bpd"]]
        )
        if label in PAPER_BAO:
            lines.append([f"  Bao et al. 2022: {label}", *PAPER_BAO[label]])
    print(table([f"K ({options.few_limit} images; T: {options.limit})", *map(str, LEVELS), "T"], lines))
    few_results = [entry for found in results.values() for entry in found.values()]
    figures = {"whole": whole, "few": few_results, "closed_prior_bpd": closed, "curve": curve}
    write_json(figures | {"model": str(options.model)}, options.json)


if __name__ == "__main__":
    main()
