"""The script that turns the prototype's weights into a checkpoint: every name finds its place."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ddpm_codec.nn.pixel_decoder import DECODERS, PixelDecoder
from ddpm_codec.training.checkpoint import load_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "models" / "convert_prototype.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_prototype", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_weights(size: str) -> dict[str, Tensor]:
    network = PixelDecoder(DECODERS[size])
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.state_dict()


def as_prototype(weights: dict[str, Tensor], script: ModuleType) -> dict[str, Tensor]:
    """Undo names, slope and places of the table, with ratios that nobody reads."""
    lowest, step = -8.0, 8.5 / 7
    found = {}
    for key, value in weights.items():
        if key.startswith(("tail.", "embedding.frequencies")) or ".quantizer." in key:
            continue
        name = next((old + key.removeprefix(new) for old, new in script.NAMES if key.startswith(new)), key)
        if key.startswith("blocks."):
            name = next(key.replace(new, old) for old, new in script.BLOCK_NAMES if new in key)
        found[name] = value
    for kind in ("weight", "bias"):
        out = found[f"out.{kind}"].clone()
        place = out[9:] * step + (lowest if kind == "bias" else 0.0)
        out[6:9] /= script.COEFFICIENT_SLOPE
        found[f"out.{kind}"] = out[:9]
        found[f"shape.{kind}"] = torch.cat([place, torch.zeros_like(place)])
    return found


def test_conversion_undoes_the_prototypes_names(script: ModuleType) -> None:
    weights = random_weights("decoder-tiny")
    own = PixelDecoder(DECODERS["decoder-tiny"]).state_dict()
    converted = script.converted(as_prototype(weights, script), own)
    assert converted.keys() == weights.keys()
    for key, value in weights.items():
        if not key.startswith("tail."):
            torch.testing.assert_close(converted[key], value, rtol=1e-5, atol=1e-6)


def test_weights_that_are_missing_or_unknown(script: ModuleType) -> None:
    weights = random_weights("decoder-tiny")
    prototype = as_prototype(weights, script)
    with pytest.raises(KeyError, match="the prototype lacks a weight"):
        script.converted({key: value for key, value in prototype.items() if key != "cond.weight"}, weights)
    with pytest.raises(KeyError, match="has a weight that the decoder lacks"):
        script.converted(prototype | {"more": torch.zeros(1)}, weights)


def test_the_script_writes_a_checkpoint(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights("decoder-64")
    torch.save(as_prototype(weights, script), tmp_path / "prototype.pt")
    words = [str(SCRIPT), str(tmp_path / "prototype.pt"), str(tmp_path / "start.pt"), "--crossings", "8.2"]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    checkpoint = load_checkpoint(tmp_path / "start.pt")
    assert (checkpoint.config.size, checkpoint.config.crossings) == ("decoder-64", (8.2,))
    torch.testing.assert_close(checkpoint.ema["stem.conv.weight"], weights["stem.conv.weight"])
