"""Question: what does a model lose in bits/dim by being exact?

Run: python -m benchmarks.quantization_loss --float cifar10_float.pt [--model cifar10] [--limit 1000] [--json FILE]
The bound over the chain of the shipped model, same pictures and same noise, for: the network in float32 as it was before any
quantisation; that network made exact without further training (calibrated on training pictures by ``export``, where --plain
names the file); the model that ships. Standard errors are of the differences, over pictures.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.image_io import read_picture
from ddpm_codec.models import find_model
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.denoiser import MixedPrecision
from ddpm_codec.nn.exact.bound import ExactBoundDenoiser
from ddpm_codec.nn.exact.executor import make_executor
from ddpm_codec.training.checkpoint import build_denoiser, load_checkpoint, load_weights

CPU = torch.device("cpu")


def pictures(model: str, limit: int) -> list[torch.Tensor]:
    """Return the test pictures of a shipped model in model values: CIFAR-10, or the middle 512x512 of Kodak photos."""
    if model == "cifar10":
        values = np.ascontiguousarray(test_images()[:limit].transpose(0, 3, 1, 2))
        return list((torch.from_numpy(values).float() / 127.5 - 1.0).split(64))
    found = []
    for path in sorted(need(SHARED_DATA / "kodak").glob("*.png"))[:limit]:
        grey = read_rgb(path)
        top, left = (grey.shape[0] - 512) // 2, (grey.shape[1] - 512) // 2
        tiles = grey[top : top + 512, left : left + 512].reshape(2, 256, 2, 256, 3).transpose(0, 2, 4, 1, 3)
        found.append(torch.from_numpy(np.ascontiguousarray(tiles.reshape(4, 3, 256, 256))).float() / 127.5 - 1.0)
    return found


def read_rgb(path: Path) -> np.ndarray:
    """Return a picture file as [H, W, 3] uint8."""
    picture = read_picture(path)
    width, height = picture.size
    return np.frombuffer(picture.pixels, np.uint8).reshape(height, width, 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar10", choices=["cifar10", "photo"])
    parser.add_argument(
        "--float", dest="floating", type=Path, required=True, help="docs/MODELS.md tells where the float networks are"
    )
    parser.add_argument(
        "--plain", type=Path, help="the float network, exported exact without training under quantisation"
    )
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    frozen = load_model(find_model(options.model))
    saved = load_checkpoint(need(options.floating))
    network = build_denoiser(saved.config)
    load_weights(network, saved.ema, "checkpoint")
    variants: dict[str, Denoiser] = {"float32": MixedPrecision(network.place(CPU).eval(), "float32")}
    if options.plain:
        plain = load_model(options.plain)
        variants["exact, not trained further"] = exact(plain)
    variants[f"exact, shipped ({options.model})"] = exact(frozen)
    chain = Chain.from_sigmas(frozen.chain_sigmas())
    prior = PriorModel(frozen.prior_mean, frozen.prior_variance)
    batches = pictures(options.model, options.limit)
    rows, totals = [], {}
    for name, denoiser in variants.items():
        terms = evaluate_bound(denoiser, batches, by_name(frozen.transform), chain, prior, seed=0)
        totals[name] = terms.total_bpd
        loss = terms.total_bpd - totals["float32"]
        error = float(loss.std(ddof=1) / np.sqrt(len(loss)))
        rows.append([name, terms.mean_bpd, float(loss.mean()), error])
        print(rows[-1], flush=True)
    print(table(["network", "bound, bits/dim", "above float32", "standard error"], rows))
    write_json({"model": options.model, "pictures": sum(map(len, batches)), "rows": rows}, options.json)


def exact(frozen: FrozenModel) -> Denoiser:
    """Return the exact denoiser of a model, at all its levels."""
    if frozen.exact is None:
        raise SystemExit(f"{frozen.name} is not exact")
    levels = tuple(frozen.grid_log_snr.tolist())
    return ExactBoundDenoiser(make_executor(frozen.exact, CPU), tuple(range(len(levels))), levels)


if __name__ == "__main__":
    main()
