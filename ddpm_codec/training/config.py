"""The configuration of a training run: a flat TOML file; every key is also an option of ``ddpm-codec train``."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from ddpm_codec.diffusion.process import OutputKind, ReverseVariance
from ddpm_codec.diffusion.transform import TRANSFORMS
from ddpm_codec.errors import InputError
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.ddpm_unet.config import UNETS, Conditioning, TimeFeatures
from ddpm_codec.nn.pixel_decoder import DECODERS, Tail, checked_crossings
from ddpm_codec.training.augment import Augmentation
from ddpm_codec.training.fields import (
    NotNegative,
    Numbers,
    Positive,
    PositiveInt,
    Share,
    ShareBelowOne,
    Text,
    Whole,
    one_of,
    with_input_errors,
)

Kind = Literal["codec network", "U-Net", "pixel decoder"]
"""The kind of network that a run trains."""

MAX_STEPS = 100
"""Largest K. No model has a chain this long, and a run this short is rare: it catches lengths of runs given as ``steps``."""

MAX_TIMESTEPS = 100_000
CROSSINGS = (3.2, 8.2, 20.0)
"""Crossings of a pixel decoder, unless the run names others."""

OBJECTIVES: dict[Kind, tuple[str, ...]] = {
    "codec network": ("bound",),
    "U-Net": ("simple", "vlb", "hybrid"),
    "pixel decoder": ("likelihood",),
}
KEYS_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "U-Net": ("prediction", "variance", "schedule", "timesteps", "dropout", "time_features", "conditioning"),
    "pixel decoder": ("crossings", "mean_weight", "tail"),
}
"""Keys that other kinds of network refuse. Keys of codec networks alone (transform, steps, log_snr_*, clean_*) are ignored
by the other kinds, because one configuration may serve several of them."""

OLD_NAMES = {"steps": "train_steps", "levels": "steps"}
"""Keys of configurations that were stored before ``train_steps`` existed."""


def _chain_steps(steps: int) -> int:
    if steps > MAX_STEPS:
        raise ValueError(f"at most {MAX_STEPS} steps of the chain (the length of a run is train_steps)")
    return steps


def _several(data: Any) -> Any:  # noqa: ANN401 - anything a user gives
    """Let one DATA stand for a list of one."""
    return ((data,) if data else ()) if isinstance(data, str) else data


@with_input_errors(OLD_NAMES)
@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False, extra="forbid"))
class TrainConfig:
    """Everything that determines a run; saved beside its weights.

    Attributes:
        data: training images, one or more of: folder, zip, .npz/.npy, CIFAR-10 folder, ``sheet:FILE:32x32``.
        data_weights: relative probability of an image of each of ``data``; empty: equal.
        output: folder for checkpoints and logs.
        validation: images for the validation bound; empty: ``holdout`` images of ``data``.
        holdout: number of images (photos, with ``photo_separator``) of each of ``data`` to hold out for validation where
            ``validation`` is empty.
        photo_separator: images with the same name up to this are tiles of one photo and are held out together; empty: each
            image is a photo.
        size: network, a key of :data:`ddpm_codec.nn.codec_net.SIZES` (codec networks),
            :data:`ddpm_codec.nn.ddpm_unet.config.UNETS` (U-Nets) or
            :data:`ddpm_codec.nn.pixel_decoder.DECODERS` (pixel decoders).
        objective: ``bound`` for a codec network; ``simple``, ``vlb`` (importance-sampled timesteps) or ``hybrid`` for a
            U-Net; ``likelihood`` for a pixel decoder; empty: the first of its kind.
        prediction: what a U-Net predicts, one of :data:`ddpm_codec.diffusion.process.OutputKind`.
        variance: of a U-Net's reverse steps, one of :data:`ddpm_codec.diffusion.process.ReverseVariance`.
        schedule: noise schedule of a U-Net, ``linear`` in beta or ``cosine``.
        timesteps: T of a U-Net.
        dropout: of a U-Net.
        time_features: of a U-Net, ``sinusoidal`` or ``fourier``; empty: as in ``size``.
        conditioning: how the timestep enters a U-Net, ``add`` or ``scale-shift``; empty: as in ``size``.
        crossings: noise levels that a pixel decoder decodes from, standard deviations in grey levels.
        mean_weight: of a pixel decoder, weight of the term that keeps m_0 the mean of x_0 given z_0.
        tail: of a pixel decoder's distributions, ``two-scale`` or ``gaussian``.
        transform: W of a codec network, a key of :data:`ddpm_codec.diffusion.transform.TRANSFORMS`.
        crop: side of the random crops in pixels, a multiple of 8.
        batch: images per training step, over all processes.
        train_steps: length of the run in optimiser steps.
        optimizer: ``muon`` (matrices; AdamW for the rest), ``adamw`` (no weight decay) or ``adam`` (torch's defaults).
        lr: peak learning rate.
        warmup: training steps of linear warm-up.
        decay: last share of the run, in which the learning rate falls linearly to zero.
        ema: decay of the exponential moving average of the weights.
        clip: maximum gradient norm.
        steps: K of a codec network: steps of the chain whose bound is the objective.
        log_snr_min: noisiest level of that chain.
        log_snr_max: its cleanest level, where L_0 takes over.
        clean_share: share of the batch spent on L_0.
        clean_weight: weight of L_0 relative to the sum of the step KLs.
        flip: mirror half of the crops.
        augment: share of the crops that are augmented as a random camera would (:mod:`ddpm_codec.training.augment`).
        augment_scale: share of those that are rescaled.
        augment_tone: share with another tone curve.
        augment_sharpen: share that is sharpened.
        augment_noise: share with added noise.
        augment_saturation: share with weaker or stronger chroma.
        augment_chroma: share with subsampled chroma.
        augment_channels: share with permuted colour channels.
        augment_transpose: share that is transposed.
        augment_vertical_flip: share that is flipped vertically.
        skip_small: leave images out that are smaller than the crop or cannot be read, instead of refusing DATA.
        seed: of all random numbers.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``bf16`` (autocast), ``float32``, or ``auto``: bf16 where the device supports it natively.
        checkpoint_every: training steps between checkpoints.
        validate_every: training steps between validation bounds.
        validation_images: number of crops in the validation bound.
        log_every: training steps between log lines.
        init_from: checkpoint whose averaged weights start the run, or for a U-Net a DDPM folder; empty: random weights.
        fork_from: run that this one continues from its last checkpoint (weights, optimiser, average and step) with its own
            schedule and output folder.
        quantize: train with the rounded weights and activations of exact coding; calibrated at the start, unless
            ``init_from`` was trained that way. A run with rounding cannot continue without it.
        compile: use torch.compile.

    Raises:
        InputError: naming the first bad key.
    """

    data: Annotated[tuple[Text, ...], Strict(False), BeforeValidator(_several)] = ()
    data_weights: Numbers = ()
    output: Text = ""
    validation: Text = ""
    holdout: Whole = 0
    photo_separator: Text = ""
    size: Annotated[str, one_of(*SIZES, *UNETS, *DECODERS)] = "base"
    objective: Text = ""
    prediction: OutputKind = "eps"
    variance: ReverseVariance = "beta"
    schedule: Literal["linear", "cosine"] = "linear"
    timesteps: Annotated[int, Field(ge=2, le=MAX_TIMESTEPS)] = 1000
    dropout: ShareBelowOne = 0.0
    time_features: Literal[TimeFeatures, ""] = ""
    conditioning: Literal[Conditioning, ""] = ""
    crossings: Numbers = ()
    mean_weight: NotNegative = 0.5
    tail: Tail = "two-scale"
    transform: Annotated[str, one_of(*TRANSFORMS)] = "colour-8x8"
    crop: Annotated[PositiveInt, Field(multiple_of=8)] = 32
    batch: PositiveInt = 64
    train_steps: PositiveInt = 20000
    optimizer: Literal["muon", "adamw", "adam"] = "muon"
    lr: Positive = 2e-3
    warmup: Whole = 200
    decay: ShareBelowOne = 0.3
    ema: ShareBelowOne = 0.999
    clip: Positive = 1.0
    steps: Annotated[PositiveInt, AfterValidator(_chain_steps)] = 12
    log_snr_min: float = -4.5
    log_snr_max: float = 10.8
    clean_share: ShareBelowOne = 0.125
    clean_weight: NotNegative = 0.5
    flip: bool = True
    augment: Share = 0.0
    augment_scale: Share = 0.5
    augment_tone: Share = 0.5
    augment_sharpen: Share = 0.3
    augment_noise: Share = 0.3
    augment_saturation: Share = 0.0
    augment_chroma: Share = 0.5
    augment_channels: Share = 0.15
    augment_transpose: Share = 0.5
    augment_vertical_flip: Share = 0.0
    skip_small: bool = False
    seed: Whole = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bf16", "float32"] = "auto"
    checkpoint_every: PositiveInt = 1000
    validate_every: PositiveInt = 2000
    validation_images: PositiveInt = 128
    log_every: PositiveInt = 50
    init_from: Text = ""
    fork_from: Text = ""
    quantize: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Fill in what depends on the kind of network, then check what no key says alone."""
        if self.kind == "pixel decoder" and not self.crossings:
            object.__setattr__(self, "crossings", CROSSINGS)
        if not self.objective:
            object.__setattr__(self, "objective", OBJECTIVES[self.kind][0])
        self._check_kind()
        self._check_pairs()

    @property
    def kind(self) -> Kind:
        """The kind of network that the run trains."""
        if self.size in UNETS:
            return "U-Net"
        return "pixel decoder" if self.size in DECODERS else "codec network"

    @property
    def is_ddpm(self) -> bool:
        """Whether the network is a U-Net with timesteps."""
        return self.kind == "U-Net"

    @property
    def augmentation(self) -> Augmentation:
        """The random camera that crops go through."""
        names = [field.name for field in dataclasses.fields(Augmentation) if field.name != "share"]
        return Augmentation(self.augment, **{name: getattr(self, f"augment_{name}") for name in names})

    def _check_kind(self) -> None:
        """Refuse what belongs to another kind of network."""
        known = OBJECTIVES[self.kind]
        if self.objective not in known:
            raise InputError(f"objective = {self.objective!r}: {self.size} trains with {', '.join(known)}")
        if self.quantize and self.kind == "U-Net":
            raise InputError(
                f"quantize: {self.size} has no integer form, only codec networks and pixel decoders have one"
            )
        if self.quantize and self.tail == "gaussian":
            raise InputError('quantize: a pixel decoder with tail = "gaussian" has no integer form')
        if self.objective == "hybrid" and self.variance != "learned-range":
            raise InputError("objective = 'hybrid': learns variances, so it needs variance = \"learned-range\"")
        if self.objective == "simple" and self.variance == "learned-range":
            raise InputError("objective = 'simple': does not train a learned range, use hybrid or vlb")
        for kind, keys in KEYS_OF_KIND.items():
            for key in () if self.kind == kind else keys:
                if getattr(self, key) != getattr(TrainConfig, key):
                    raise InputError(f"{key}: belongs to {kind}s, {self.size} is a {self.kind}")

    def _check_pairs(self) -> None:
        """Check keys against each other."""
        if self.kind == "pixel decoder":
            try:
                checked_crossings(self.crossings)
            except ValueError as error:
                raise InputError(f"crossings = {list(self.crossings)}: {error}") from error
        if self.data and self.data_weights and len(self.data_weights) != len(self.data):
            raise InputError(
                f"data_weights = {list(self.data_weights)}: needs one weight for each of the {len(self.data)} DATA"
            )
        if self.fork_from and self.init_from:
            raise InputError("fork_from: continues a run, init_from starts one; use one of them")
        if self.kind == "codec network" and self.clean_share > 0 and self.batch < 2:
            raise InputError(f"batch = {self.batch}: needs at least 2 images where clean_share is above zero")
        if self.log_snr_min >= self.log_snr_max:
            raise InputError(f"log_snr_min = {self.log_snr_min}: must be below log_snr_max = {self.log_snr_max}")

    @classmethod
    def from_sources(cls, file: Path | None, overrides: dict[str, Any]) -> "TrainConfig":
        """Read a TOML file (or none) and override it with the options that were given (not None).

        Raises:
            InputError: file unreadable or ambiguous, key unknown, or value invalid.
        """
        values = {} if file is None else _read_toml(file)
        return cls.from_dict(values | {key: value for key, value in overrides.items() if value is not None})

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> "TrainConfig":
        """Build from what a run stored, which may have the old names of :data:`OLD_NAMES`.

        Raises:
            InputError: key unknown, or value invalid.
        """
        return cls.from_dict(current_names(values))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Build from plain values.

        Raises:
            InputError: key unknown, or value invalid.
        """
        return cls(**values)

    def to_toml(self) -> str:
        """Return the configuration as TOML (JSON scalars are TOML scalars, except for the escape of DEL)."""
        values = dataclasses.asdict(self)
        text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        return text.replace("\x7f", "\\u007f")


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return a stored configuration with today's names: one without ``train_steps`` has the old ones."""
    if "train_steps" in values:
        return values
    return {OLD_NAMES.get(key, key): value for key, value in values.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    """Read a configuration, of a user or in the folder of a run.

    ``steps`` was the length of a run once, beside ``levels`` for K. A file with ``levels`` has the old names; one with
    neither ``levels`` nor ``train_steps`` could mean either.

    Raises:
        InputError: unreadable or ambiguous.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot read the configuration ({error})") from error
    if "steps" in values and not {"train_steps", "levels"} & values.keys():
        raise InputError(
            f"{file}: steps = {values['steps']!r} without train_steps is ambiguous: rename it to train_steps if it is the "
            "length of the run; add train_steps if it is K, the steps of the chain"
        )
    return current_names(values)
