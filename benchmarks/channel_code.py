"""Question: what does a channel code cost over the KL that it should cost, and in what time?

Run: python -m benchmarks.channel_code [--images 8] [--steps 12] [--json FILE]
CIFAR-10 test images, each coded to the end by indices: blocks of C bits with slack (the best index, or a sampled one) and
trellises of L bits. "indices" is the payload of all steps over the KL along the ideal path (z_s ~ q), "end to end" everything
with x_0 given z_0 over the ideal sum. A second table gives the trellis level by level.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cifar import test_images
from benchmarks.common import Pixels, table, write_json
from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder
from ddpm_codec.codecs.progressive.parameters import SLACK, ProgressiveParameters
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.allocation import COST_BITS, UNCODED, class_costs
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.rate_distortion.milestones import ideal_milestones
from tests.reference.block_code import BlockCode

SEED = 1
MODEL = "cifar10"


def codes() -> list[tuple[str, ChannelCode, float]]:
    """Return name, code, and bits paid for a bit of KL (blocks carry their slack themselves)."""
    found: list[tuple[str, ChannelCode, float]] = []
    for bits, slack in ((10, 2.0), (12, 2.0), (12, 3.0), (15, 2.0), (15, 3.0)):
        found.append((f"block C = {bits}, slack {slack:g}, best", BlockCode(bits, slack), 1.0))
        sampled = BlockCode(bits, slack, np.random.default_rng(SEED))
        found.append((f"block C = {bits}, slack {slack:g}, sampled", sampled, 1.0))
    for bits in (8, 10, 12, 14, 16):
        found.append((f"trellis L = {bits}, {SLACK[bits]:g} bits a bit", TrellisCode(bits), SLACK[bits]))
    return found


def ideal_bits(pixels: Pixels, steps: int) -> list[float]:
    """Return the cumulative KL of an image's levels, noisiest first, and at last with x_0."""
    picture = Picture(PictureInfo("x.png", "RGB", (32, 32)), pixels.tobytes())
    found = ideal_milestones(picture, model=MODEL, device="cpu", steps=steps, reconstructions=())
    return [milestone.bits for milestone in found]


def encode(session: CodingSession, pixels: Pixels, code: ChannelCode, slack: float) -> dict[str, Any]:
    """Return bits by level, bits in all, and what was spent in coefficients that expect two bits or more."""
    parameters = ProgressiveParameters(session.crossing, session.steps, code.register_bits)
    encoder = ProgressiveEncoder(session.chain, pixel_code(session), parameters, pixels, code=code, slack=slack)
    by_level: dict[int, list[float]] = {}
    dear = expected = 0
    while not encoder.walk.finished:
        classes = encoder.walk.message()
        costs = class_costs()[classes[classes < UNCODED]]
        expected += int(costs.sum())
        dear += int(costs[costs >= 2 << COST_BITS].sum())
        message = encoder.message()
        paid = by_level.setdefault(message.level, [0.0, 0.0])
        paid[0] += 8 * len(message.data)
        paid[1] += message.ideal_bits
    end = 8 * sum(len(section.payload) for section in encoder.tiles())
    indices = sum(paid for paid, _ in by_level.values())
    return {"levels": by_level, "indices": indices, "total": indices + end, "dear": dear / expected}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    images = test_images()
    chosen = images[np.random.default_rng(SEED).permutation(len(images))[: options.images]]
    session = CodingSession.for_encoding(MODEL, "cpu", options.steps)
    ideal = np.array([ideal_bits(pixels, options.steps) for pixels in chosen])
    steps, total = float(ideal[:, -2].sum()), float(ideal[:, -1].sum())
    rows, results = [], []
    for name, code, slack in codes():
        started = time.perf_counter()
        coded = [encode(session, np.ascontiguousarray(pixels), code, slack) for pixels in chosen]
        seconds = (time.perf_counter() - started) / len(chosen)
        over = [100 * (sum(c[key] for c in coded) / limit - 1) for key, limit in (("indices", steps), ("total", total))]
        rows.append([name, *over, seconds])
        results.append({"code": name, "indices_over_percent": over[0], "total_over_percent": over[1], "s": seconds})
        print(rows[-1], flush=True)
    print(table(["code", "indices, % over KL", "end to end, % over", "s an image"], rows))
    last = coded
    levels = sorted(last[0]["levels"], reverse=True)
    per_level = [
        [
            level,
            float(np.sum([c["levels"][level][1] for c in last])),
            float(np.sum([c["levels"][level][0] for c in last])),
        ]
        for level in levels
    ]
    dims = chosen.size
    print(f"level by level, {rows[-1][0]}")
    print(
        table(
            ["to level", "KL on the path, bits/dim", "paid, bits/dim", "% over"],
            [[level, kl / dims, paid / dims, 100 * (paid / kl - 1)] for level, kl, paid in per_level],
        )
    )
    print(
        f"share of expected bits in coefficients that expect two bits or more: {np.mean([c['dear'] for c in last]):.5f}"
    )
    write_json({"rows": results, "levels": per_level, "ideal_bpd": total / dims}, options.json)


if __name__ == "__main__":
    main()
