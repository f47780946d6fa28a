"""Question: how fast does the picture arrive? Rate and RMSE level by level, as in figure 5 of Ho et al. 2020.

Run: python -m benchmarks.figure5 [--images 100] [--steps 16] [--plot FILE.png] [--json FILE]
CIFAR-10 test images. Rate is cumulative, in bits/dim: "KL" of a perfect channel code along z_s ~ q, "paid" the bytes of real
parts, without the head of a file. RMSE is on 0..255, of the mean reconstruction, over all images. The published figures are
those of a 35.7 M-parameter network with 1,000 steps; ours codes every level in real bytes.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cifar import test_images
from benchmarks.common import Pixels, table, write_json
from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.progressive.reconstruction import MEAN
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.rate_distortion.milestones import ideal_milestones

SEED = 3
MODEL = "cifar10"
REGISTER = 12
PUBLISHED = ((0.0072, 38.0), (0.0151, 30.8), (0.0542, 18.5), (0.1199, 12.0), (1.7758, 0.95))
"""Bits/dim and RMSE of Ho et al. 2020, figure 5."""


def squared_error(found: Pixels, pixels: Pixels) -> float:
    """Return the mean squared error."""
    return float(np.mean((found.astype(np.float64) - pixels) ** 2))


def ideal_curve(pixels: Pixels, steps: int) -> list[tuple[float, float]]:
    """Return cumulative bits/dim and squared error at every level, noisiest first."""
    picture = Picture(PictureInfo("x.png", "RGB", (32, 32)), pixels.tobytes())
    found = ideal_milestones(picture, model=MODEL, device="cpu", steps=steps, reconstructions=(MEAN,))[:-1]
    return [(m.bits / pixels.size, squared_error(m.pictures[MEAN], pixels)) for m in found]


def real_curve(session: CodingSession, pixels: Pixels) -> list[tuple[float, float]]:
    """Return the same for real messages."""
    parameters = ProgressiveParameters(session.crossing, session.steps, REGISTER)
    encoder = ProgressiveEncoder(session.chain, pixel_code(session), parameters, pixels)
    bits, curve = 0, []
    while not encoder.walk.finished:
        bits += 8 * len(encoder.message().data)
        if encoder.walk.at_level_end:
            curve.append((bits / pixels.size, squared_error(encoder.mean(), pixels)))
    return curve


def plot(rows: list[list[Any]], path: Path) -> None:
    """Draw RMSE against rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.plot([row[2] for row in rows], [row[3] for row in rows], "o-", label="cifar10, bytes paid")
    axes.plot([row[0] for row in rows], [row[1] for row in rows], "--", label="cifar10, KL")
    axes.plot(*zip(*PUBLISHED, strict=True), "s:", label="Ho et al. 2020 (KL)")
    axes.set_xscale("log")
    axes.set_xlabel("rate, bits/dim")
    axes.set_ylabel("RMSE on 0..255")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    images = test_images()
    chosen = images[np.random.default_rng(SEED).permutation(len(images))[: options.images]]
    session = CodingSession.for_encoding(MODEL, "cpu", options.steps)
    ideal = np.array([ideal_curve(np.ascontiguousarray(x), options.steps) for x in chosen]).mean(axis=0)
    real = np.array([real_curve(session, np.ascontiguousarray(x)) for x in chosen]).mean(axis=0)
    rows = [
        [float(a), float(np.sqrt(b)), float(c), float(np.sqrt(d))] for (a, b), (c, d) in zip(ideal, real, strict=True)
    ]
    columns = ["KL, bits/dim", "RMSE", "paid, bits/dim", "RMSE"]
    print(table(["level", *columns], [[len(rows) - 1 - i, *row] for i, row in enumerate(rows)]))
    print(table(["published, bits/dim", "RMSE"], [list(pair) for pair in PUBLISHED]))
    if options.plot is not None:
        plot(rows, options.plot)
    write_json({"rows": rows, "images": options.images, "published": PUBLISHED}, options.json)


if __name__ == "__main__":
    main()
