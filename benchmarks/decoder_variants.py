"""Question: how wide must the masked network be, and what does the shape of the tail save?

Run: python -m benchmarks.decoder_variants RUN... [--denoiser D.safetensors] [--data photos_val kodak] [--json FILE]

Each RUN is the folder of a `ddpm-codec train` of a pixel decoder; its averaged weights are priced on the centre crops of the
pictures of each set, at every crossing, with the same noise for all; with --denoiser (a file of `export --float`) also the
RMSE of m_0 beside that of the denoiser's mean, given the same z_0. docs/RESULTS.md has the training commands. Kodak is
reported, never chosen on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import table, write_json
from benchmarks.pixel_decoder import SETS, data_of
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.measurement import draw_noise, image_generators
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.image_sets import open_images
from ddpm_codec.models.model_file import load_model
from ddpm_codec.models.pixel_decoder_model import MixedPrecisionPixelDecoder
from ddpm_codec.nn.pixel_decoder import PixelDecoder, masked_macs_per_pixel
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, load_weights
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask
from ddpm_codec.units import GREY_PER_UNIT

CPU = torch.device("cpu")


def centre_crops(name: str, side: int) -> list[np.ndarray]:
    """Return the middle of every picture of a set, [1, 3, side, side] uint8 each."""
    crops = []
    for picture in open_images(data_of(name)):
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        crops.append(picture[top : top + side, left : left + side].transpose(2, 0, 1)[None])
    return crops


def network_of(checkpoint: Checkpoint, source: Path) -> PixelDecoder:
    """Return the averaged network of a run."""
    network = PixelDecoderTask(checkpoint.config).build(CPU)
    load_weights(network, checkpoint.ema, str(source))
    if not isinstance(network, PixelDecoder):
        raise TypeError(f"{source}: no pixel decoder")
    return network.eval().requires_grad_(False)


def noised(crop: np.ndarray, index: int, crossing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x_0 and z_0 of a crop; its noise depends on its index alone."""
    x_0 = to_model_values(np.ascontiguousarray(crop), CPU)
    return x_0, x_0 + crossing / GREY_PER_UNIT * draw_noise(x_0, image_generators(0, index, 1))


def denoiser_rmse(path: Path, crops: list[np.ndarray], crossing: float) -> float:
    """Return the RMSE of a denoiser's mean in grey levels, where `price` measures m_0."""
    denoiser, level = load_model(path).denoiser(CPU), torch.tensor([log_snr_at(crossing)])
    squares = []
    for index, crop in enumerate(crops):
        x_0, z_0 = noised(crop, index, crossing)
        squares.append((x_0 - denoiser.predict_scaled(z_0, level).x0_mean).double().square().mean().item())
    return float(GREY_PER_UNIT * np.sqrt(np.mean(squares)))


def price(likelihood: MixedPrecisionPixelDecoder, crops: list[np.ndarray], crossing: float) -> tuple[float, float]:
    """Return L_0 in bits/dim and the RMSE of m_0 in grey levels, means over the crops."""
    bits, squares = [], []
    level = log_snr_at(crossing)
    for index, crop in enumerate(crops):
        x_0, z_0 = noised(crop, index, crossing)
        parameters, maps = likelihood.parameters_given(z_0, torch.tensor([level]), x_0)
        bits.append(-parameters.log_likelihood(x_0, torch.float64).mean().item() / np.log(2))
        squares.append((x_0 - maps.mean).double().square().mean().item())
    return float(np.mean(bits)), float(GREY_PER_UNIT * np.sqrt(np.mean(squares)))


def validation_of(run: Path) -> float | None:
    """Return the last validation bound in a run's log."""
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found: list[float] = [line["validation_bpd"] for line in lines if "validation_bpd" in line]
    return found[-1] if found else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--denoiser", type=Path)
    parser.add_argument("--data", nargs="+", choices=sorted(SETS), default=["photos_val", "kodak"])
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sets = {name: centre_crops(name, arguments.crop) for name in arguments.data}
    figures: dict[str, Any] = {}
    headers: list[str] = []
    rows = []
    for run in arguments.runs:
        checkpoint = load_checkpoint(run)
        config = checkpoint.config
        network = network_of(checkpoint, run)
        likelihood = MixedPrecisionPixelDecoder(network, "float32")
        found: dict[str, Any] = {"steps": checkpoint.step, "minutes": checkpoint.seconds / 60.0}
        found["held_out_bpd"] = validation_of(run) if run.is_dir() else None
        row: list[Any] = [f"{config.size}, {config.tail}", f"{masked_macs_per_pixel(network.config):,}"]
        row += [checkpoint.step, f"{found['minutes']:.0f}", found["held_out_bpd"] or "-"]
        headers = ["network", "multiply-adds a pixel after the trunk", "steps", "minutes", "held out"]
        for name, crops in sets.items():
            priced = {f"{crossing:g}": price(likelihood, crops, crossing) for crossing in config.crossings}
            found[name] = {crossing: {"bpd": bpd, "mean_rmse": rmse} for crossing, (bpd, rmse) in priced.items()}
            headers += [f"{name} at {crossing}" for crossing in priced]
            row += [bpd for bpd, _ in priced.values()]
        rows.append(row)
        figures[str(run)] = found
    print(table(headers, rows))
    if arguments.denoiser:
        print_means(figures, sets, arguments.denoiser)
    write_json({"figures": figures}, arguments.json)


def print_means(figures: dict[str, Any], sets: dict[str, list[np.ndarray]], denoiser: Path) -> None:
    """Print the RMSE of m_0 of every run beside the denoiser's."""
    rows = []
    for name, crops in sets.items():
        for crossing in next(iter(figures.values()))[name]:
            theirs = denoiser_rmse(denoiser, crops, float(crossing))
            for run in figures:
                own = figures[run][name][crossing]["mean_rmse"]
                figures[run][name][crossing]["denoiser_rmse"] = theirs
                rows.append([name, crossing, run, own, theirs, f"{100 * (own / theirs - 1):+.1f} %"])
    print()
    print(table(["set", "crossing", "run", "RMSE of m_0", "of the denoiser's mean", "difference"], rows))


if __name__ == "__main__":
    main()
