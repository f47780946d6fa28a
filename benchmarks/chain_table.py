"""Question: how does the bound fall with the number of levels K, by dynamic programming and by even spacing, and with W = 1?

Run: python -m benchmarks.chain_table --model FILE [--limit 1000] [--json FILE]
For models without a pixel decoder; of others, `ddpm-codec bpd --steps K` prints the bound over each chain. Chains of the
model are those in its file (chosen on training images). For W = identity the same network is used with one calibrated
variance a level, as a DDPM without a variance head would be (chains chosen and calibrated on training images).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cifar import test_images
from benchmarks.cifar import train_images as cifar_train
from benchmarks.common import table, write_json
from ddpm_codec.device import preferred_dtype
from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import Chain, select_chain
from ddpm_codec.diffusion.measurement import LevelMeasurement, measure_levels
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import BlockTransform, by_name, identity
from ddpm_codec.models import find_model
from ddpm_codec.models.model_file import load_model

STEPS = (4, 8, 12, 16, 32)


def batches(images: np.ndarray, size: int = 64) -> list[torch.Tensor]:
    """Return model values in batches."""
    values = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1
    return list(values.split(size))


def calibrate(denoiser: Denoiser, transform: BlockTransform, grid: np.ndarray) -> tuple[LevelMeasurement, PriorModel]:
    """Measure levels and prior on 256 training images."""
    train = cifar_train()[:2000]
    prior = PriorModel.fit(batches(train), transform)
    gap = float(grid[0] - grid[-1])
    return measure_levels(denoiser, batches(train[:256]), transform, grid.tolist(), prior, seed=0, max_gap=gap), prior


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    frozen = load_model(find_model(options.model))
    if frozen.crossings:
        raise SystemExit(f"{options.model} ends in a pixel decoder: see ddpm-codec bpd --steps K")
    device = torch.device("cpu")
    denoiser = frozen.bound_denoiser(device, preferred_dtype(device))
    images = batches(test_images()[: options.limit])
    rows: list[dict[str, Any]] = []

    def bound(name: str, transform: BlockTransform, prior: PriorModel, chains: dict[int, Chain], **kwargs: Any) -> None:  # noqa: ANN401 - handed on
        for steps, chain in chains.items():
            terms = evaluate_bound(denoiser, images, transform, chain, prior, **kwargs)
            rows.append({"chain": name, "steps": steps, "bpd": terms.mean_bpd, "stderr": terms.stderr_bpd})
            print(rows[-1], flush=True)

    block = by_name(frozen.transform)
    prior = PriorModel(frozen.prior_mean, frozen.prior_variance)
    chosen = {k: Chain.from_sigmas(frozen.chain_sigmas(k)) for k in STEPS}
    bound("W, DP", block, prior, chosen)
    even = {k: frozen.even_chain(k) for k in STEPS}
    bound("W, even", block, prior, even)
    measured, plain_prior = calibrate(denoiser, identity(), frozen.grid_log_snr)
    level = measured.table("level")
    plain = {k: select_chain(level, k) for k in STEPS}
    calibrated = {"variance": "level", "calibration": measured.calibration}
    bound("identity, DP", identity(), plain_prior, plain, **calibrated)
    bound("identity, even", identity(), plain_prior, even, **calibrated)
    names = list(dict.fromkeys(row["chain"] for row in rows))
    values = {(row["chain"], row["steps"]): row["bpd"] for row in rows}
    print(
        table(["bound, bits/dim", *(f"K = {k}" for k in STEPS)], [[n, *(values[n, k] for k in STEPS)] for n in names])
    )
    write_json({"rows": rows, "model": options.model, "images": options.limit}, options.json)


if __name__ == "__main__":
    main()
