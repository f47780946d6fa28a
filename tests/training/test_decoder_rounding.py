"""Pixel decoders with rounding: calibration, units of three streams, runs, checkpoints from before."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.nn.pixel_decoder import DECODERS, PixelDecoder
from ddpm_codec.nn.quantization import LARGEST_OFFSET, STREAM_LIMIT, WIDE, Quantizer
from ddpm_codec.training import calibration, pixel_decoder_task
from ddpm_codec.training.calibration import measure_reach
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.decoder_calibration import calibrate_decoder, calibrate_decoder_on, decoder_bits
from ddpm_codec.training.export_checkpoint import export_checkpoint, export_pixel_decoder
from ddpm_codec.training.run import train
from ddpm_codec.training.trainer import Trainer

Make = Callable[..., TrainConfig]

pytestmark = pytest.mark.usefixtures("few_crops")

LEVELS = torch.tensor([log_snr_at(3.2), log_snr_at(20.0)])
OFFSETS = ("outer_offset", "middle_offset", "masked_offset")


def crops() -> Tensor:
    greys = torch.randint(0, 256, (8, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    return (greys / 127.5 - 1.0).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


@pytest.fixture(scope="session")
def alive_decoder() -> PixelDecoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PixelDecoder(DECODERS["decoder-tiny"]).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture
def network(alive_decoder: PixelDecoder) -> PixelDecoder:
    """A decoder whose branches and heads are not zero."""
    return copy.deepcopy(alive_decoder)


@pytest.fixture(scope="session")
def calibrated_decoder(alive_decoder: PixelDecoder) -> PixelDecoder:
    network = copy.deepcopy(alive_decoder)
    calibrate_decoder(network, crops(), LEVELS, 4)
    return network


@pytest.fixture
def calibrated(calibrated_decoder: PixelDecoder) -> PixelDecoder:
    return copy.deepcopy(calibrated_decoder)


@pytest.fixture
def decoder(tiny: Make) -> Make:
    def make(**values: Any) -> TrainConfig:  # noqa: ANN401
        return tiny(**({"size": "decoder-tiny", "crossings": [3.2, 20.0], "train_steps": 2} | values))

    return make


def quantizer(network: PixelDecoder, name: str) -> Quantizer:
    found = network.layers()[name].quantizer
    assert found is not None
    return found


def test_readers_of_each_stream_share_its_unit(calibrated: PixelDecoder) -> None:
    expected = {
        "outer": {"before.0.first", "after.0.first", "down", "trunk_head"},
        "middle": {"middle.0.first", "up"},
        "masked": {"blocks.0.gates", "blocks.1.masked", "parameter_head"},
    }
    assert {name: set(stream.readers) for name, stream in calibrated.streams().items()} == expected
    for name, readers in expected.items():
        offset = calibrated.get_buffer(f"{name}_offset")
        assert ((offset % 2 == 0) & (offset >= 2) & (offset <= LARGEST_OFFSET)).all()
        for reader in readers:
            read = quantizer(calibrated, reader)
            power = torch.log2(read.step / calibration._finest(read, offset))
            torch.testing.assert_close(power, power.round(), rtol=0, atol=1e-4)
            assert 0 <= power.min() <= power.max() <= 16.01
    steps = {name: layer.quantizer.step for name, layer in calibrated.layers().items() if layer.quantizer is not None}
    assert calibrated.layers().keys() - steps.keys() == {"stem", "masked_stem", "step_stem"}
    assert all((step > 0).all() for step in steps.values())


def test_the_masked_stream_has_room_above_what_calibration_saw(network: PixelDecoder) -> None:
    reach = torch.zeros(network.config.channels)

    def look(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for values in (inputs[0], output):
            torch.maximum(reach, values.abs().amax(dim=(0, 2, 3)), out=reach)

    handles = [block.register_forward_hook(look) for block in network.blocks]
    decoder_bits(network, crops(), LEVELS)
    for handle in handles:
        handle.remove()
    calibrate_decoder(network, crops(), LEVELS, 4)
    assert (STREAM_LIMIT * 0.75 * 4.0 / network.masked_offset > 1.2 * reach).all()


def test_rounding_to_a_byte_where_that_costs_much_becomes_two(
    network: PixelDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = network.layers()["blocks.1.mix"]
    read = quantizer(network, "blocks.1.mix")

    def cost(_: PixelDecoder, x_0: Tensor, log_snr: Tensor) -> float:
        """Measure as ever on all crops; on four, say that one layer costs a tenth of a bit."""
        if len(x_0) > 4:
            return decoder_bits(network, x_0, log_snr)
        return 0.1 if costly.quantized and not read.wide.item() else 0.0

    monkeypatch.setattr("ddpm_codec.training.decoder_calibration.decoder_bits", cost)
    calibrate_decoder(network, crops(), LEVELS, 4)
    wide = {name for name, layer in network.layers().items() if layer.quantizer is not None and layer.quantizer.wide}
    assert wide == {"blocks.1.mix"}
    assert read.largest == WIDE


def test_calibration_changes_no_weight_and_repeats(network: PixelDecoder) -> None:
    before = {name: value.clone() for name, value in network.named_parameters()}
    calibrate_decoder(network, crops(), LEVELS, 4)
    first = {name: value.clone() for name, value in network.named_buffers()}
    calibrate_decoder(network, crops(), LEVELS, 4)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert all(torch.equal(value, first[name]) for name, value in network.named_buffers())
    assert network.calibrated
    assert not any(layer.quantized for layer in network.layers().values())


def test_reach_is_of_every_layer(calibrated: PixelDecoder) -> None:
    reach = measure_reach(calibrated, lambda: decoder_bits(calibrated, crops(), LEVELS))
    layers = calibrated.layers()
    assert reach.keys() == layers.keys()
    assert all(len(reach[name]) == layer.conv.out_channels for name, layer in layers.items())
    assert not any(layer.quantized or layer._forward_hooks for layer in layers.values())


def test_a_run_begins_with_a_calibration_and_goes_on_with_it(
    decoder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> None:  # noqa: ANN401
        calls.append(1)
        calibrate_decoder_on(*arguments)

    monkeypatch.setattr(pixel_decoder_task, "calibrate_decoder_on", counted)
    floating = train(decoder(output=str(tmp_path / "float")), progress=False)
    assert not any(load_checkpoint(floating).ema[name].any() for name in OFFSETS)
    rounded = {"quantize": True, "output": str(tmp_path / "rounded")}
    last = train(decoder(**rounded, init_from=str(floating)), progress=False)
    first = load_checkpoint(last)
    assert len(calls) == 1
    assert all(first.ema[name].min() >= 2 for name in OFFSETS)
    train(decoder(**rounded, init_from=str(floating), train_steps=3), progress=False)
    export_checkpoint(last, tmp_path / "small.pt")
    next_run = {"quantize": True, "output": str(tmp_path / "next"), "init_from": str(tmp_path / "small.pt")}
    second = load_checkpoint(train(decoder(**next_run, seed=5), progress=False))
    assert len(calls) == 1
    chosen = [key for key in first.ema if key.endswith(("step", "wide", "offset"))]
    assert len(chosen) == 2 * len(DECODERS["decoder-tiny"].to_dict()) + 23
    for key in chosen:
        assert torch.equal(second.ema[key], first.ema[key])
        assert torch.equal(first.ema[key], (first.weights or {})[key])
    with pytest.raises(ModelError, match="was trained with rounding"):
        train(decoder(init_from=str(last), output=str(tmp_path / "other")), progress=False)
    with pytest.raises(InputError, match="was trained with rounding, so it works in integers only"):
        export_pixel_decoder(last, tmp_path / "x.safetensors", name="x")


def test_training_and_validation_see_the_rounding(decoder: Make, calibrated: PixelDecoder) -> None:
    trainer = Trainer(decoder(quantize=True), torch.device("cpu"), 0, 1)
    for each in (trainer.denoiser, trainer.average):
        each.load_state_dict(calibrated.state_dict())
    trainer.prepare()
    network, average = trainer.denoiser, trainer.average
    assert isinstance(network, PixelDecoder)
    assert isinstance(average, PixelDecoder)
    assert all(layer.quantized for each in (network, average) for layer in each.layers().values())
    before = trainer.validate()["validation_bpd"]
    average.quantize(False)
    assert trainer.validate()["validation_bpd"] != before
    average.quantize(True)
    assert trainer.validate()["validation_bpd"] == before
    old = {name: value.clone() for name, value in network.named_parameters()}
    trainer.advance()
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, old[name])}
    assert moved == old.keys()


def test_a_decoder_from_before_there_were_units_is_one_without_calibration(
    decoder: Make, network: PixelDecoder, tmp_path: Path
) -> None:
    weights = {key: value for key, value in network.state_dict().items() if not key.endswith("_offset")}
    config = decoder()
    save_checkpoint(Checkpoint(config, 5, None, weights, None, 0.0), tmp_path / "old.pt")
    load_weights(network, load_checkpoint(tmp_path / "old.pt").ema, "old")
    assert not network.calibrated
    train(decoder(init_from=str(tmp_path / "old.pt")), progress=False)
    model = export_pixel_decoder(tmp_path / "old.pt", tmp_path / "old.safetensors", name="old")
    without = type(model)(model.name, "", model.config, model.crossings, weights)
    assert not without.network(torch.device("cpu")).calibrated
    del weights["blocks.1.mix.quantizer.step"]
    with pytest.raises(ModelError, match=r"'blocks\.1\.mix\.quantizer\.step' is missing"):
        load_weights(network, weights, "old")


def test_the_trunk_of_a_rounded_denoiser_is_calibrated_anew(
    tiny: Make, decoder: Make, rounded_run: Path, tmp_path: Path
) -> None:
    """It brings units of its own streams, and none for that of the masked network."""
    config = decoder(quantize=True, init_from=str(rounded_run), output=str(tmp_path / "run"))
    given, found = load_checkpoint(rounded_run).ema, load_checkpoint(train(config, progress=False)).ema
    assert found["masked_offset"].min() >= 2
    assert not torch.equal(found["after.0.first.quantizer.step"], given["net.after.0.first.quantizer.step"])


def test_steps_hold_the_lobe(calibrated: PixelDecoder) -> None:
    for name, layer in calibrated.layers().items():
        if layer.quantizer is not None:
            assert (layer.quantizer.zero_point(layer.quantizer.step) <= layer.quantizer.largest).all(), name
