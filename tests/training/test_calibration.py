"""Steps of quantisers: the best there are, on the ladders of their streams; and training with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_codec.errors import InputError
from ddpm_codec.nn.codec_net import Layer
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.nn.quantization import BYTE, LARGEST_OFFSET, LOBE, STREAM_LIMIT, WIDE, Quantizer
from ddpm_codec.training import calibration
from ddpm_codec.training.calibration import best_steps, calibrate, measure_reach, run_at_levels
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.export import export_model
from ddpm_codec.training.run import train

LEVELS = torch.tensor([8.0, 2.0, -2.0])


pytestmark = pytest.mark.usefixtures("few_crops")


def crops() -> torch.Tensor:
    return torch.rand((6, 3, 16, 16), generator=torch.Generator().manual_seed(0)) - 0.5


def reach_of(denoiser: CodecDenoiser) -> dict[str, torch.Tensor]:
    return measure_reach(denoiser.net, lambda: run_at_levels(denoiser, crops(), LEVELS))


def readers(denoiser: CodecDenoiser) -> dict[str, Quantizer]:
    layers: dict[str, Layer] = denoiser.net.layers()
    return {name: layer.quantizer for name, layer in layers.items() if layer.quantizer is not None}


def test_the_best_step_beats_others() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.nn.functional.hardswish(3.0 * torch.randn((4000, 2), generator=generator))
    values[:, 1] *= 0.1
    made = Quantizer(2)
    steps = best_steps(values, made)

    def error(step: torch.Tensor) -> torch.Tensor:
        return (made.quantize(values, step) * step - values).square().mean(dim=0)

    for factor in (0.5, 0.7, 1.4, 2.0):
        assert (error(steps) < error(factor * steps)).all()
    assert steps[1] >= LOBE / BYTE


def test_readers_of_a_stream_share_its_unit(alive: CodecDenoiser) -> None:
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    net, found = alive.net, readers(alive)
    for offset, names in (
        (net.outer_offset, ["before.0.first", "after.0.first", "down", "pixel_head", "variance_first"]),
        (net.middle_offset, ["middle.0.first", "middle.1.first", "up"]),
    ):
        assert ((offset % 2 == 0) & (offset >= 2) & (offset <= LARGEST_OFFSET)).all()
        for name in names:
            unit = 4.0 / offset
            finest = 0.75 * (unit if found[name].signed else unit**2 / 8.0)
            power = torch.log2(found[name].step / finest)
            torch.testing.assert_close(power, power.round(), rtol=0, atol=1e-4)
            assert 0 <= power.min() <= power.max() <= 16.01
    for reader in found.values():
        assert (reader.zero_point(reader.step) <= reader.largest).all()


def test_the_lobe_fits_below_the_zero_point_whatever_the_unit() -> None:
    """Steps that would be too fine are moved up the ladder, not to the nearest rung."""
    reader = Quantizer(64)
    reader.step.fill_(1.02 * LOBE / BYTE)
    offsets = torch.arange(200.0, 328.0, 2.0)
    moved = calibration._allowed(reader, offsets)
    assert (reader.zero_point(moved) <= BYTE).all()
    assert (moved < 2.05 * reader.step).all()


def test_streams_have_room_above_what_calibration_saw(alive: CodecDenoiser) -> None:
    reach = torch.zeros(alive.net.config.width)

    def look(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        torch.maximum(reach, output.abs().amax(dim=(0, 2, 3)), out=reach)

    for block in alive.net.after:
        block.register_forward_hook(look)
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    limit = STREAM_LIMIT * 4.0 / alive.net.outer_offset * 0.75
    assert (limit > 1.2 * reach).all()


def test_inputs_that_cost_much_get_two_bytes(alive: CodecDenoiser) -> None:
    found = readers(alive)

    def cost() -> float:
        """Pretend that rounding the input of one layer to a byte costs a tenth of a bit."""
        layer = alive.net.layers()["before.0.second"]
        return 0.1 if layer.quantized and not found["before.0.second"].wide.item() else 0.0

    calibrate(alive, crops(), LEVELS, cost)
    assert {name for name, reader in found.items() if reader.wide.item()} == {"before.0.second"}
    assert found["before.0.second"].largest == WIDE


def test_two_bytes_are_read_no_finer_than_the_stream_is(alive: CodecDenoiser) -> None:
    """A channel that reaches far has a coarse unit; were its activation small, 32 times finer would be a negative shift."""
    bias = alive.net.stem.conv.bias
    assert bias is not None
    bias[:8] = torch.linspace(-20.0, -300.0, 8)
    layer, reader = alive.net.layers()["before.0.first"], readers(alive)["before.0.first"]
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    narrow = reader.step.clone()
    calibrate(alive, crops(), LEVELS, lambda: 0.1 if layer.quantized and not reader.wide.item() else 0.0)
    assert reader.largest == WIDE
    frozen = freeze(alive, LEVELS.double().numpy(), reach_of(alive))
    shift = torch.from_numpy(frozen.layers["before.0.first"].reading.shift)
    torch.testing.assert_close(reader.step, calibration._finest(reader, alive.net.outer_offset) * torch.exp2(shift))
    assert (shift[1:8] == 0).all()
    finer = narrow / 32.0
    assert (reader.step >= finer).all()
    assert torch.equal(reader.step[shift > 0], finer[shift > 0])
    held, holds = ((most - reader.zero_point(step)) * step for most, step in ((BYTE, narrow), (WIDE, reader.step)))
    assert (holds > 0.99 * held).all()


def test_calibration_changes_no_weight_and_repeats(alive: CodecDenoiser) -> None:
    before = {name: value.clone() for name, value in alive.named_parameters()}
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    first = {name: value.clone() for name, value in alive.named_buffers()}
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    for name, value in alive.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    for name, buffer in alive.named_buffers():
        torch.testing.assert_close(buffer, first[name], rtol=0, atol=0)
    assert alive.net.calibrated
    assert not any(layer.quantized for layer in alive.net.layers().values())


def test_reach_is_of_every_layer_and_leaves_no_hooks(alive: CodecDenoiser) -> None:
    calibrate(alive, crops(), LEVELS, lambda: 0.0)
    reach = reach_of(alive)
    layers = alive.net.layers()
    assert reach.keys() == layers.keys()
    assert all(len(reach[name]) == layer.conv.out_channels for name, layer in layers.items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers.values())


def test_a_quantised_run_resumes_exactly(tiny: Callable[..., TrainConfig], rounded_run: Path) -> None:
    whole = load_checkpoint(rounded_run)
    train(tiny(quantize=True, train_steps=2), progress=False)
    halves = load_checkpoint(train(tiny(quantize=True, train_steps=4), progress=False))
    # The learning rates differ: steps of the quantisers, not weights, are compared.
    for key, value in whole.ema.items():
        if key.endswith(("step", "wide", "offset")):
            torch.testing.assert_close(halves.ema[key], value, rtol=0, atol=0)
            assert torch.equal(whole.ema[key], (whole.weights or {})[key])
    assert whole.ema["net.outer_offset"].min() >= 2


def test_training_sees_the_rounding(float_run: Path, rounded_run: Path) -> None:
    first, second = load_checkpoint(float_run), load_checkpoint(rounded_run)
    assert first.weights is not None
    assert second.weights is not None
    assert not torch.equal(first.weights["net.stem.conv.weight"], second.weights["net.stem.conv.weight"])


@pytest.mark.parametrize("quantize", [False, True])
def test_export_is_exact_and_keeps_a_calibration(
    quantize: bool, float_run: Path, rounded_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = rounded_run if quantize else float_run
    calls: list[int] = []
    original = calibration.calibrate_on

    def counted(*args: Any) -> object:  # noqa: ANN401
        calls.append(1)
        return original(*args)

    monkeypatch.setattr("ddpm_codec.training.export.calibrate_on", counted)
    model = export_model(checkpoint, tmp_path / "m.safetensors", name="m", limit=4)
    assert model.arithmetic == "exact"
    assert model.exact is not None
    assert not model.weights
    assert len(calls) == (0 if quantize else 1)
    assert all(len(rows) == steps + 1 for steps, rows in model.rows.items())
    if quantize:
        with pytest.raises(InputError, match="was trained with rounding, so it works in integers only"):
            export_model(checkpoint, tmp_path / "f.safetensors", name="f", limit=4, exact=False)
        return
    floating = export_model(checkpoint, tmp_path / "f.safetensors", name="f", limit=4, exact=False)
    assert floating.arithmetic == "float"
    assert floating.weights
    assert not floating.rows
