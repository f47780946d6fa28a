"""Folders of diffusers: our network and our process compute what that library computes, and damage is named."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm_codec.diffusion.gaussian import posterior
from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.diffusers import is_diffusers, read_diffusers
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.nn.ddpm_unet import UNet

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
SAFE, BIN = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"


def levels(letters: str) -> dict[str, Any]:
    """Return the types of blocks, finest first: Down/Up, Attn or Resnet at each level."""
    down = {"D": "DownBlock2D", "A": "AttnDownBlock2D", "R": "ResnetDownsampleBlock2D"}
    up = {"D": "UpBlock2D", "A": "AttnUpBlock2D", "R": "ResnetUpsampleBlock2D"}
    return {"down_block_types": [down[x] for x in letters], "up_block_types": [up[x] for x in reversed(letters)]}


SMALL: dict[str, Any] = {"sample_size": 16, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
SMALL |= levels("DA")

HO = {"attention_head_dim": None, "norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
THREE = {"block_out_channels": (16, 32, 48), "layers_per_block": 2}
BY_BLOCKS = {"downsample_type": "resnet", "upsample_type": "resnet"} | levels("RAR")
# The coarsest level changes nothing on the way down, so its type is free.
BY_BLOCKS["down_block_types"][2] = "DownBlock2D"

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "ho": HO,
    "finest-attends": levels("AD"),
    "heads": {"attention_head_dim": 4},
    "scale-shift": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8, "downsample_padding": 0},
    "scale-shift-no-middle": {"resnet_time_scale_shift": "scale_shift", "add_attention": False},
    "residual": THREE | BY_BLOCKS,
    "three": THREE | HO | levels("DAD"),
    "no-middle": {"add_attention": False},
    "learned": {"out_channels": 6, "norm_eps": 1e-4},
    "one-level": {"block_out_channels": (16,)} | levels("A"),
}

Save = Callable[..., Path]


@pytest.fixture
def save(library: ModuleType, tmp_path: Path) -> Save:
    """Return what saves a random network and a scheduler as a folder."""

    def saved(layout: str = "flat", weights: str = SAFE, scheduler: dict[str, Any] | None = None, **keys: Any) -> Path:  # noqa: ANN401
        folder = tmp_path / "toy"
        network = library.UNet2DModel(**(SMALL | keys))
        randomise(network)
        variance = {"variance_type": "learned_range"} if keys.get("out_channels") == 6 else {}
        parts = (folder / "unet", folder / "scheduler") if layout == "pipeline" else (folder, folder)
        network.save_pretrained(parts[0], safe_serialization=weights == SAFE)
        library.DDPMScheduler(**(variance | (scheduler or {}))).save_pretrained(parts[1])
        return folder

    return saved


def randomise(network: torch.nn.Module) -> None:
    """Give every weight a value that matters, with activations of order one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            gain = "norm" in name and name.endswith("weight")
            value.copy_(1.0 + 0.2 * noise if gain else noise * max(value[0].numel(), 16) ** -0.5)


def loaded(model: Published) -> UNet:
    network = UNet(model.unet)
    network.load_state_dict(model.weights)
    return network.eval()


def outputs(network: torch.nn.Module) -> Tensor:
    """Return what a network says about two pictures at each of some timesteps."""
    pictures = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = [network(pictures, torch.tensor([t, t // 2])) for t in (0, 1, 17, 500, 999)]
    return torch.stack([one if isinstance(one, Tensor) else one.sample for one in said])


def change(path: Path, **values: Any) -> None:  # noqa: ANN401
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(folder: Path) -> str:
    """Return the message, one line, of a folder that looks like diffusers and cannot be read."""
    assert is_diffusers(folder)
    with pytest.raises(ModelError) as caught:
        read_diffusers(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("layout", "weights"), [("flat", SAFE), ("pipeline", BIN)])
def test_the_network_computes_the_same(
    library: ModuleType, save: Save, architecture: str, layout: str, weights: str
) -> None:
    """To 1e-4 of outputs of order one, in single precision."""
    folder = save(layout, weights, **ARCHITECTURES[architecture])
    assert is_diffusers(folder)
    theirs = library.UNet2DModel.from_pretrained(folder / "unet" if layout == "pipeline" else folder).eval()
    model = read_diffusers(folder)
    assert (model.name, model.sample_size) == ("toy", 16)
    expected = outputs(theirs)
    assert 0.1 < expected.std() < 10.0
    assert (expected[0] - expected[-1]).abs().max() > 0.01
    torch.testing.assert_close(outputs(loaded(model)), expected, rtol=1e-4, atol=1e-4)


def test_safetensors_come_before_bin(save: Save) -> None:
    folder = save()
    (folder / BIN).write_bytes(b"no weights")
    assert read_diffusers(folder).weights


def test_old_names_of_attention(save: Save) -> None:
    folder = save()
    new, tensors = read_diffusers(folder).weights, load_file(folder / SAFE)
    for word, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        tensors = {key.replace(f".{word}.", f".{old}."): value for key, value in tensors.items()}
    assert sum(".query." in key for key in tensors) == 2 * (1 + 1 + 2)
    save_file(tensors, folder / SAFE)
    read = read_diffusers(folder).weights
    assert all(torch.equal(read[key], new[key]) for key in new)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_parameters(save: Save, dtype: torch.dtype) -> None:
    folder = save(weights=BIN)
    tensors = {key: value.to(dtype) for key, value in torch.load(folder / BIN, weights_only=True).items()}
    torch.save({key: torch.nn.Parameter(value) for key, value in tensors.items()}, folder / BIN)
    by_parameters = read_diffusers(folder).weights
    save_file(tensors, folder / SAFE)
    query = tensors["mid_block.attentions.0.to_q.weight"].float()
    for read in (by_parameters, read_diffusers(folder).weights):
        assert all(value.dtype == torch.float32 and not value.requires_grad for value in read.values())
        assert torch.equal(read["middle_attention.qkv.weight"][:32, :, 0, 0], query)


def test_defaults_are_those_of_the_library(library: ModuleType, save: Save) -> None:
    """A configuration of nothing but the class has the library's own architecture and schedule."""
    folder = save()
    config = json.loads((folder / CONFIG).read_text())
    kept = {"_class_name", "sample_size", *SMALL}
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if key in kept}))
    (folder / SCHEDULER).write_text('{"_class_name": "DDPMScheduler"}')
    model, theirs = read_diffusers(folder), library.DDPMScheduler()
    torch.testing.assert_close(outputs(loaded(model)), outputs(library.UNet2DModel.from_pretrained(folder).eval()))
    np.testing.assert_allclose(model.process.schedule.betas, theirs.betas.numpy(), rtol=1e-5)
    assert (model.process.output, model.process.variance, model.process.clip) == ("eps", "beta-tilde", True)
    assert theirs.config.prediction_type == "epsilon"
    assert theirs.config.variance_type == "fixed_small"
    assert theirs.config.clip_sample


@pytest.mark.parametrize(("given", "side"), [(None, 32), (64, 64), ([48, 48], 48)])
def test_sample_size(save: Save, given: object, side: int) -> None:
    change((folder := save()) / CONFIG, sample_size=given)
    assert read_diffusers(folder).sample_size == side


SCHEDULES: list[dict[str, Any]] = [
    {"beta_schedule": "linear"},
    {"beta_start": 0.001, "beta_end": 0.3, "num_train_timesteps": 77},
    {"beta_schedule": "scaled_linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    {"trained_betas": [0.001, 0.01, 0.125, 0.2], "num_train_timesteps": 4},
]
BY_KIND = [(kind, keys) for kind in ("DDPMScheduler", "DDIMScheduler") for keys in SCHEDULES]
# Diffusers has no sigmoid for DDIM.
BY_KIND.append(("DDPMScheduler", {"beta_schedule": "sigmoid"}))


@pytest.mark.parametrize(("kind", "keys"), BY_KIND, ids=str)
def test_schedules(library: ModuleType, save: Save, kind: str, keys: dict[str, Any]) -> None:
    """To the rounding of the library's tables, which are in single precision, as are their products."""
    folder = save()
    theirs = getattr(library, kind)(**keys)
    theirs.save_pretrained(folder)
    schedule = read_diffusers(folder).process.schedule
    assert schedule.betas.shape == tuple(theirs.betas.shape)
    np.testing.assert_allclose(schedule.betas, theirs.betas.numpy(), rtol=1e-5)
    np.testing.assert_allclose(schedule.alpha_bar, theirs.alphas_cumprod.numpy(), rtol=2e-4)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
def test_a_reverse_step_has_the_same_mean_and_variance(
    library: ModuleType, save: Save, monkeypatch: pytest.MonkeyPatch, variance: str, prediction: str, clip: bool
) -> None:
    keys = {"variance_type": variance, "prediction_type": prediction, "clip_sample": clip}
    keys |= {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.2}
    folder = save(scheduler=keys, out_channels=6 if variance == "learned_range" else 3)
    theirs, process = library.DDPMScheduler(**keys), read_diffusers(folder).process
    generator = torch.Generator().manual_seed(3)
    for t in (1, 10, 60, 99):
        x_t = 1.5 * torch.randn(2, 3, 4, 4, generator=generator)
        output = torch.randn(2, 3, 4, 4, generator=generator)
        interpolation = 2.0 * torch.rand(2, 3, 4, 4, generator=generator) - 1.0
        given = torch.cat([output, interpolation], dim=1) if variance == "learned_range" else output
        steps = []
        for noise in (0.0, 1.0):
            monkeypatch.setattr(
                "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, noise=noise, **__: torch.full((), noise)
            )
            steps.append(theirs.step(given, t, x_t).prev_sample.double())
        levels = torch.from_numpy(process.schedule.log_snr)
        s_level, t_level = levels[t - 1].expand(2), levels[t].expand(2)
        x0_mean = process.x0_mean(output.double(), x_t.double(), t_level)
        assert (x0_mean.abs() > 1.0).any()
        a, c, v = posterior(levels[t - 1], levels[t])
        mean = a * x_t + c * (x0_mean.clamp(-1.0, 1.0) if process.clip else x0_mean)
        log_ratio = process.log_ratio(s_level, t_level, 0.5 * (interpolation.double() + 1.0))
        torch.testing.assert_close(steps[0], mean, rtol=1e-4, atol=1e-4)
        deviation = torch.sqrt(v * log_ratio.exp()).expand(mean.shape)
        torch.testing.assert_close(steps[1] - steps[0], deviation, rtol=2e-3, atol=1e-5)
        if variance != "fixed_small_log":
            said = theirs._get_variance(t, predicted_variance=interpolation).double()
            said = said.exp() if variance == "learned_range" else said
            torch.testing.assert_close(said.expand(mean.shape), deviation.square(), rtol=1e-3, atol=0.0)


def test_the_logarithm_of_the_larger_variance_is_the_larger_variance(save: Save) -> None:
    """Diffusers takes its square root as it stands; the name and Nichol & Dhariwal mean beta."""
    assert read_diffusers(save(scheduler={"variance_type": "fixed_large_log"})).process.variance == "beta"


@pytest.mark.parametrize(("epsilon", "output"), [(True, "eps"), (False, "x0")])
def test_the_old_name_of_the_kind_of_prediction(save: Save, epsilon: bool, output: str) -> None:
    folder = save()
    (folder / SCHEDULER).write_text(json.dumps({"_class_name": "DDPMScheduler", "predict_epsilon": epsilon}))
    assert read_diffusers(folder).process.output == output


Refused = dict[str, list[Any]]
OF_NETWORKS: Refused = {"_class_name": ["UNet2DConditionModel"], "in_channels": [4], "out_channels": [4, 6]}
OF_NETWORKS |= {"time_embedding_type": ["fourier"], "time_embedding_dim": [48], "freq_shift": [0.5, 8]}
OF_NETWORKS |= {"down_block_types": [["DownBlock2D", x] for x in ("SkipDownBlock2D", "KDownBlock2D", 2)]}
OF_NETWORKS |= {"up_block_types": [["AttnUpBlock2D", "SkipUpBlock2D"], ["UpBlock2D"], levels("AD")["up_block_types"]]}
OF_NETWORKS |= {"upsample_type": ["linear"], "downsample_type": ["avg"], "downsample_padding": [2], "act_fn": ["gelu"]}
OF_NETWORKS |= {"mid_block_type": [None], "mid_block_scale_factor": [1.4], "center_input_sample": [True]}
OF_NETWORKS |= {"block_out_channels": [[16, "32"], []], "layers_per_block": [[1, 1], True], "flip_sin_to_cos": ["yes"]}
OF_NETWORKS |= {"dropout": [1.5, float("nan")], "norm_eps": [-1e-5], "resnet_time_scale_shift": ["spatial"]}
OF_NETWORKS |= {"attention_head_dim": [0], "attn_norm_num_groups": [4], "add_attention": [2]}
OF_NETWORKS |= {"class_embed_type": ["timestep"], "num_class_embeds": [10], "sample_size": [[16, 32], "16"]}
OF_NETWORKS |= {"new_kind_of_block": ["x"]}

OF_PROCESSES: Refused = {"_class_name": ["ScoreSdeVeScheduler", None], "beta_schedule": ["laplace", ["linear"]]}
OF_PROCESSES |= {"beta_start": ["0.1"], "beta_end": [1.0, -0.1], "num_train_timesteps": [0, 1 << 40, 1000.0]}
OF_PROCESSES |= {"trained_betas": [[0.1, 0.2], 0.1], "variance_type": ["learned"], "prediction_type": ["flow"]}
OF_PROCESSES |= {"clip_sample": [None], "clip_sample_range": [2.0], "thresholding": [True]}
OF_PROCESSES |= {"rescale_betas_zero_snr": [True]}

REFUSED = [(CONFIG, key, value, key) for key, values in OF_NETWORKS.items() for value in values]
REFUSED += [(SCHEDULER, key, value, key) for key, values in OF_PROCESSES.items() for value in values]
REFUSED += [
    (CONFIG, "block_out_channels", [16, 30], "widths [16, 30]"),
    (CONFIG, "block_out_channels", [0, 0], "widths [0, 0]"),
    (CONFIG, "attention_head_dim", 5, "32 does not divide into its attention heads"),
    (CONFIG, "norm_num_groups", 7, "groups = 7"),
    (CONFIG, "norm_num_groups", None, "norm_num_groups = None"),
    (CONFIG, "resnet_time_scale_shift", "scale_shift", "attn_norm_num_groups = None"),
    (CONFIG, "upsample_type", "resnet", "all changes of resolution must be of one type"),
    (CONFIG, "new\nkey", None, "unknown key 'new\\nkey'"),
    (SCHEDULER, "beta_start", 0.0, "every beta of a schedule must lie in (0, 1)"),
    (SCHEDULER, "trained_betas", [0.5] * 999 + [1.0], "every beta of a schedule must lie in (0, 1)"),
]


@pytest.mark.parametrize(("file", "key", "value", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_ours_cannot_be_is_named(save: Save, file: str, key: str, value: object, words: str) -> None:
    folder = save()
    change(folder / file, **{key: value})
    said = refusal(folder)
    assert said.startswith(f"{folder / file}: ")
    assert words in said


def test_a_learned_range_needs_six_channels(save: Save) -> None:
    said = refusal(save(scheduler={"variance_type": "learned_range"}))
    assert "out_channels = 3" in said
    assert "learned-range" in said


def test_a_pipeline_with_more_than_a_network(save: Save) -> None:
    folder = save("pipeline")
    index = folder / "model_index.json"
    parts = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "D"]}
    index.write_text(json.dumps(parts | {"safety_checker": [None, None]}))
    assert read_diffusers(folder).weights
    index.write_text(json.dumps(parts | {"vqvae": ["diffusers", "VQModel"]}))
    assert "vqvae" in refusal(folder)


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "truncated": (SAFE, lambda data: data[:-100]),
    "cut short": (SAFE, lambda data: data[:7]),
    "no weights": (SAFE, lambda _: None),
    "no config": (CONFIG, lambda _: None),
    "no scheduler": (SCHEDULER, lambda _: None),
    "damaged config": (CONFIG, lambda data: data[:-4]),
    "config of bytes": (CONFIG, lambda _: b"\xff\xfe{}"),
    "config of a list": (CONFIG, lambda data: b"[" + data + b"]"),
    "no class": (CONFIG, lambda data: data.replace(b"_class_name", b"_class")),
    "damaged scheduler": (SCHEDULER, lambda data: data + b"}"),
    "empty scheduler": (SCHEDULER, lambda _: b"{}"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_named(save: Save, kind: str) -> None:
    folder = save()
    name, damage = DAMAGE[kind]
    damaged = damage((folder / name).read_bytes())
    (folder / name).unlink()
    if damaged is not None:
        (folder / name).write_bytes(damaged)
    assert str(folder / name) in refusal(folder)


KEYS = ["mid_block.attentions.0.to_q.weight", "mid_block.attentions.0.to_v.bias"]
KEYS += ["up_blocks.0.attentions.1.to_out.0.weight", "down_blocks.0.resnets.0.conv1.weight"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("damage", ["missing", "renamed", "another", "shape", "nan", "infinite", "integer"])
def test_damaged_weights_are_named(save: Save, key: str, damage: str) -> None:
    folder = save()
    tensors = load_file(folder / SAFE)
    value = tensors.pop(key)
    damaged = {
        "renamed": {"module." + key: value},
        "another": {key: value, "class_embedding.weight": value.clone()},
        "shape": {key: value[:-1].clone()},
        "nan": {key: value + float("nan")},
        "infinite": {key: torch.where(value == value.max(), float("-inf"), value)},
        "integer": {key: torch.ones(value.shape, dtype=torch.int32)},
    }
    save_file(tensors | damaged.get(damage, {}), folder / SAFE)
    said = refusal(folder)
    beginning = "unexpected weight 'class_embedding.weight'" if damage == "another" else f"weight {key!r} "
    assert said.startswith(f"{folder / SAFE}: {beginning}")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_state_dict_is_not_run(save: Save, tmp_path: Path, archive: bool) -> None:
    folder = save(weights=BIN)
    mark = tmp_path / "ran"
    content = torch.load(folder / BIN, weights_only=True) | {"conv_in.weight": Touch(mark)}
    torch.save(content, folder / BIN, _use_new_zipfile_serialization=archive)
    assert BIN in refusal(folder)
    assert not mark.exists()


def test_other_folders_are_not_diffusers(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text("{}")
    (tmp_path / "model.pt").write_bytes(b"")
    assert not is_diffusers(tmp_path)
