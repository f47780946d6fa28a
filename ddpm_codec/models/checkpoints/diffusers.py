"""Folders of the diffusers library: UNet2DModel with a DDPM or DDIM scheduler, read without that library.

Two layouts: flat (``config.json``, ``scheduler_config.json`` and the weights side by side) and that of a pipeline
(``unet/`` and ``scheduler/``). A key that a file leaves out has the default of diffusers 0.42. What would change the
arithmetic and has no counterpart in our U-Net is refused.
Source of keys, defaults and names of weights: diffusers, models/unets/unet_2d.py, schedulers/scheduling_ddpm.py.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.process import OutputKind, ReverseProcess, ReverseVariance
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.files import read_json
from ddpm_codec.models.checkpoints.published import Published, checked_weight, rename_weights
from ddpm_codec.models.checkpoints.weights import find_weights, has_weights, read_weights
from ddpm_codec.nn.ddpm_unet import UNetConfig, weight_shapes

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
MAX_TIMESTEPS, MAX_LEVELS = 100_000, 16

_ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "in_channels": (3,),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
"""Keys of the network with the values that our U-Net has, the default first."""

_READ = re.compile(
    "_.*|sample_size|out_channels|time_embedding_dim|freq_shift|flip_sin_to_cos|(down|up)_block_types|block_out_channels"
    "|layers_per_block|downsample_padding|(down|up)sample_type|dropout|attention_head_dim|(attn_)?norm_num_groups|norm_eps"
    "|resnet_time_scale_shift|add_attention"
    # Without effect: read for a learned time embedding alone, or left behind by a moving average.
    "|num_train_timesteps|decay|inv_gamma|min_decay|min_value|optimization_step|power|update_after_step|use_ema_warmup"
)
"""The keys beside them; any other might change what the network computes."""

_DOWN = {"DownBlock2D": (False, "conv"), "AttnDownBlock2D": (True, ""), "ResnetDownsampleBlock2D": (False, "resnet")}
_UP = {"UpBlock2D": (False, "conv"), "AttnUpBlock2D": (True, ""), "ResnetUpsampleBlock2D": (False, "resnet")}
"""Type of a block: whether it attends, how it changes the resolution; empty: as down- or upsample_type says."""

_VARIANCES: dict[str, ReverseVariance] = {
    "fixed_small": "beta-tilde",
    "fixed_small_log": "beta-tilde",
    "fixed_large": "beta",
    "fixed_large_log": "beta",
    "learned_range": "learned-range",
}
_OUTPUTS: dict[str, OutputKind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_SCHEDULERS = ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler")

_NAMES = (
    (r"^time\.linear_in\.", "time_embedding.linear_1."),
    (r"^time\.linear_out\.", "time_embedding.linear_2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.conv_out\.", ".conv2."),
    (r"\.norm_in\.", ".norm1."),
    (r"\.norm_out\.", ".norm2."),
    (r"\.time\.", ".time_emb_proj."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+|middle_attention)\.norm\.", r"\1.group_norm."),
    (r"^(down|up)\.(\d+)\.blocks\.", r"\1_blocks.\2.resnets."),
    (r"^(down|up)\.(\d+)\.attentions\.", r"\1_blocks.\2.attentions."),
    (r"^(down|up)\.(\d+)\.change\.", r"\1_blocks.\2.\1samplers.0."),
    (r"^middle_first\.", "mid_block.resnets.0."),
    (r"^middle_attention\.", "mid_block.attentions.0."),
    (r"^middle_last\.", "mid_block.resnets.1."),
    (r"^head_norm\.", "conv_norm_out."),
    (r"^head\.", "conv_out."),
    (r"^stem\.", "conv_in."),
)
"""Our parts of a name and theirs."""


def is_diffusers(folder: Path) -> bool:
    """Return whether ``folder`` is laid out as diffusers does it, whole or not."""
    marks = ("unet/" + CONFIG, SCHEDULER, INDEX)
    return any((folder / mark).is_file() for mark in marks) or has_weights(folder)


def read_diffusers(folder: Path) -> Published:
    """Read a UNet2DModel, its scheduler and its weights (see :func:`~ddpm_codec.models.checkpoints.weights.find_weights`).

    Raises:
        ModelError: naming the file and the key, value or shape that is wrong or has no counterpart here.
    """
    _check_parts(folder / INDEX)
    piped = (folder / "unet").is_dir()
    network, scheduler = (folder / "unet", folder / "scheduler") if piped else (folder, folder)
    config = _Config(network / CONFIG)
    process = _process(_Config(scheduler / SCHEDULER))
    unet = _unet(config, process)
    weights = _weights(find_weights(network), unet)
    training = {"source": "diffusers", "version": str(config.values.get("_diffusers_version"))}
    return Published(folder.resolve().name, unet, weights, process, _sample_size(config), training)


class _Config:
    """The object in a JSON file, asked for its values one by one.

    Args:
        path: of the file.

    Raises:
        ModelError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.values = path, read_json(path)

    def refused(self, key: str, default: Any, why: str) -> ModelError:  # noqa: ANN401 - any JSON value
        shown = repr(self.values.get(key, default))
        return ModelError(f"{self.path}: {key} = {shown if len(shown) <= 100 else shown[:97] + '...'}: {why}")

    def one_of(self, key: str, choices: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any JSON value
        """Return a value that must be one of ``choices``, of which the first is the default."""
        value = self.values.get(key, choices[0])
        if value not in choices:
            listed = ", ".join(str(choice) for choice in choices)
            raise self.refused(key, choices[0], f"not supported, only {listed}")
        return value

    def whole(self, key: str, default: int | None, least: int, most: int) -> int:
        """Return an integer from ``least`` to ``most``."""
        value = self.values.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.refused(key, default, f"must be an integer from {least} to {most}")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a number in [0, 1)."""
        value = self.values.get(key, default)
        if type(value) not in (int, float) or not 0.0 <= value < 1.0:
            raise self.refused(key, default, "must be a number from 0 to 1")
        return float(value)

    def listed(self, key: str, default: tuple[Any, ...], kind: type) -> tuple[Any, ...]:
        """Return a list of values of one kind."""
        values = self.values.get(key, default)
        if not isinstance(values, list | tuple) or not values or any(type(value) is not kind for value in values):
            raise self.refused(key, default, f"must be a list of {kind.__name__}")
        return tuple(values)


def _check_parts(index: Path) -> None:
    """Refuse a pipeline with more to it than a network and a scheduler, such as the autoencoder of a latent model."""
    if not index.exists():
        return
    for key, value in read_json(index).items():
        if not key.startswith("_") and key not in ("unet", "scheduler") and value not in (None, [None, None]):
            raise ModelError(f"{index}: {key!r} is a part of the pipeline that is not supported")


def _unet(config: _Config, process: ReverseProcess) -> UNetConfig:
    if "_class_name" not in config.values:
        raise ModelError(f"{config.path}: _class_name is missing, expected UNet2DModel")
    for key, choices in _ONLY.items():
        config.one_of(key, choices)
    for key in config.values.keys() - _ONLY.keys():
        if not _READ.fullmatch(key):
            raise ModelError(f"{config.path}: unknown key {key!r}")
    widths = config.listed("block_out_channels", (224, 448, 672, 896), int)
    attention, change = _levels(config, len(widths))
    time_channels, learned = widths[0], process.variance == "learned-range"
    if config.values.get("time_embedding_dim") not in (None, 4 * time_channels):
        raise config.refused("time_embedding_dim", None, f"not supported, only {4 * time_channels}")
    if config.values.get("out_channels", 3) != (6 if learned else 3):
        raise config.refused("out_channels", 3, f"does not go with the variance of the scheduler, {process.variance}")
    conditioning = config.one_of("resnet_time_scale_shift", ("default", "scale_shift"))
    heads = config.values.get("attention_head_dim", 8)
    fields: dict[str, Any] = {
        "widths": widths,
        "blocks": config.whole("layers_per_block", 2, 1, 64),
        "attention": attention,
        "middle_attention": _middle_attends(config, conditioning),
        "head_channels": 0 if heads is None else config.whole("attention_head_dim", 8, 1, 8192),
        "groups": config.whole("norm_num_groups", 32, 1, 1024),
        "norm_eps": config.number("norm_eps", 1e-5),
        "dropout": config.number("dropout", 0.0),
        "time_channels": time_channels,
        "frequency_shift": config.whole("freq_shift", 0, 0, max(time_channels // 2 - 1, 0)),
        "cosine_first": bool(config.one_of("flip_sin_to_cos", (True, False))),
        "conditioning": "add" if conditioning == "default" else "scale-shift",
        "resample": "residual" if change == "resnet" else "conv",
        "pad_both_sides": config.one_of("downsample_padding", (1, 0)) == 1,
        "learned_range": learned,
    }
    try:
        return UNetConfig(**fields)
    except ModelError as error:
        raise ModelError(f"{config.path}: {error}") from error


def _levels(config: _Config, count: int) -> tuple[tuple[int, ...], str]:
    """Return the levels that attend, and how the resolution changes between levels."""
    attending: list[list[bool]] = []
    ways: set[str] = set()
    for key, kinds, default, change in (
        ("down_block_types", _DOWN, ("DownBlock2D", *["AttnDownBlock2D"] * 3), "downsample_type"),
        ("up_block_types", _UP, (*["AttnUpBlock2D"] * 3, "UpBlock2D"), "upsample_type"),
    ):
        types = [name.removeprefix("UNetRes") for name in config.listed(key, default, str)]
        for name in types:
            if name not in kinds:
                raise config.refused(key, default, f"{name!r} is not supported, only {', '.join(kinds)}")
        if len(types) != count or count > MAX_LEVELS:
            raise config.refused(key, default, f"must be as long as block_out_channels, at most {MAX_LEVELS}")
        finest_first = types if kinds is _DOWN else types[::-1]
        attending.append([kinds[name][0] for name in finest_first])
        attending_way = config.one_of(change, ("conv", "resnet", None)) or "conv"
        # The last type down and the last type up change no resolution.
        ways |= {kinds[name][1] or attending_way for name in types[:-1]}
    shown: tuple[str, ...] = ()
    if attending[0] != attending[1]:
        raise config.refused("up_block_types", shown, "attention must be where down_block_types has it, mirrored")
    if len(ways) > 1:
        raise config.refused("up_block_types", shown, "all changes of resolution must be of one type, conv or resnet")
    return tuple(level for level, attends in enumerate(attending[0]) if attends), ways.pop() if ways else "conv"


def _middle_attends(config: _Config, conditioning: str) -> bool:
    attends = bool(config.one_of("add_attention", (True, False)))
    own, groups = config.values.get("attn_norm_num_groups"), config.values.get("norm_num_groups", 32)
    # Without a number of its own, the middle attention of a scale_shift network has no normalisation at all.
    if attends and own != groups and not (own is None and conditioning == "default"):
        raise config.refused("attn_norm_num_groups", None, f"not supported, only norm_num_groups = {groups}")
    return attends


def _sample_size(config: _Config) -> int:
    value = config.values.get("sample_size")
    sides = [32] if value is None else value if isinstance(value, list) else [value]
    if not sides or any(type(side) is not int or not 1 <= side <= 8192 or side != sides[0] for side in sides):
        raise config.refused("sample_size", None, "must be the side of a square in pixels")
    return int(sides[0])


def _process(config: _Config) -> ReverseProcess:
    if config.values.get("_class_name") not in _SCHEDULERS:
        raise config.refused("_class_name", None, f"not supported, only {', '.join(_SCHEDULERS)}")
    for key in ("thresholding", "rescale_betas_zero_snr"):
        config.one_of(key, (False,))
    clip = bool(config.one_of("clip_sample", (True, False)))
    if clip:
        config.one_of("clip_sample_range", (1.0,))
    if "prediction_type" in config.values or "predict_epsilon" not in config.values:
        output = _OUTPUTS[config.one_of("prediction_type", tuple(_OUTPUTS))]
    else:
        output = "eps" if config.one_of("predict_epsilon", (True, False)) else "x0"
    variance = _VARIANCES[config.one_of("variance_type", tuple(_VARIANCES))]
    try:
        schedule = NoiseSchedule.from_betas(_betas(config))
    except InputError as error:
        raise ModelError(f"{config.path}: {error}") from error
    return ReverseProcess(schedule, output, variance, clip)


def _betas(config: _Config) -> NDArray[np.float64]:
    """Return beta_t of each timestep, [T].

    With T values evenly from beta_start to beta_end: ``linear``; ``scaled_linear`` with their square roots even;
    ``sigmoid`` with steps of the logistic function over [-6, 6]. ``squaredcos_cap_v2`` is the cosine schedule.
    """
    trained = config.values.get("trained_betas")
    timesteps = config.whole("num_train_timesteps", 1000, 1, MAX_TIMESTEPS)
    if trained is not None:
        if len(values := config.listed("trained_betas", (), float)) != timesteps:
            raise config.refused("num_train_timesteps", 1000, f"but trained_betas has {len(values)} values")
        return np.array(values)
    kind = config.one_of("beta_schedule", ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"))
    if kind == "squaredcos_cap_v2":
        return NoiseSchedule.cosine(timesteps).betas
    first, last = config.number("beta_start", 1e-4), config.number("beta_end", 0.02)
    if kind == "linear":
        return np.linspace(first, last, timesteps)
    if kind == "scaled_linear":
        return np.linspace(math.sqrt(first), math.sqrt(last), timesteps) ** 2
    return first + (last - first) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, timesteps)))


def _weights(path: Path, unet: UNetConfig) -> dict[str, Tensor]:
    """Read the weights; query, key and value, [C, C] each, become the rows of one convolution [3 C, C, 1, 1]."""
    found = read_weights(path)
    old = any(key.endswith(".query.weight") for key in found)
    parts, last = (("query", "key", "value"), "proj_attn") if old else (("to_q", "to_k", "to_v"), "to_out.0")
    names: dict[str, str] = {}
    for key, shape in weight_shapes(unet).items():
        names[key] = _their_name(key)
        place, (layer, kind) = names[key].rsplit(".", 2)[0], key.split(".")[-2:]
        if layer == "qkv":
            width = shape[0] // 3
            expected = (width, width) if kind == "weight" else (width,)
            rows = [_checked(found, f"{place}.{part}.{kind}", expected, path) for part in parts]
            names[key] = f"{place}.({', '.join(parts)}).{kind}"
            found[names[key]] = torch.cat(rows).reshape(shape)
        elif layer == "out":
            names[key] = f"{place}.{last}.{kind}"
            value = _checked(found, names[key], tuple(shape[:2]), path)
            found[names[key]] = value.reshape(shape)
    return rename_weights(found, names, unet, str(path))


def _their_name(key: str) -> str:
    for ours, theirs in _NAMES:
        key = re.sub(ours, theirs, key)
    return key


def _checked(found: dict[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """Take a weight out of ``found``, as :func:`rename_weights` would check it."""
    if name not in found:
        raise ModelError(f"{path}: weight {name!r} is missing")
    return checked_weight(found.pop(name), name, shape, str(path))
