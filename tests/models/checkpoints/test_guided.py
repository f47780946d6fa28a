"""State dicts of improved- and guided-diffusion: the network and the process of their papers, and damage is named."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import posterior
from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.guided import is_guided, read_guided
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.models.opening import open_folder
from ddpm_codec.nn.ddpm_unet import UNet
from tests.reference.guided_unet import Architecture, output, random_state

STATE = "ema_0.9999_500000.pt"

SMALL: dict[str, Any] = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
}

GRID: dict[str, tuple[dict[str, Any], Architecture]] = {
    "defaults": ({}, Architecture()),
    "one-head": ({"num_heads": 1}, Architecture(heads=1)),
    "head-channels": ({"num_head_channels": 16}, Architecture(head_channels=16)),
    "head-channels-win": ({"num_head_channels": 32, "num_heads_upsample": 7}, Architecture(head_channels=32)),
    "new-order": ({"use_new_attention_order": True}, Architecture(new_order=True)),
    "add": ({"use_scale_shift_norm": "False"}, Architecture(scale_shift=False)),
    "learn-sigma": ({"learn_sigma": "True"}, Architecture(learn_sigma=True)),
    "everywhere": ({"attention_resolutions": "16,8", "num_res_blocks": 2}, Architecture(sides=(16, 8), blocks=2)),
    "nowhere": ({"attention_resolutions": 4}, Architecture(sides=())),
    "updown": (
        {"resblock_updown": True, "num_head_channels": 8, "learn_sigma": True},
        Architecture(updown=True, head_channels=8, learn_sigma=True),
    ),
    "updown-new-add": (
        {"resblock_updown": True, "use_new_attention_order": "true", "use_scale_shift_norm": False},
        Architecture(updown=True, new_order=True, scale_shift=False),
    ),
    "three": (
        {"channel_mult": "1,2,3", "attention_resolutions": "8,4", "num_heads": "2", "num_heads_upsample": "2"},
        Architecture(multipliers=(1, 2, 3), sides=(8, 4), heads=2),
    ),
    "improved-32": (
        {"image_size": 32, "channel_mult": "", "attention_resolutions": "16,8"},
        Architecture(image_size=32, multipliers=(1, 2, 2, 2), sides=(16, 8)),
    ),
}

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return what saves a state dict and its flags as a folder."""

    def saved(flags: dict[str, Any], state: dict[str, Tensor]) -> Path:
        folder = tmp_path / "toy"
        folder.mkdir(exist_ok=True)
        (folder / "flags.json").write_text(json.dumps(SMALL | flags))
        torch.save(state, folder / STATE)
        return folder

    return saved


@pytest.fixture
def small(save: Save) -> Path:
    """Return a folder that can be read."""
    return save({}, random_state(Architecture(), 0))


def said_by(model: Published, pictures: Tensor, timesteps: list[float]) -> Tensor:
    network = UNet(model.unet)
    network.load_state_dict(model.weights)
    with torch.no_grad():
        said: Tensor = network.eval()(pictures, torch.tensor(timesteps))
    return said


def change(folder: Path, **flags: Any) -> None:  # noqa: ANN401
    path = folder / "flags.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | flags))


def refusal(folder: Path) -> str:
    """Return the message, one line, about a folder that cannot be read."""
    with pytest.raises(ModelError) as caught:
        read_guided(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", GRID)
def test_the_network_computes_the_same(save: Save, name: str) -> None:
    """To 2e-4 of outputs of order one, in single precision."""
    flags, net = GRID[name]
    state = random_state(net, 1)
    folder = save(flags, state)
    assert is_guided(folder)
    model = read_guided(folder)
    assert (model.name, model.sample_size) == ("toy", net.image_size)
    pictures = torch.randn(4, 3, net.image_size, net.image_size, generator=torch.Generator().manual_seed(2))
    timesteps = [0.0, 1.0, 250.0, 999.0]
    expected = output(state, net, pictures, timesteps)
    assert 0.1 < expected.std() < 10.0
    torch.testing.assert_close(said_by(model, pictures, timesteps), expected, rtol=2e-4, atol=2e-4)


def test_the_order_of_attention_matters(save: Save) -> None:
    """So that the comparison above could tell one from the other."""
    state = random_state(Architecture(), 1)
    pictures = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    legacy = said_by(read_guided(save({}, state)), pictures, [9.0])
    new = said_by(read_guided(save({"use_new_attention_order": True}, state)), pictures, [9.0])
    assert (legacy - new).abs().max() > 0.01


@pytest.mark.parametrize(
    ("flags", "scale"),
    [
        ({"rescale_timesteps": True}, 0.25),
        ({"rescale_timesteps": False}, 1.0),
        # Without the flag: improved-diffusion rescales, guided-diffusion does not and has channel_mult.
        ({}, 1.0),
        ({"image_size": 32, "channel_mult": None}, 0.25),
    ],
)
def test_timesteps_of_long_chains(save: Save, flags: dict[str, Any], scale: float) -> None:
    """Of 4000 timesteps, to 2e-4 of outputs of order one; frequencies that are kept lose nothing to those computed."""
    improved = flags.get("image_size") == 32
    size, multipliers = (32, (1, 2, 2, 2)) if improved else (16, (1, 2))
    net = Architecture(image_size=size, multipliers=multipliers, time_scale=scale)
    state = random_state(net, 3)
    folder = save({"diffusion_steps": 4000} | flags, state)
    path = folder / "flags.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if value is not None})
    )
    model = read_guided(folder)
    pictures = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    timesteps = [0.0, 37.0, 3999.0]
    expected = output(state, net, pictures, timesteps)
    torch.testing.assert_close(said_by(model, pictures, timesteps), expected, rtol=2e-4, atol=2e-4)
    other = output(state, Architecture(**(vars(net) | {"time_scale": 1.25 - scale})), pictures, timesteps)
    assert (expected - other).abs().max() > 0.05


def test_flags_as_published(save: Save) -> None:
    """Those of CIFAR-10 in the README of improved-diffusion, with fewer channels, training flags included."""
    net = Architecture(32, 32, (1, 2, 2, 2), 3, (16, 8), 4, learn_sigma=True)
    flags = {
        "image_size": 32,
        "num_channels": 32,
        "num_res_blocks": 3,
        "learn_sigma": "True",
        "dropout": 0.3,
        "diffusion_steps": 4000,
        "noise_schedule": "cosine",
        "lr": 1e-4,
        "batch_size": 128,
    }
    folder = save({}, random_state(net, 0))
    (folder / "flags.json").write_text(json.dumps(flags))
    model = read_guided(folder)
    assert (model.unet.widths, model.unet.blocks, model.unet.attention) == ((32, 64, 64, 64), 3, (1, 2))
    assert (model.unet.dropout, model.unet.learned_range, model.process.timesteps) == (0.3, True, 4000)
    assert (model.process.output, model.process.variance, model.process.clip) == ("eps", "learned-range", True)
    assert model.training["flags"] == flags


WIDTHS: dict[int, tuple[float, ...]] = {32: (1, 2, 2, 2), 64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4)}
WIDTHS |= {256: (1, 1, 2, 2, 4, 4), 512: (0.5, 1, 1, 2, 2, 4, 4)}


@pytest.mark.parametrize(("size", "widths"), list(WIDTHS.items()))
def test_widths_by_image_size(save: Save, size: int, widths: tuple[float, ...]) -> None:
    """Their half of num_channels at the finest resolution of 512 leaves the time features at num_channels."""
    drawn = Architecture(2 ** (len(widths) - 1), 64, widths, 1, (2,), 4)
    # The weights do not depend on the size of the picture, only on which levels attend.
    attends = 2 ** (len(widths) - 2)
    flags = {"image_size": size, "num_channels": 64, "channel_mult": "", "attention_resolutions": size // attends}
    model = read_guided(save(flags, random_state(drawn, 0)))
    assert model.unet.widths == tuple(int(64 * width) for width in widths)
    assert model.unet.time_channels == 64
    assert model.unet.attention == (len(widths) - 2,)


def test_the_linear_schedule_is_rescaled_to_its_length(small: Path) -> None:
    """beta from 1e-4 to 0.02 at 1000 timesteps, and in proportion for others."""
    for steps in (1000, 4000, 100):
        change(small, diffusion_steps=steps, rescale_timesteps=False)
        betas = read_guided(small).process.schedule.betas
        expected = [1000.0 / steps * (1e-4 + (0.02 - 1e-4) * index / (steps - 1)) for index in range(steps)]
        np.testing.assert_allclose(betas, expected, rtol=1e-9)


def test_the_cosine_schedule(small: Path) -> None:
    change(small, noise_schedule="cosine")
    schedule = read_guided(small).process.schedule

    def shape(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2.0) ** 2

    for t in (0, 1, 400, 998):
        expected = 1.0 - shape((t + 1) / 1000) / shape(t / 1000)
        assert schedule.betas[t] == pytest.approx(min(expected, 0.999), rel=1e-9)
    assert schedule.betas[999] == pytest.approx(0.999)


@pytest.mark.parametrize(
    ("flags", "output", "variance"),
    [
        ({}, "eps", "beta"),
        ({"sigma_small": True}, "eps", "beta-tilde"),
        ({"predict_xstart": "True"}, "x0", "beta"),
        ({"learn_sigma": True, "sigma_small": True}, "eps", "learned-range"),
    ],
)
def test_the_process(save: Save, flags: dict[str, Any], output: str, variance: str) -> None:
    model = read_guided(save(flags, random_state(Architecture(learn_sigma="learn_sigma" in flags), 0)))
    assert (model.process.output, model.process.variance, model.process.clip) == (output, variance, True)


def test_a_learned_range_goes_from_beta_tilde_to_beta(save: Save) -> None:
    """Nichol & Dhariwal 2021, eq. 15: f = 0 is beta-tilde, f = 1 is beta."""
    process = read_guided(save({"learn_sigma": True}, random_state(Architecture(learn_sigma=True), 0))).process
    schedule = process.schedule
    levels = torch.from_numpy(schedule.log_snr)
    v = posterior(levels[499], levels[500]).v.item()
    bars = schedule.alpha_bar
    beta_tilde = (1.0 - bars[499]) / (1.0 - bars[500]) * schedule.betas[500]
    for fraction, expected in ((0.0, beta_tilde), (1.0, schedule.betas[500])):
        log_ratio = process.log_ratio(levels[499:500], levels[500:501], torch.full((1, 3, 1, 1), fraction).double())
        np.testing.assert_allclose(v * log_ratio.exp().numpy(), expected, rtol=1e-9)


def test_half_precision_and_parameters(save: Save) -> None:
    state = random_state(Architecture(), 0)
    folder = save({}, {key: torch.nn.Parameter(value.half()) for key, value in state.items()})
    weights = read_guided(folder).weights
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in weights.values())
    assert torch.equal(weights["stem.weight"], state["input_blocks.0.0.weight"].half().float())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("image_size", 48, "channel_mult"),
        ("image_size", "wide", "int"),
        ("image_size", -16, "from 8"),
        ("num_channels", 31, "multiples of groups = 32"),
        ("num_channels", 32.5, "int"),
        ("num_channels", None, "int"),
        ("num_res_blocks", 0, "from 1"),
        ("num_heads", 0, "from 1"),
        ("num_heads", 5, "attention heads"),
        ("num_heads_upsample", 2, "only num_heads = 4"),
        ("num_head_channels", 24, "attention heads"),
        ("num_head_channels", 0, "from 1"),
        ("attention_resolutions", "8,", "commas"),
        ("attention_resolutions", "0", "commas"),
        ("attention_resolutions", [8], "str"),
        ("channel_mult", "1,x", "commas"),
        ("channel_mult", ",".join(["1"] * 17), "at most 16"),
        ("channel_mult", "9" * 5000, "commas"),
        ("dropout", 1.0, "from 0"),
        ("dropout", "nan", "from 0"),
        ("class_cond", True, "label_emb"),
        ("use_scale_shift_norm", 1, "bool"),
        ("use_scale_shift_norm", "perhaps\n", "bool"),
        ("diffusion_steps", 0, "from 1"),
        ("diffusion_steps", 20, "beta"),
        ("diffusion_steps", 1 << 60, "from 1"),
        ("noise_schedule", "quadratic", "linear, cosine"),
        ("timestep_respacing", "250", "empty"),
        ("large_size", 256, "unknown flag"),
        ("num_chanels", 64, "unknown flag"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_flags_that_are_refused(small: Path, key: str, value: object, words: str) -> None:
    if value == 48:
        change(small, channel_mult="")
    change(small, **{key: value})
    said = refusal(small)
    assert said.startswith(f"{small / 'flags.json'}: ")
    assert words in said
    assert key in said or words in ("multiples of groups = 32", "attention heads")


@pytest.mark.parametrize("key", ["lr", "batch_size", "ema_rate", "use_fp16", "use_kl", "rescale_learned_sigmas"])
def test_flags_of_training_do_nothing(small: Path, key: str) -> None:
    before = read_guided(small)
    change(small, **{key: "anything"})
    after = read_guided(small)
    assert after.unet == before.unet
    assert all(torch.equal(after.weights[name], before.weights[name]) for name in before.weights)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"learn_sigma": True}, "learn_sigma = True: weight 'out.2.weight' of " + STATE + " has 3 output channels"),
        ({"num_channels": 64}, "'time_embed.0.weight' has shape (128, 32)"),
        ({"num_res_blocks": 2}, "'input_blocks.2.0.in_layers.0.weight'"),
        ({"use_scale_shift_norm": False}, "emb_layers.1.weight' has shape (64, 128), expected (32, 128)"),
        ({"resblock_updown": True}, "'input_blocks.2.0.in_layers.0.weight' is missing"),
        ({"attention_resolutions": "4"}, "'output_blocks.1.1.conv.weight' is missing"),
    ],
)
def test_flags_that_contradict_the_weights(small: Path, flags: dict[str, Any], words: str) -> None:
    change(small, **flags)
    assert words in refusal(small)


def test_labels_in_the_weights(save: Save) -> None:
    folder = save({}, random_state(Architecture(), 0) | {"label_emb.weight": torch.zeros(1000, 128)})
    assert "'label_emb.weight'" in refusal(folder)


@pytest.mark.parametrize(
    "key",
    [
        "middle_block.1.qkv.weight",
        "middle_block.1.proj_out.weight",
        "out.2.weight",
        "input_blocks.2.0.op.weight",
        "time_embed.0.weight",
        "output_blocks.1.2.conv.bias",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "renamed", "shape", "flat", "nan", "integer"])
@pytest.mark.parametrize("steps", [1000, 4000])
def test_damaged_weights_are_named(save: Save, key: str, damage: str, steps: int) -> None:
    state = random_state(Architecture(), 0)
    value = state.pop(key)
    damaged = {
        "renamed": {"module." + key: value},
        "shape": {key: value[:-1]},
        "flat": {key: value.flatten()[:-1]},
        "nan": {key: value + float("nan")},
        "integer": {key: torch.ones(value.shape, dtype=torch.int64)},
    }
    folder = save({"diffusion_steps": steps, "rescale_timesteps": True}, state | damaged.get(damage, {}))
    said = refusal(folder)
    assert repr(key) in said
    assert STATE in said


def test_damaged_files_are_named(small: Path) -> None:
    whole = (small / STATE).read_bytes()
    (small / STATE).write_bytes(whole[: len(whole) // 2])
    assert STATE in refusal(small)
    torch.save([torch.zeros(3)], small / STATE)
    assert STATE in refusal(small)
    (small / STATE).write_bytes(whole)
    for content in ("{", "[]", '"flags"', "\x00"):
        (small / "flags.json").write_text(content)
        assert "flags.json" in refusal(small)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_state_dict_is_not_run(small: Path, tmp_path: Path) -> None:
    state: dict[str, Any] = random_state(Architecture(), 0)
    torch.save(state | {"out.2.weight": Touch(tmp_path / "ran")}, small / STATE)
    assert STATE in refusal(small)
    assert not (tmp_path / "ran").exists()


def test_a_folder_needs_flags_and_one_state_dict(small: Path) -> None:
    assert is_guided(small)
    (small / "second.pt").write_bytes(b"")
    assert is_guided(small)
    assert "exactly one .pt file" in refusal(small)
    with pytest.raises(ModelError, match=r"\A[^\n]*exactly one \.pt file[^\n]*\Z"):
        open_folder(small)
    (small / "second.pt").unlink()
    (small / "flags.json").unlink()
    assert not is_guided(small)
    assert "flags.json" in refusal(small)
