"""Question: what does a pixel decoder save, term by term, and which crossing is worth what?

Run: python -m benchmarks.pixel_decoder bound kodak --denoiser D.safetensors --decoder P.safetensors --today T.safetensors
     python -m benchmarks.pixel_decoder crossings photos_val --denoiser D.safetensors --decoder P.safetensors

`bound`: every term of the float bound of a denoiser with the decoder beside that of a float model without, whole pictures.
`crossings`: the decoder at each of its crossings: bits below, bits of the whole, evaluations and multiply-adds a pixel, and
what a lossy picture at the crossing would take by ideal indices. The models are files of `ddpm-codec export --float`.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.diffusion.noise_level import sigma_from_log_snr
from ddpm_codec.evaluation import BoundReport, evaluate_bpd
from ddpm_codec.models.pixel_decoder_model import load_pixel_decoder, pixel_decoder_facts
from ddpm_codec.models.registry import describe, model_id
from ddpm_codec.units import GREY_PER_UNIT

SETS = {"kodak": ("kodak", ""), "photos_val": ("photos_val.zip", ""), "cifar10_test": ("cifar10_test.zip", "32x32")}
"""File and, of sheets, the size of a cell."""


def data_of(name: str) -> str:
    """Return DATA of a set by its name."""
    file, cell = SETS[name]
    path = need(SHARED_DATA / file)
    return f"sheet:{path}:{cell}" if cell else str(path)


def grey_levels(log_snr: float) -> float:
    """Return the noise of a level in grey levels."""
    return GREY_PER_UNIT * float(sigma_from_log_snr(log_snr))


def term_rows(report: BoundReport) -> list[list[Any]]:
    """Return one row a message, cleanest first: what it leads from and to, and its bits."""
    greys = [grey_levels(level) for level in report.chain.log_snr]
    rows: list[list[Any]] = [[f"L_0, from {greys[0]:.2f} grey levels", float(report.reconstruction_bpd.mean())]]
    for index, value in enumerate(report.diffusion_bpd.mean(axis=0).tolist()):
        rows.append([f"step {greys[index + 1]:.2f} -> {greys[index]:.2f}", value])
    rows.append(["L_T", float(report.prior_bpd.mean())])
    return rows


def bound(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print the terms of both models."""
    shared: dict[str, Any] = {"limit": arguments.limit, "tile": arguments.tile}
    data = data_of(arguments.data)
    reports = {
        "today": evaluate_bpd(data, model=str(arguments.today), **shared),
        "with the pixel decoder": evaluate_bpd(
            data,
            model=str(arguments.denoiser),
            decoder=str(arguments.decoder),
            crossing=arguments.crossing,
            steps=arguments.steps,
            **shared,
        ),
    }
    figures: dict[str, Any] = {}
    for name, report in reports.items():
        values = report.to_json()
        print(f"\n{name}: {values['total_bpd']:.4f} bits/dim +- {values['stderr_bpd']:.4f} (bound, no file), ", end="")
        print(f"{values['images']} images, RMSE of the cleanest mean {values['mean_rmse']:.3f} grey levels\n")
        print(table(["message", "bits/dim"], [*term_rows(report), ["sum", values["total_bpd"]]]))
        figures[name] = values
    # What is left of today's bound below the crossing, were the steps above it those of the other chain.
    ours = figures["with the pixel decoder"]
    above = ours["prior_bpd"] + sum(ours["diffusion_bpd"])
    below = {"today": figures["today"]["total_bpd"] - above, "with the pixel decoder": ours["reconstruction_bpd"]}
    crossing = grey_levels(reports["with the pixel decoder"].chain.log_snr[0])
    print(f"\nbelow {crossing:.1f} grey levels: " + ", ".join(f"{name} {value:.4f}" for name, value in below.items()))
    figures["below_crossing_bpd"] = below
    return figures


def crossings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print one row a crossing."""
    decoder = load_pixel_decoder(arguments.decoder)
    facts = pixel_decoder_facts(arguments.decoder)
    decoder_macs = facts["trunk_macs_per_pixel"] + facts["masked_macs_per_pixel"]
    denoiser_macs = describe(arguments.denoiser).macs_per_pixel_per_level
    rows, figures = [], {}
    for crossing in decoder.crossings:
        report = evaluate_bpd(
            data_of(arguments.data),
            model=str(arguments.denoiser),
            decoder=str(arguments.decoder),
            crossing=crossing,
            steps=arguments.steps,
            limit=arguments.limit,
            tile=arguments.tile,
        ).to_json()
        above = report["prior_bpd"] + sum(report["diffusion_bpd"])
        evaluations = report["evaluations"]
        macs = evaluations * denoiser_macs + decoder_macs
        rows.append(
            [
                f"{crossing:g}",
                report["reconstruction_bpd"],
                report["total_bpd"],
                f"{evaluations} + 1",
                f"{macs / 1000:.0f} k",
                3.0 * above,
                report["mean_rmse"],
            ]
        )
        figures[f"{crossing:g}"] = report | {"macs_per_pixel": macs, "lossy_bpp": 3.0 * above}
    headers = ["crossing, grey levels", "L_0 below", "whole bound", "evaluations", "multiply-adds a pixel"]
    print(table([*headers, "bits a pixel at the crossing", "RMSE of m_0"], rows))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bound", "crossings"])
    parser.add_argument("data", choices=sorted(SETS))
    parser.add_argument("--denoiser", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--today", type=Path, help="float model without a decoder, for `bound`")
    parser.add_argument("--crossing", type=float)
    parser.add_argument("--steps", type=int, help="steps above the crossing")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "bound" and arguments.today is None:
        parser.error("bound needs --today")
    figures = bound(arguments) if arguments.what == "bound" else crossings(arguments)
    files = {name: getattr(arguments, name) for name in ("denoiser", "decoder", "today")}
    ids = {name: model_id(path) for name, path in files.items() if path is not None}
    print("\nmodels: " + ", ".join(f"{name} {identity[:12]}" for name, identity in ids.items()))
    write_json({"figures": figures, "models": ids}, arguments.json)


if __name__ == "__main__":
    main()
