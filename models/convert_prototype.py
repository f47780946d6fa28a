"""Weights of the pixel decoder's prototype as a checkpoint that ``train --init-from`` takes.

    python models/convert_prototype.py PROTOTYPE.npz|.pt decoder-64.pt [--crossings 3.2,8.2,20]

The prototype (width 64 after the trunk) had the same convolutions under other names, and two things that integers cannot
hold. Its coefficients were 1.5 tanh(q), where now they are clamped outputs: a slope is taken that fits tanh where trained
q lie, around 0.8. And it predicted a weight and a ratio of the wide component each, where now one place in a table of both is
predicted: the weight decides the place, the ratio is the table's.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.nn.pixel_decoder import TailTable
from ddpm_codec.training.checkpoint import Checkpoint, load_weights, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask

NAMES = (
    ("emb.", "embedding."),
    ("stem.", "stem.conv."),
    ("down.", "down.conv."),
    ("up.", "up.conv."),
    ("head.", "trunk_head.conv."),
    ("mstem.", "masked_stem.conv."),
    ("cond.", "feature_stem.conv."),
    ("out.", "parameter_head.conv."),
)
COEFFICIENT_SLOPE = 1.27
BLOCK_NAMES = ((".m.", ".masked.conv."), (".a.", ".gates.conv."), (".b.", ".mix.conv."))


def unpacked(path: Path) -> dict[str, Tensor]:
    """Return the weights of a .pt, or of an .npz whose large kernels are 10-bit integers in two byte planes."""
    if path.suffix == ".pt":
        state: dict[str, Tensor] = torch.load(path, weights_only=True)
        return state
    arrays, state = np.load(path), {}
    for key in arrays.files:
        name, _, kind = key.partition(":")
        if kind == "low":
            whole = arrays[f"{name}:high"].astype(np.int32) * 256 + arrays[key] - 512
            state[name] = torch.from_numpy(whole * arrays[f"{name}:scale"]).float()
        elif not kind:
            state[name] = torch.from_numpy(arrays[key].astype(np.float32))
    return state


def converted(prototype: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the prototype's weights under the decoder's names; ``own`` are those of a fresh decoder."""
    state, missing = dict(own), set(own)
    for key, value in prototype.items():
        if key.endswith("mask") or key.startswith("shape."):
            continue
        name = next((new + key.removeprefix(old) for old, new in NAMES if key.startswith(old)), key)
        if key.startswith("blocks."):
            name = next((key.replace(old, new) for old, new in BLOCK_NAMES if old in key))
        if name not in state:
            raise KeyError(f"{key}: the prototype has a weight that the decoder lacks")
        state[name] = value
        missing.discard(name)
    made_here = ("tail.", "embedding.frequencies")
    lacking = [name for name in missing if not name.startswith(made_here) and ".quantizer." not in name]
    if lacking:
        raise KeyError(f"{min(lacking)}: the prototype lacks a weight of the decoder")
    table = TailTable(8)
    lowest, step = table.logit[0].item(), table.logit.diff()[0].item()
    for kind in ("weight", "bias"):
        out = state[f"parameter_head.conv.{kind}"].clone()
        out[6:9] *= COEFFICIENT_SLOPE
        place = prototype[f"shape.{kind}"][:3] - (lowest if kind == "bias" else 0.0)
        state[f"parameter_head.conv.{kind}"] = torch.cat([out, place / step])
    return state


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prototype", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--crossings", default="3.2,8.2,20", help="grey levels of noise that it was trained at")
    arguments = parser.parse_args()
    crossings = [float(value) for value in arguments.crossings.split(",")]
    config = TrainConfig.from_dict({"size": "decoder-64", "crossings": crossings})
    network = PixelDecoderTask(config).build(torch.device("cpu"))
    weights = converted(unpacked(arguments.prototype), network.state_dict())
    load_weights(network, weights, str(arguments.prototype))
    save_checkpoint(Checkpoint(config, 0, None, weights, None, 0.0), arguments.output)


if __name__ == "__main__":
    main()
