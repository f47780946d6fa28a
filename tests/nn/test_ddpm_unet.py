"""The U-Net: the papers' sizes, and each part against its formula written out."""

import json
import math
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig
from ddpm_codec.nn.ddpm_unet.blocks import (
    Attention,
    Downsample,
    ResidualBlock,
    TimeEmbedding,
    Upsample,
    time_features,
)
from ddpm_codec.nn.ddpm_unet.config import UNETS, Conditioning, Resample, TimeFeatures

SMALL: dict[str, Any] = {"widths": (8, 16), "blocks": 1, "groups": 4, "time_channels": 8}


Kind = TypeVar("Kind", bound=nn.Module)


def shaken(module: Kind, size: float = 0.2) -> Kind:
    """Add noise to every weight, so that nothing is zero, as it is at the start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)
    return module


def inputs(side: int = 8, width: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, 3, side, width, generator=generator), torch.tensor([3.0, 700.0])


@pytest.mark.parametrize(
    ("name", "count"), [("ddpm-cifar10", 35_746_307), ("ddpm-256", 113_673_219), ("iddpm-cifar10", 52_546_438)]
)
def test_parameters_of_the_papers(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in UNet(UNETS[name]).parameters()) == count


@pytest.mark.parametrize("name", UNETS)
@pytest.mark.parametrize("learned_range", [False, True])
def test_shapes_of_every_preset(name: str, learned_range: bool) -> None:
    config = UNetConfig(**{**vars(UNETS[name]), "learned_range": learned_range})
    with torch.device("meta"):
        network = UNet(config)
        for height, width in ((32, 32), (config.stride, 3 * config.stride)):
            output = network(torch.zeros(2, 3, height, width), torch.zeros(2))
            assert output.shape == (2, 6 if learned_range else 3, height, width)
    halvings = sum(isinstance(module, Downsample) for module in network.modules())
    assert config.stride == 2**halvings == 2 ** (len(config.widths) - 1)
    assert config.out_channels == (6 if learned_range else 3)


def test_attention_where_it_is_asked_for() -> None:
    network = UNet(UNetConfig(**SMALL | {"widths": (8, 16, 16), "blocks": 2, "attention": (1,)}))
    for stages, counts in ((network.down, [0, 2, 0]), (network.up, [0, 3, 0])):
        assert [sum(isinstance(layer, Attention) for layer in stage.modules()) for stage in stages] == counts
    assert isinstance(network.middle_attention, Attention)
    without = UNet(UNetConfig(**SMALL, attention=(), middle_attention=False))
    assert not any(isinstance(module, Attention) for module in without.modules())


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("cosine_first", [False, True])
def test_time_features(shift: int, cosine_first: bool) -> None:
    t = [0.0, 1.0, 17.0, 999.0]
    config = UNetConfig(time_channels=32, frequency_shift=shift, cosine_first=cosine_first)
    found = time_features(torch.tensor(t), config)
    assert found.shape == (4, 32)
    for row, time in zip(found.tolist(), t, strict=True):
        angles = [time * 10000.0 ** (-i / (16 - shift)) for i in range(16)]
        parts = [[math.sin(angle) for angle in angles], [math.cos(angle) for angle in angles]]
        first, second = parts[::-1] if cosine_first else parts
        assert row == pytest.approx(first + second, abs=2e-4)


def test_fourier_features_are_fixed_and_saved() -> None:
    config = UNetConfig(**SMALL, time_features="fourier")
    network = shaken(UNet(config).eval())
    frequencies = network.state_dict()["time.frequencies"]
    assert frequencies.shape == (4,)
    assert "time.frequencies" not in dict(network.named_parameters())
    torch.manual_seed(1)
    other = UNet(config).eval()
    assert not torch.equal(other.state_dict()["time.frequencies"], frequencies)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(*inputs()), network(*inputs()))
    t = torch.tensor([0.0, 3.0, 999.0])
    angles = 2.0 * math.pi * (t[:, None] / 1000.0) * frequencies
    layers = network.time
    features = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    expected = layers.linear_out(functional.silu(layers.linear_in(features)))
    torch.testing.assert_close(layers(t), expected, rtol=1e-4, atol=1e-4)
    network.train()
    network(*inputs()).square().mean().backward()
    torch.optim.Adam(network.parameters(), lr=0.1).step()
    assert torch.equal(network.state_dict()["time.frequencies"], frequencies)


def test_spread_of_the_fourier_frequencies() -> None:
    """Standard deviation 16, within 5 standard errors."""
    drawn = TimeEmbedding(UNetConfig(time_channels=512, time_features="fourier")).get_buffer("frequencies")
    assert drawn.std().item() == pytest.approx(16.0, abs=5.0 * 16.0 / math.sqrt(2 * 256))


@pytest.mark.parametrize("heads", [{"heads": 1}, {"heads": 4}, {"head_channels": 4}, {"heads": 2, "head_channels": 16}])
def test_attention_is_a_softmax_over_places(heads: dict[str, Any]) -> None:
    layer = shaken(Attention(16, UNetConfig(**SMALL, **heads)))
    count = 16 // heads["head_channels"] if "head_channels" in heads else heads["heads"]
    x = torch.randn(2, 16, 3, 5)
    assert layer.qkv.bias is not None
    assert layer.out.bias is not None
    rows = layer.qkv.weight[:, :, 0, 0] @ layer.norm(x).flatten(2) + layer.qkv.bias[:, None]
    query, key, value = rows.split(16, dim=1)
    parts = []
    for head in range(count):
        own = slice(head * 16 // count, (head + 1) * 16 // count)
        scores = torch.einsum("bci,bcj->bij", query[:, own], key[:, own]) / math.sqrt(16 / count)
        weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
        parts.append(torch.einsum("bij,bcj->bci", weights, value[:, own]))
    mixed = layer.out.weight[:, :, 0, 0] @ torch.cat(parts, dim=1) + layer.out.bias[:, None]
    torch.testing.assert_close(layer(x), x + mixed.reshape(x.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["add", "scale-shift"])
@pytest.mark.parametrize("change", ["", "down", "up"])
@pytest.mark.parametrize("outer", [8, 12])
def test_a_residual_block(outer: int, change: str, conditioning: Conditioning) -> None:
    block = shaken(ResidualBlock(8, outer, UNetConfig(**SMALL, conditioning=conditioning), change))
    x, embedding = torch.randn(2, 8, 6, 4), torch.randn(2, 32)

    def resampled(values: Tensor) -> Tensor:
        if change == "down":
            return values.unflatten(2, (3, 2)).unflatten(4, (2, 2)).mean(dim=(3, 5))
        return values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if change == "up" else values

    hidden = block.conv_in(resampled(functional.silu(block.norm_in(x))))
    time = (embedding @ block.time.weight.T + block.time.bias)[:, :, None, None]
    if conditioning == "add":
        assert time.shape[1] == outer
        hidden = block.norm_out(hidden + time)
    else:
        hidden = block.norm_out(hidden) * (1.0 + time[:, :outer]) + time[:, outer:]
    hidden = block.conv_out(functional.silu(hidden))
    shortcut = resampled(x) if outer == 8 else block.shortcut(resampled(x))
    torch.testing.assert_close(block(x, embedding), shortcut + hidden, rtol=1e-4, atol=1e-4)


def test_changes_of_resolution() -> None:
    x = torch.randn(2, 4, 6, 8)
    for both, padding in ((True, (1, 1, 1, 1)), (False, (0, 1, 0, 1))):
        down = shaken(Downsample(4, pad_both_sides=both))
        every = functional.conv2d(functional.pad(x, padding), down.conv.weight, down.conv.bias)
        torch.testing.assert_close(down(x), every[:, :, ::2, ::2], rtol=1e-4, atol=1e-5)
        assert down(x).shape == (2, 4, 3, 4)
    up = shaken(Upsample(4))
    doubled = functional.pad(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), (1, 1, 1, 1))
    torch.testing.assert_close(up(x), functional.conv2d(doubled, up.conv.weight, up.conv.bias), rtol=1e-4, atol=1e-5)


def test_a_network_of_residual_resampling() -> None:
    network = shaken(UNet(UNetConfig(**SMALL, resample="residual")))
    assert not any(isinstance(module, Downsample | Upsample) for module in network.modules())
    x, t = inputs()
    assert network(x, t).shape == x.shape
    assert isinstance(network.down[0].change, ResidualBlock)
    assert isinstance(network.up[0].change, ResidualBlock)


@pytest.mark.parametrize("conditioning", ["add", "scale-shift"])
@pytest.mark.parametrize("resample", ["conv", "residual"])
def test_the_start(resample: Resample, conditioning: Conditioning) -> None:
    """The output is zero, every residual block and attention is its shortcut, the rest has variance 2 / (in + out)."""
    network = UNet(UNetConfig(widths=(32, 64), blocks=1, resample=resample, conditioning=conditioning))
    x, t = inputs()
    assert not network(x, t).any()
    block, wide = network.get_submodule("down.0.blocks.0"), torch.randn(2, 32, 8, 8)
    assert torch.equal(block(wide, torch.randn(2, 512)), wide)
    attention, wide = network.get_submodule("down.1.attentions.0"), torch.randn(2, 64, 4, 4)
    assert torch.equal(attention(wide), wide)
    weight = network.get_parameter("up.0.blocks.0.conv_in.weight")
    expected = math.sqrt(2.0 / (9 * (weight.shape[0] + weight.shape[1])))
    assert weight.std().item() == pytest.approx(expected, rel=0.03)
    assert weight.abs().max().item() <= math.sqrt(3.0) * expected
    network(x, t).sum().backward()
    assert network.head.weight.grad is not None
    assert network.head.weight.grad.abs().sum() > 0.0


@pytest.mark.parametrize("learned_range", [False, True])
@pytest.mark.parametrize("conditioning", ["add", "scale-shift"])
@pytest.mark.parametrize("time", ["sinusoidal", "fourier"])
def test_every_weight_and_both_inputs_matter(
    time: TimeFeatures, conditioning: Conditioning, learned_range: bool
) -> None:
    config = UNetConfig(**SMALL, time_features=time, conditioning=conditioning, learned_range=learned_range)
    network = shaken(UNet(config))
    x, t = inputs()
    output = network(x.requires_grad_(), t)
    output.square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0.0).all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert not torch.allclose(network(x, t + 100.0), output)
    # No image sees another: each alone gives the same.
    for index in range(2):
        alone = network(x[index : index + 1], t[index : index + 1])
        torch.testing.assert_close(alone[0], output[index], rtol=1e-3, atol=1e-3)


def test_dropout_only_in_training() -> None:
    network = shaken(UNet(UNetConfig(**SMALL, dropout=0.4)))
    x, t = inputs()
    network.eval()
    used = network(x, t)
    assert torch.equal(network(x, t), used)
    network.train()
    assert not torch.equal(network(x, t), network(x, t))
    kept = shaken(UNet(UNetConfig(**SMALL)))
    kept.load_state_dict(network.state_dict())
    assert torch.equal(kept.train()(x, t), used)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("widths", value) for value in ((), (0,), (-32,), (48,), (1 << 14,))],
        *[(key, value) for key in ("blocks", "groups", "heads", "channels") for value in (0, -1)],
        ("heads", 3),
        *[("head_channels", value) for value in (-1, -16, 48)],
        *[("norm_eps", value) for value in (-1.0, math.nan, math.inf)],
        *[("dropout", value) for value in (-0.1, 1.5, math.nan)],
        *[("time_channels", value) for value in (0, 2, 5, -4, 1 << 14)],
        *[("frequency_shift", value) for value in (64, 100)],
        *[("attention", value) for value in ((4,), (-1,))],
        *[(key, "other") for key in ("time_features", "conditioning", "resample")],
    ],
)
def test_bad_fields_are_one_line(key: str, value: object) -> None:
    """Before anything is built; also for numbers that only a damaged file has."""
    with pytest.raises(ModelError, match=r"\AU-Net: [^\n]+\Z"):
        UNetConfig(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", 3),
        *[("widths", value) for value in (32, "32", [32.0], [True], ["32"], [[32]], None)],
        *[("blocks", value) for value in (1.0, True, "1", None, [1])],
        *[("dropout", value) for value in ("0", True, None)],
        pytest.param("dropout", 10**400, id="no-float"),
        *[("learned_range", value) for value in (1, "true", None)],
        *[("resample", value) for value in (1, None, ["conv"])],
    ],
)
def test_foreign_dictionaries_are_one_line(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=rf"\AU-Net: [^\n]*{key}[^\n]*\Z"):
        UNetConfig.from_dict({key: value})


@st.composite
def configs(draw: st.DrawFn) -> UNetConfig:
    groups = draw(st.sampled_from([1, 2, 8]))
    widths = draw(st.lists(st.integers(1, 8).map(lambda n: 8 * n), min_size=1, max_size=5))
    return UNetConfig(
        widths=tuple(widths),
        attention=tuple(draw(st.sets(st.integers(0, len(widths) - 1)))),
        groups=groups,
        blocks=draw(st.integers(1, 4)),
        heads=draw(st.sampled_from([1, 2, 4])),
        head_channels=draw(st.sampled_from([0, 4, 8])),
        middle_attention=draw(st.booleans()),
        norm_eps=draw(st.floats(1e-8, 1e-3)),
        dropout=draw(st.floats(0.0, 0.9)),
        time_features=draw(st.sampled_from(["sinusoidal", "fourier"])),
        time_channels=draw(st.integers(2, 64)) * 2,
        conditioning=draw(st.sampled_from(["add", "scale-shift"])),
        resample=draw(st.sampled_from(["conv", "residual"])),
        learned_range=draw(st.booleans()),
    )


@given(configs())
def test_a_configuration_reads_equal(config: UNetConfig) -> None:
    values = json.loads(json.dumps(config.to_dict(), allow_nan=False))
    assert UNetConfig.from_dict(values) == config
    assert UNetConfig.from_dict({}) == UNetConfig()
    assert UNetConfig.from_dict(values | {"dropout": 0}).dropout == 0.0
