"""Folders with a state dict of improved-diffusion or guided-diffusion (one ``.pt``) and its command-line flags.

The state dict does not record its architecture, so ``flags.json`` repeats the flags that were published with it, under
their own names: ``{"image_size": 32, "num_res_blocks": 3, "learn_sigma": true, "diffusion_steps": 4000}``. Flags that are
left out have the defaults of those codes.
Sources: Nichol & Dhariwal 2021; Dhariwal & Nichol 2021; names and defaults: script_util.py and unet.py of both codes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_codec.diffusion.process import ReverseProcess, ReverseVariance
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.files import read_json, read_tensors
from ddpm_codec.models.checkpoints.published import Published, rename_weights
from ddpm_codec.nn.ddpm_unet import UNetConfig, weight_shapes

FLAGS = "flags.json"

_DEFAULTS: dict[str, bool | int | float | str] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "sigma_small": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "timestep_respacing": "",
    "predict_xstart": False,
    "rescale_timesteps": True,
}
"""Of improved-diffusion. Those of guided-diffusion differ in ``rescale_timesteps`` alone, which is False there."""

_GUIDED_ALONE = frozenset({"num_head_channels", "channel_mult", "resblock_updown", "use_new_attention_order"})
"""Flags that improved-diffusion does not have."""

_WITHOUT_EFFECT = frozenset(
    {"data_dir", "schedule_sampler", "lr", "weight_decay", "lr_anneal_steps", "batch_size", "microbatch", "ema_rate"}
    | {"log_interval", "save_interval", "resume_checkpoint", "use_fp16", "fp16_scale_growth", "use_checkpoint"}
    | {"use_kl", "rescale_learned_sigmas", "num_samples", "use_ddim", "clip_denoised", "model_path"}
)
"""Flags of training and of sampling, which say nothing about the model."""

_MULTIPLIERS: dict[int, tuple[float, ...]] = {
    32: (1, 2, 2, 2),
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}
"""Widths by image size, in num_channels, where channel_mult is empty."""

_PARTS = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "time": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "shortcut": "skip_connection",
    "norm": "norm",
    "qkv": "qkv",
    "out": "proj_out",
}
"""Parts of residual and attention blocks, ours and theirs."""


def is_guided(folder: Path) -> bool:
    """Return whether ``folder`` holds ``flags.json``."""
    return (folder / FLAGS).is_file()


def read_guided(folder: Path) -> Published:
    """Read a state dict of improved-diffusion or guided-diffusion by the flags beside it.

    Raises:
        ModelError: naming the file and the flag, key or shape that is wrong or has no counterpart here.
    """
    flags = _Flags(folder / FLAGS)
    states = sorted(folder.glob("*.pt"))
    if len(states) != 1:
        raise ModelError(f"{folder}: expected exactly one .pt file beside {FLAGS}, found {len(states)}")
    process, unet = _process(flags), _unet(flags)
    weights = _weights(states[0], flags, unet)
    training = {"source": "improved-diffusion or guided-diffusion", "file": states[0].name, "flags": flags.given}
    return Published(folder.resolve().name, unet, weights, process, flags.whole("image_size", 8, 4096), training)


class _Flags:
    """Flags with the kinds of their defaults; values may be strings, as on a command line.

    Args:
        path: of the file.

    Raises:
        ModelError: the file is damaged, or a flag is unknown or of the wrong kind.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.given = path, read_json(path)
        self.values: dict[str, Any] = dict(_DEFAULTS)
        if self.given.keys() & _GUIDED_ALONE:
            self.values["rescale_timesteps"] = False
        for key, value in self.given.items():
            if key in _DEFAULTS:
                self.values[key] = self._parsed(key, value)
            elif key not in _WITHOUT_EFFECT:
                raise ModelError(f"{path}: unknown flag {key!r}")

    def _parsed(self, key: str, value: object) -> bool | int | float | str:
        kind = type(_DEFAULTS[key])
        text = str(value).strip()
        if type(value) in (bool, str) and kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if type(value) in (int, float, str) and kind is not bool:
            try:
                return kind(text)
            except ValueError:
                pass
        self.values[key] = value
        raise self.refused(key, f"must be a {kind.__name__}")

    def refused(self, key: str, why: str) -> ModelError:
        """Return the error about a flag."""
        shown = repr(self.values[key])
        return ModelError(f"{self.path}: {key} = {shown if len(shown) <= 100 else shown[:97] + '...'}: {why}")

    def on(self, key: str) -> bool:
        """Return a boolean."""
        return bool(self.values[key])

    def whole(self, key: str, least: int, most: int) -> int:
        """Return an integer from ``least`` to ``most``."""
        value = int(self.values[key])
        if not least <= value <= most:
            raise self.refused(key, f"must be from {least} to {most}")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        """Return positive integers written with commas between them."""
        parts = [part.strip() for part in str(self.values[key]).split(",")]
        if len(parts) > 16 or not all(part.isdecimal() and len(part) <= 4 and int(part) for part in parts):
            raise self.refused(key, "must be at most 16 positive integers, separated by commas")
        return tuple(int(part) for part in parts)


def _process(flags: _Flags) -> ReverseProcess:
    """Return the process: betas from 0.1 / T to 20 / T, or those of the cosine schedule."""
    if flags.values["timestep_respacing"]:
        raise flags.refused("timestep_respacing", "must be empty: the codec chooses its own levels")
    steps = flags.whole("diffusion_steps", 1, 100_000)
    if flags.values["noise_schedule"] not in ("linear", "cosine"):
        raise flags.refused("noise_schedule", "not supported, only linear, cosine")
    try:
        if flags.values["noise_schedule"] == "linear":
            schedule = NoiseSchedule.linear_beta(steps, 0.1 / steps, 20.0 / steps)
        else:
            schedule = NoiseSchedule.cosine(steps)
    except InputError as error:
        raise flags.refused("diffusion_steps", str(error)) from error
    fixed: ReverseVariance = "beta-tilde" if flags.on("sigma_small") else "beta"
    variance = "learned-range" if flags.on("learn_sigma") else fixed
    return ReverseProcess(schedule, "x0" if flags.on("predict_xstart") else "eps", variance, clip=True)


def _unet(flags: _Flags) -> UNetConfig:
    if flags.on("class_cond"):
        raise flags.refused("class_cond", "models with labels (label_emb) are not supported")
    size, channels = flags.whole("image_size", 8, 4096), flags.whole("num_channels", 1, 8192)
    if not flags.values["channel_mult"] and size not in _MULTIPLIERS:
        raise flags.refused("image_size", f"needs channel_mult; defaults exist only for {list(_MULTIPLIERS)}")
    multipliers = flags.wholes("channel_mult") if flags.values["channel_mult"] else _MULTIPLIERS[size]
    sides = [size // side for side in flags.wholes("attention_resolutions")]
    heads, head_channels = flags.whole("num_heads", 1, 1024), flags.values["num_head_channels"]
    if head_channels != -1:
        flags.whole("num_head_channels", 1, 8192)
    elif flags.values["num_heads_upsample"] not in (-1, heads):
        raise flags.refused("num_heads_upsample", f"not supported, only num_heads = {heads}")
    if not 0.0 <= flags.values["dropout"] < 1.0:
        raise flags.refused("dropout", "must be from 0 to 1")
    blocks = flags.whole("num_res_blocks", 1, 64)
    try:
        return UNetConfig(
            widths=tuple(int(multiplier * channels) for multiplier in multipliers),
            blocks=blocks,
            attention=tuple(level for level in range(len(multipliers)) if 2**level in sides),
            heads=heads,
            head_channels=max(head_channels, 0),
            norm_eps=1e-5,
            dropout=flags.values["dropout"],
            time_channels=channels,
            time_scale=_time_scale(flags),
            frequency_shift=0,
            cosine_first=True,
            conditioning="scale-shift" if flags.on("use_scale_shift_norm") else "add",
            resample="residual" if flags.on("resblock_updown") else "conv",
            pad_both_sides=True,
            learned_range=flags.on("learn_sigma"),
        )
    except ModelError as error:
        raise ModelError(f"{flags.path}: {error}") from error


def _time_scale(flags: _Flags) -> float:
    """Return what the network's timesteps are multiplied with."""
    return 1000.0 / float(flags.values["diffusion_steps"]) if flags.on("rescale_timesteps") else 1.0


def _weights(path: Path, flags: _Flags, unet: UNetConfig) -> dict[str, Tensor]:
    found = read_tensors(path)
    labels = [key for key in found if key.startswith("label_emb")]
    if labels:
        raise ModelError(f"{path}: weight {labels[0]!r}: models with labels are not supported")
    last = found.get("out.2.weight")
    if last is not None and last.ndim == 4 and len(last) in {3, 6} - {unet.out_channels}:
        raise flags.refused("learn_sigma", f"weight 'out.2.weight' of {path.name} has {len(last)} output channels")
    shapes = weight_shapes(unet)
    names = _names(list(shapes), unet)
    for key, name in names.items():
        layer = key.split(".")[-2]
        if name in found and layer in ("qkv", "out"):
            found[name] = _attention_weight(found[name], shapes[key], layer, flags, unet)
    return rename_weights(found, names, unet, f"{path} as {FLAGS} describes it")


def _attention_weight(value: Tensor, shape: torch.Size, layer: str, flags: _Flags, unet: UNetConfig) -> Tensor:
    """Make a convolution over a line one over a picture, and bring the rows of queries, keys and values together."""
    if len(shape) == 4 and value.ndim == 3:
        value = value[..., None]
    if layer == "out" or flags.on("use_new_attention_order") or value.shape != shape:
        return value
    # Before guided-diffusion's new order each head had its own queries, keys and values side by side.
    heads = unet.heads_of(shape[0] // 3)
    rows = torch.arange(shape[0]).reshape(heads, 3, -1).transpose(0, 1).flatten()
    return value[rows]


def _names(keys: list[str], unet: UNetConfig) -> dict[str, str]:
    """Return their name of each of our weights."""
    places = _places(unet)
    names: dict[str, str] = {}
    for key in keys:
        module, kind = key.rsplit(".", 1)
        place, _, part = module.rpartition(".")
        if module in places:
            names[key] = f"{places[module]}.{kind}"
        else:
            resampling = "op" if place.startswith("down") else "conv"
            names[key] = f"{places[place]}.{_PARTS.get(part, resampling)}.{kind}"
    return names


def _places(unet: UNetConfig) -> dict[str, str]:
    """Return their name of each of our blocks; theirs are numbered through, ours by resolution."""
    places = {"time.linear_in": "time_embed.0", "time.linear_out": "time_embed.2", "stem": "input_blocks.0.0"}
    places |= {"middle_first": "middle_block.0", "middle_attention": "middle_block.1", "middle_last": "middle_block.2"}
    places |= {"head_norm": "out.0", "head": "out.2"}
    last, number = len(unet.widths) - 1, 1
    for level in range(last + 1):
        for block in range(unet.blocks):
            places[f"down.{level}.blocks.{block}"] = f"input_blocks.{number}.0"
            places[f"down.{level}.attentions.{block}"] = f"input_blocks.{number}.1"
            number += 1
        places[f"down.{level}.change"] = f"input_blocks.{number}.0"
        number += 1
    number = 0
    for stage, level in enumerate(reversed(range(last + 1))):
        for block in range(unet.blocks + 1):
            places[f"up.{stage}.blocks.{block}"] = f"output_blocks.{number}.0"
            places[f"up.{stage}.attentions.{block}"] = f"output_blocks.{number}.1"
            number += 1
        places[f"up.{stage}.change"] = f"output_blocks.{number - 1}.{2 if level in unet.attention else 1}"
    return places
