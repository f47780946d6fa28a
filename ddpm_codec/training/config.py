"""The configuration of a training run: a flat TOML file, every key also an option of ``ddpm-codec train``."""

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from ddpm_codec.diffusion.process import OutputKind, ReverseVariance
from ddpm_codec.diffusion.transform import TRANSFORMS
from ddpm_codec.errors import InputError
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.ddpm_unet.config import UNETS, Conditioning, TimeFeatures
from ddpm_codec.nn.pixel_decoder import DECODERS, Tail, checked_crossings
from ddpm_codec.training.augment import Augmentation

Kind = Literal["codec network", "U-Net", "pixel decoder"]
"""What a run trains."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; saved beside its weights.

    Attributes:
        data: training images, one or several of: folder, zip, .npz/.npy, CIFAR-10 folder, ``sheet:FILE:32x32``.
        data_weights: relative chance of an image of each of ``data``; empty: all alike.
        output: folder for checkpoints and logs.
        validation: images for the validation bound; empty: ``holdout`` images are cut from ``data``.
        holdout: how many images (photos, where ``photo_separator`` is set) to set aside from each of ``data`` where
            ``validation`` is empty.
        photo_separator: images named alike up to this are tiles of one photo, held out together; empty: each is a photo.
        size: network, a key of :data:`ddpm_codec.nn.codec_net.SIZES` (codec networks),
            :data:`ddpm_codec.nn.ddpm_unet.config.UNETS` (U-Nets) or
            :data:`ddpm_codec.nn.pixel_decoder.DECODERS` (pixel decoders).
        objective: ``bound`` for a codec network; ``simple``, ``vlb`` (timesteps by importance) or ``hybrid`` for a U-Net;
            ``likelihood`` for a pixel decoder; empty: the first of its kind.
        prediction: what a U-Net predicts, of :data:`ddpm_codec.diffusion.process.OutputKind`.
        variance: of a U-Net's reverse steps, of :data:`ddpm_codec.diffusion.process.ReverseVariance`.
        schedule: of a U-Net's timesteps, ``linear`` in beta or ``cosine``.
        timesteps: T of a U-Net.
        dropout: of a U-Net.
        time_features: of a U-Net, ``sinusoidal`` or ``fourier``; empty: those of ``size``.
        conditioning: of a U-Net on its timestep, ``add`` or ``scale-shift``; empty: that of ``size``.
        crossings: of a pixel decoder, the noise that it decodes from, standard deviations in grey levels.
        mean_weight: of a pixel decoder, weight of the term that keeps m_0 the mean of x_0 given z_0.
        tail: of a pixel decoder, ``two-scale`` or ``gaussian``.
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
        augment: share of the crops that are changed as cameras change pictures (:mod:`ddpm_codec.training.augment`).
        augment_scale: of those, the share at another scale.
        augment_tone: with another tone curve.
        augment_sharpen: sharpened.
        augment_noise: with noise added.
        augment_chroma: with subsampled chroma.
        augment_channels: with the channels in another order.
        augment_transpose: transposed.
        augment_vertical_flip: upside down.
        seed: of every random number.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``bf16`` (autocast), ``float32``, or ``auto``: bf16 where the device computes in it.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validation bounds.
        validation_images: crops in the validation bound.
        log_every: steps between log lines.
        init_from: a checkpoint whose EMA weights start the run, or for a U-Net the folder of a DDPM; empty: random.
        fork_from: a run whose checkpoint this one goes on from, with weights, optimiser, average and step, under its own
            schedule and in its own folder.
        quantize: train with the rounded weights and activations that exact coding uses; calibrated at the start, unless
            ``init_from`` was trained so. A run that has it never goes on without it.
        compile: use torch.compile.
    """

    data: tuple[str, ...] = ()
    data_weights: tuple[float, ...] = ()
    output: str = ""
    validation: str = ""
    holdout: int = 0
    photo_separator: str = ""
    size: str = "base"
    objective: str = ""
    prediction: str = "eps"
    variance: str = "beta"
    schedule: str = "linear"
    timesteps: int = 1000
    dropout: float = 0.0
    time_features: str = ""
    conditioning: str = ""
    crossings: tuple[float, ...] = ()
    mean_weight: float = 0.5
    tail: str = "two-scale"
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
    augment: float = 0.0
    augment_scale: float = 0.5
    augment_tone: float = 0.5
    augment_sharpen: float = 0.3
    augment_noise: float = 0.3
    augment_chroma: float = 0.5
    augment_channels: float = 0.15
    augment_transpose: float = 0.5
    augment_vertical_flip: float = 0.0
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    checkpoint_every: int = 1000
    validate_every: int = 2000
    validation_images: int = 128
    log_every: int = 50
    init_from: str = ""
    fork_from: str = ""
    quantize: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: naming the first bad key.
        """
        self._normalise()
        choices = {
            "size": {*SIZES, *UNETS, *DECODERS},
            "transform": set(TRANSFORMS),
            "optimizer": {"muon", "adamw", "adam"},
            "prediction": set(get_args(OutputKind)),
            "variance": set(get_args(ReverseVariance)),
            "schedule": {"linear", "cosine"},
            "time_features": {"", *get_args(TimeFeatures)},
            "conditioning": {"", *get_args(Conditioning)},
            "tail": set(get_args(Tail)),
            "device": {"auto", "cpu", "cuda"},
            "dtype": {"auto", "bf16", "float32"},
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise InputError(f"{key} = {getattr(self, key)!r}: use one of {', '.join(sorted(allowed))}")
        for key, value in dataclasses.asdict(self).items():
            for element in value if isinstance(value, tuple) else (value,):
                _check_value(key, element)
        self._check_kind()
        self._check_sets()
        if self.kind == "codec network" and self.clean_share > 0 and self.batch < 2:
            raise InputError(f"batch = {self.batch}: needs at least 2 images where clean_share is above zero")
        if self.crop % 8:
            raise InputError(f"crop = {self.crop}: must be a multiple of 8")
        if self.log_snr_min >= self.log_snr_max:
            raise InputError("log_snr_min must be below log_snr_max")

    @property
    def kind(self) -> Kind:
        """What the run trains."""
        if self.size in UNETS:
            return "U-Net"
        return "pixel decoder" if self.size in DECODERS else "codec network"

    @property
    def is_ddpm(self) -> bool:
        """Whether the network is a U-Net with timesteps."""
        return self.kind == "U-Net"

    @property
    def augmentation(self) -> Augmentation:
        """What happens to crops."""
        names = [field.name for field in dataclasses.fields(Augmentation) if field.name != "share"]
        return Augmentation(self.augment, **{name: getattr(self, f"augment_{name}") for name in names})

    def _normalise(self) -> None:
        """Let one DATA stand for a list of one, and fill in what depends on the kind of network."""
        if isinstance(self.data, str):
            object.__setattr__(self, "data", (self.data,) if self.data else ())
        if self.kind == "pixel decoder" and not self.crossings:
            object.__setattr__(self, "crossings", CROSSINGS)
        if not self.objective:
            object.__setattr__(self, "objective", _OBJECTIVES[self.kind][0])

    def _check_sets(self) -> None:
        """Check what belongs to several DATA, and where a run starts.

        Raises:
            InputError: naming the first bad key.
        """
        if self.kind == "pixel decoder":
            try:
                checked_crossings(self.crossings)
            except ValueError as error:
                raise InputError(f"crossings = {list(self.crossings)}: {error}") from error
        if self.data and self.data_weights and len(self.data_weights) != len(self.data):
            raise InputError(
                f"data_weights = {list(self.data_weights)}: needs one for each DATA, of which there are {len(self.data)}"
            )
        if self.fork_from and self.init_from:
            raise InputError("fork_from: goes on with a run, init_from starts one; use either")

    def _check_kind(self) -> None:
        """Refuse what belongs to another kind of network.

        Raises:
            InputError: naming the first bad key.
        """
        known = _OBJECTIVES[self.kind]
        if self.objective not in known:
            raise InputError(f"objective = {self.objective!r}: {self.size} trains with {', '.join(known)}")
        if self.quantize and self.kind != "codec network":
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
        for kind, keys in KEYS_OF_KIND.items():
            for key in () if self.kind == kind else keys:
                if getattr(self, key) != getattr(TrainConfig, key):
                    raise InputError(f"{key}: belongs to {kind}s, {self.size} is a {self.kind}")

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
            checked[key] = _as_list(key, value) if kind is tuple else _as_kind(key, value, kind)
        return cls(**checked)

    def to_toml(self) -> str:
        """Return the configuration as TOML (JSON scalars are TOML scalars, but for the escape of DEL)."""
        values = dataclasses.asdict(self)
        text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        return text.replace("\x7f", "\\u007f")


MAX_TIMESTEPS = 100_000
CROSSINGS = (3.2, 8.2, 20.0)
"""Of a pixel decoder, where the run does not say."""

_OBJECTIVES: dict[Kind, tuple[str, ...]] = {
    "codec network": ("bound",),
    "U-Net": ("simple", "vlb", "hybrid"),
    "pixel decoder": ("likelihood",),
}
KEYS_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "U-Net": ("prediction", "variance", "schedule", "timesteps", "dropout", "time_features", "conditioning"),
    "pixel decoder": ("crossings", "mean_weight", "tail"),
}
"""Keys that are refused for every other kind of network. Those of codec networks alone (transform, levels, log_snr_*,
clean_*) are left unread by the others, since configurations that serve several kinds have them."""

_ABOVE_ZERO = {
    *("crop", "batch", "steps", "lr", "clip", "levels", "timesteps", "crossings", "data_weights"),
    *("checkpoint_every", "validate_every", "validation_images", "log_every"),
}
_SHARES = {"ema", "decay", "clean_share", "dropout"}
_NOT_NEGATIVE = {"holdout", "warmup", "clean_weight", "mean_weight", "seed"}


def _refuse(key: str, value: Any, wanted: str) -> NoReturn:  # noqa: ANN401 - of any kind
    raise InputError(f"{key} = {value!r}: expected {wanted}")


def _as_list(key: str, value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - of any kind
    """Return ``value``, a list as TOML has it or a tuple as checkpoints have; one DATA stands for a list of one.

    Raises:
        InputError: it is no list, or holds something of another kind.
    """
    if isinstance(value, str) and key == "data":
        return (value,) if value else ()
    if not isinstance(value, (list, tuple)):
        _refuse(key, value, "a list")
    return tuple(_as_kind(key, element, str if key == "data" else float) for element in value)


def _as_kind(key: str, value: Any, kind: type) -> Any:  # noqa: ANN401 - of any kind
    """Return ``value``, an integer as a float where one is wanted.

    Raises:
        InputError: it is of another kind.
    """
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else _refuse(key, value, kind.__name__)


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
    elif key.startswith("augment") and not 0.0 <= value <= 1.0:
        raise InputError(f"{key} = {value}: must lie in [0, 1]")
