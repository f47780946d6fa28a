"""The configuration of a training run: a flat TOML file, every key also an option of ``ddpm-codec train``."""

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ddpm_codec.diffusion.process import OutputKind, ReverseVariance
from ddpm_codec.diffusion.transform import TRANSFORMS
from ddpm_codec.errors import InputError
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.ddpm_unet.config import UNETS, Conditioning, TimeFeatures


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; saved beside its weights.

    Attributes:
        data: training images (folder, zip, .npz/.npy, CIFAR-10 folder or ``sheet:FILE:32x32``).
        output: folder for checkpoints and logs.
        validation: images for the validation bound; empty: ``holdout`` images are cut from ``data``.
        holdout: how many images to set aside from ``data`` where ``validation`` is empty.
        size: network, a key of :data:`ddpm_codec.nn.codec_net.SIZES` (codec networks) or
            :data:`ddpm_codec.nn.ddpm_unet.config.UNETS` (U-Nets).
        objective: ``bound`` for a codec network; ``simple``, ``vlb`` (timesteps by importance) or ``hybrid`` for a U-Net;
            empty: the first of its kind.
        prediction: what a U-Net predicts, of :data:`ddpm_codec.diffusion.process.OutputKind`.
        variance: of a U-Net's reverse steps, of :data:`ddpm_codec.diffusion.process.ReverseVariance`.
        schedule: of a U-Net's timesteps, ``linear`` in beta or ``cosine``.
        timesteps: T of a U-Net.
        dropout: of a U-Net.
        time_features: of a U-Net, ``sinusoidal`` or ``fourier``; empty: those of ``size``.
        conditioning: of a U-Net on its timestep, ``add`` or ``scale-shift``; empty: that of ``size``.
        transform: W of a codec network, a key of :data:`ddpm_codec.diffusion.transform.TRANSFORMS`.
        crop: side of the random crops in pixels, a multiple of 8.
        batch: images a step, over all processes.
        steps: length of the run in optimiser steps.
        optimizer: ``muon`` (matrices; AdamW for the rest), ``adamw`` (without weight decay) or ``adam`` (torch's defaults).
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        decay: the last share of the run, over which the rate falls linearly to zero.
        ema: decay of the exponential moving average of the weights.
        clip: bound on the gradient norm.
        levels: of a codec network K, steps of the chain that the objective prices.
        log_snr_min: its noisiest level.
        log_snr_max: its cleanest level, where L_0 takes over.
        clean_share: share of its batch spent on L_0.
        clean_weight: weight of L_0 beside the sum of the step KLs.
        flip: mirror half of the crops.
        seed: of every random number.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``bf16`` (autocast) or ``float32``.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validation bounds.
        validation_images: crops in the validation bound.
        log_every: steps between log lines.
        init_from: a checkpoint whose EMA weights start the run, or for a U-Net the folder of a DDPM; empty: random.
        quantize: train with the rounded weights and activations that exact coding uses; calibrated at the start, unless
            ``init_from`` was trained so. A run that has it never goes on without it.
        compile: use torch.compile.
    """

    data: str = ""
    output: str = ""
    validation: str = ""
    holdout: int = 0
    size: str = "base"
    objective: str = ""
    prediction: str = "eps"
    variance: str = "beta"
    schedule: str = "linear"
    timesteps: int = 1000
    dropout: float = 0.0
    time_features: str = ""
    conditioning: str = ""
    transform: str = "colour-8x8"
    crop: int = 32
    batch: int = 64
    steps: int = 20000
    optimizer: str = "muon"
    lr: float = 2e-3
    warmup: int = 200
    decay: float = 0.3
    ema: float = 0.999
    clip: float = 1.0
    levels: int = 12
    log_snr_min: float = -4.5
    log_snr_max: float = 10.8
    clean_share: float = 0.125
    clean_weight: float = 0.5
    flip: bool = True
    seed: int = 0
    device: str = "auto"
    dtype: str = "bf16"
    checkpoint_every: int = 1000
    validate_every: int = 2000
    validation_images: int = 128
    log_every: int = 50
    init_from: str = ""
    quantize: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: naming the first bad key.
        """
        choices = {
            "size": {*SIZES, *UNETS},
            "transform": set(TRANSFORMS),
            "optimizer": {"muon", "adamw", "adam"},
            "prediction": set(get_args(OutputKind)),
            "variance": set(get_args(ReverseVariance)),
            "schedule": {"linear", "cosine"},
            "time_features": {"", *get_args(TimeFeatures)},
            "conditioning": {"", *get_args(Conditioning)},
            "device": {"auto", "cpu", "cuda"},
            "dtype": {"bf16", "float32"},
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise InputError(f"{key} = {getattr(self, key)!r}: use one of {', '.join(sorted(allowed))}")
        for key, value in dataclasses.asdict(self).items():
            _check_value(key, value)
        self._check_kind()
        if not self.is_ddpm and self.clean_share > 0 and self.batch < 2:
            raise InputError(f"batch = {self.batch}: needs at least 2 images where clean_share is above zero")
        if self.crop % 8:
            raise InputError(f"crop = {self.crop}: must be a multiple of 8")
        if self.log_snr_min >= self.log_snr_max:
            raise InputError("log_snr_min must be below log_snr_max")

    @property
    def is_ddpm(self) -> bool:
        """Whether the network is a U-Net with timesteps, and no codec network."""
        return self.size in UNETS

    def _check_kind(self) -> None:
        """Fill in the objective, and refuse what belongs to the other kind of network.

        Raises:
            InputError: naming the first bad key.
        """
        known = ("simple", "vlb", "hybrid") if self.is_ddpm else ("bound",)
        if not self.objective:
            object.__setattr__(self, "objective", known[0])
        if self.objective not in known:
            raise InputError(f"objective = {self.objective!r}: {self.size} trains with {', '.join(known)}")
        if self.is_ddpm and self.quantize:
            raise InputError(f"quantize: {self.size} has no integer form, only codec networks have")
        if self.objective == "hybrid" and self.variance != "learned-range":
            raise InputError(
                "objective = 'hybrid': is there to learn variances, use it with variance = \"learned-range\""
            )
        if self.objective == "simple" and self.variance == "learned-range":
            raise InputError("objective = 'simple': does not train a learned range, use hybrid or vlb")
        if self.timesteps < 2:
            raise InputError(f"timesteps = {self.timesteps}: needs at least 2")
        if self.timesteps > MAX_TIMESTEPS:
            raise InputError(f"timesteps = {self.timesteps}: at most {MAX_TIMESTEPS}")
        for key in () if self.is_ddpm else UNET_KEYS:
            if getattr(self, key) != getattr(TrainConfig, key):
                raise InputError(f"{key}: belongs to U-Nets, {self.size} is a codec network")

    @classmethod
    def from_sources(cls, file: Path | None, overrides: dict[str, Any]) -> "TrainConfig":
        """Read a TOML file (or none) and lay the options that were given (not None) over it.

        Raises:
            InputError: file unreadable, key unknown, or a value of the wrong kind.
        """
        values: dict[str, Any] = {}
        if file is not None:
            try:
                values = tomllib.loads(file.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise InputError(f"{file}: cannot read the configuration ({error})") from error
        values |= {key: value for key, value in overrides.items() if value is not None}
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Build from plain values, checking names and kinds.

        Raises:
            InputError: key unknown, or a value of the wrong kind.
        """
        kinds: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        checked: dict[str, Any] = {}
        for key, value in values.items():
            kind = kinds.get(key)
            if kind is None:
                raise InputError(f"unknown training key {key!r}; known: {', '.join(kinds)}")
            if kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind:
                raise InputError(f"{key} = {value!r}: expected {kind.__name__}")
            checked[key] = value
        return cls(**checked)

    def to_toml(self) -> str:
        """Return the configuration as TOML (JSON scalars are TOML scalars, but for the escape of DEL)."""
        values = dataclasses.asdict(self)
        text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        return text.replace("\x7f", "\\u007f")


MAX_TIMESTEPS = 100_000
UNET_KEYS = ("prediction", "variance", "schedule", "timesteps", "dropout", "time_features", "conditioning")

_ABOVE_ZERO = {
    *("crop", "batch", "steps", "lr", "clip", "levels", "timesteps"),
    *("checkpoint_every", "validate_every", "validation_images", "log_every"),
}
_SHARES = {"ema", "decay", "clean_share", "dropout"}
_NOT_NEGATIVE = {"holdout", "warmup", "clean_weight", "seed"}


def _check_value(key: str, value: str | float | bool) -> None:
    """Check one value on its own.

    Raises:
        InputError: naming the key.
    """
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{key} = {value!r}: not text that a file can hold")
    elif not math.isfinite(value) or (isinstance(value, int) and abs(value) >= 1 << 63):
        raise InputError(f"{key} = {value}: not a number that makes sense")
    elif key in _ABOVE_ZERO and value <= 0:
        raise InputError(f"{key} = {value}: must be above zero")
    elif key in _NOT_NEGATIVE and value < 0:
        raise InputError(f"{key} = {value}: must not be negative")
    elif key in _SHARES and not 0.0 <= value < 1.0:
        raise InputError(f"{key} = {value}: must lie in [0, 1)")
