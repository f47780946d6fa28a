"""Frozen models: one safetensors file with the network, chains, prior and calibration, named by its SHA-256.

The network is exact (integers, the same on every device) or in floating point (weights, for research).
"""

import json
import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddpm_codec.device import preferred_dtype
from ddpm_codec.diffusion.chain import Chain, even_chain
from ddpm_codec.diffusion.crossing import SAME_LEVEL, pinned_chain
from ddpm_codec.diffusion.measurement import Calibration, VarianceKind
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.diffusion.variance import variances_of
from ddpm_codec.errors import ModelError
from ddpm_codec.models.header import DECODER_KIND, FORMAT, KEY, read_metadata
from ddpm_codec.models.protocol import BoundSetting, Schedule
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig, macs_per_pixel, parameter_count
from ddpm_codec.nn.denoiser import CodecDenoiser, MixedPrecision
from ddpm_codec.nn.exact.bound import ExactBoundDenoiser
from ddpm_codec.nn.exact.executor import ExactDenoiser, make_executor
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.nn.exact.storage import from_arrays, to_arrays
from ddpm_codec.nn.integer import FloatIntegerDenoiser, IntegerDenoiser


@dataclass(frozen=True)
class FrozenModel:
    """A denoiser with everything that a codec needs beside it.

    Attributes:
        name: short name.
        description: one line.
        config: of the network.
        transform: name of W.
        weights: of a network in floating point, kernels in float16; empty where the network is exact.
        sigmas: for each K, the noise standard deviations sigma = 1 / sqrt(snr) of the chain's K + 1 levels in model
            values, cleanest first.
        default_steps: K of the default chain.
        tile: default side of tiles in pixels.
        prior_mean: mean of each coefficient of W x_0, [D].
        prior_variance: its variance, [D].
        grid_log_snr: candidate levels of the calibration, [G].
        class_mse: mean squared error of each coefficient class at each candidate level, [G, D].
        training: how it was made; free-form, informative.
        exact: the exact network, or None.
        rows: for each K, the rows of the exact network's tables that the levels of the chain have, cleanest first.
        tables: SHA-256 of the coding tables that an exact model was made with.
    """

    name: str
    description: str
    config: CodecNetConfig
    transform: str
    weights: dict[str, Tensor]
    sigmas: dict[int, tuple[float, ...]]
    default_steps: int
    tile: int
    prior_mean: NDArray[np.float64]
    prior_variance: NDArray[np.float64]
    grid_log_snr: NDArray[np.float64]
    class_mse: NDArray[np.float64]
    training: dict[str, Any] = field(default_factory=dict)
    exact: ExactParameters | None = None
    rows: dict[int, tuple[int, ...]] = field(default_factory=dict)
    tables: str = ""

    @property
    def arithmetic(self) -> str:
        """``exact`` or ``float``."""
        return "float" if self.exact is None else "exact"

    def integer_denoiser(self, steps: int | None, device: torch.device, dtype: str) -> IntegerDenoiser:
        """Return the denoiser over the levels of the chain of ``steps`` steps (default: the model's own).

        Args:
            steps: K.
            device: where it runs.
            dtype: of a network in floating point; an exact one has none.

        Raises:
            ModelError: no such chain, or weights that do not fit.
        """
        sigmas = self.chain_sigmas(steps)
        if self.exact is not None:
            return ExactDenoiser(make_executor(self.exact, device), self.rows[len(sigmas) - 1])
        log_snr = tuple(log_snr_from_sigma(sigmas).tolist())
        return FloatIntegerDenoiser(MixedPrecision(self.denoiser(device), dtype), log_snr, device)

    def bound_denoiser(self, device: torch.device, dtype: str) -> Denoiser:
        """Return the denoiser for bounds: of an exact model, over its levels alone and with the integers of its coder.

        Raises:
            ModelError: weights that do not fit.
        """
        if self.exact is None:
            return MixedPrecision(self.denoiser(device), dtype)
        rows = tuple(range(self.exact.levels))
        return ExactBoundDenoiser(make_executor(self.exact, device), rows, tuple(self.grid_log_snr.tolist()))

    def chain_steps(self, user_steps: int | None) -> int | None:
        """Return ``user_steps``: users of a codec model count K."""
        return user_steps

    def user_steps(self, chain_steps: int) -> int:
        """Return K."""
        return chain_steps

    def has_chain(self, steps: int) -> bool:
        """Return whether there is a chain of so many steps."""
        return steps in self.sigmas

    def bound_setting(
        self,
        steps: int | None,
        schedule: Schedule | None,
        variance: VarianceKind | None,
        crossing_log_snr: float | None = None,
    ) -> BoundSetting:
        """Return chain, transform, prior and variances of a bound; ``variance`` None is ``predicted``.

        See :meth:`ddpm_codec.models.protocol.CodecModel.bound_setting`.

        Raises:
            InputError: no level of the model lies above the crossing.
            ModelError: there is no chain of that length.
        """
        calibration = Calibration(self.grid_log_snr, self.class_mse)
        if crossing_log_snr is not None:
            chain = self._chain_above(crossing_log_snr, steps, schedule, calibration)
        elif schedule == "even":
            chain = self.even_chain(steps)
        else:
            chain = Chain.from_sigmas(self.chain_sigmas(steps))
        transform = by_name(self.transform)
        used = variance or "predicted"
        variances = variances_of(used, transform, calibration, chain.log_snr)
        prior = PriorModel(self.prior_mean, self.prior_variance)
        return BoundSetting(chain, transform, prior, variances, schedule or "dp", used)

    def _chain_above(
        self, crossing_log_snr: float, steps: int | None, schedule: Schedule | None, calibration: Calibration
    ) -> Chain:
        """Return the chain of the lowest bound above a crossing, or the one of even steps with its ends."""
        wanted = self._steps_above(crossing_log_snr) if steps is None else steps
        chain = pinned_chain(crossing_log_snr, wanted, calibration, PriorModel(self.prior_mean, self.prior_variance))
        if schedule != "even":
            return chain
        even = even_chain(crossing_log_snr, chain.log_snr[-1], wanted)
        return Chain((crossing_log_snr, *self._nearest(even.log_snr[1:])))

    def _steps_above(self, crossing_log_snr: float) -> int:
        """Return how many levels of the default chain are noisier than a crossing: the evaluations that are left."""
        default = log_snr_from_sigma(self.chain_sigmas())
        return max(1, int((default < crossing_log_snr - SAME_LEVEL).sum()))

    def bound_dtype(self, device: torch.device) -> str:
        """Return ``exact``, or what the device computes fastest in."""
        return self.arithmetic if self.exact is not None else preferred_dtype(device)

    def even_chain(self, steps: int | None = None) -> Chain:
        """Return the chain of even steps between the ends of :meth:`chain_sigmas`; an exact model's nearest levels.

        Raises:
            ModelError: there is no chain of that length.
        """
        own = Chain.from_sigmas(self.chain_sigmas(steps))
        even = even_chain(own.log_snr[0], own.log_snr[-1], own.steps)
        return Chain(self._nearest(even.log_snr))

    def _nearest(self, log_snr: tuple[float, ...]) -> tuple[float, ...]:
        """Return the levels nearest to ``log_snr`` that the network can be asked at."""
        if self.exact is None:
            return log_snr
        nearest = [int(np.abs(self.grid_log_snr - level).argmin()) for level in log_snr]
        return tuple(self.grid_log_snr[nearest].tolist())

    def chain_sigmas(self, steps: int | None = None) -> tuple[float, ...]:
        """Return the sigmas of the chain of ``steps`` steps (default: the model's own).

        Raises:
            ModelError: there is no chain of that length.
        """
        wanted = self.default_steps if steps is None else steps
        if wanted not in self.sigmas:
            known = sorted(self.sigmas)
            raise ModelError(f"model {self.name} has no chain of {wanted} steps; it has {known[0]} to {known[-1]}")
        return self.sigmas[wanted]

    def denoiser(self, device: torch.device) -> CodecDenoiser:
        """Return the network in floating point, in eval mode on ``device``.

        Raises:
            ModelError: the weights do not fit the network, or there are none since it is exact.
        """
        if self.exact is not None:
            raise ModelError(f"model {self.name} is exact and has no floating-point weights")
        try:
            # Without memory, so that no initial weights are drawn from the caller's generator.
            with torch.device("meta"):
                denoiser = CodecDenoiser(CodecNet(self.config))
            weights = {key: value.to(torch.float32, copy=True) for key, value in self.weights.items()}
            denoiser.load_state_dict(weights, assign=True)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"model {self.name}: weights do not match the network ({_last_line(error)})") from error
        return denoiser.place(device).eval().requires_grad_(False)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _stored(weight: Tensor) -> Tensor:
    """Return kernels as float16, the few vectors and embedding matrices as they are."""
    return (weight.to(torch.float16) if weight.ndim == 4 else weight.float()).contiguous()


_ARRAYS = ("prior_mean", "prior_variance", "grid_log_snr", "class_mse")


def model_bytes(model: FrozenModel) -> bytes:
    """Serialise ``model``; the same model gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "name": model.name,
        "description": model.description,
        "config": asdict(model.config),
        "transform": model.transform,
        "sigmas": {str(steps): list(chain) for steps, chain in sorted(model.sigmas.items())},
        "default_steps": model.default_steps,
        "tile": model.tile,
        "arithmetic": model.arithmetic,
        "rows": {str(steps): list(rows) for steps, rows in sorted(model.rows.items())},
        "tables": model.tables,
        "parameters": parameter_count(model.config),
        "macs_per_pixel": macs_per_pixel(model.config),
        "training": model.training,
    }
    tensors = {f"weights.{key}": _stored(value) for key, value in model.weights.items()}
    if model.exact is not None:
        arrays = to_arrays(model.exact)
        tensors |= {f"exact.{key}": torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    tensors |= {key: torch.from_numpy(np.ascontiguousarray(getattr(model, key))) for key in _ARRAYS}
    return save(tensors, {KEY: json.dumps(metadata, sort_keys=True)})


def load_model(path: Path) -> FrozenModel:
    """Read a model file.

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    metadata = read_metadata(path)
    if metadata.get("kind") == DECODER_KIND:
        raise ModelError(f"{path}: is a pixel decoder, not a denoiser; pass it as `bpd --decoder`")
    try:
        tensors = load(path.read_bytes())
        config = CodecNetConfig(**metadata["config"])
        exact = {k.removeprefix("exact."): v.numpy() for k, v in tensors.items() if k.startswith("exact.")}
        model = FrozenModel(
            name=metadata["name"],
            description=metadata["description"],
            config=config,
            exact=from_arrays(config, len(tensors["grid_log_snr"]), exact) if exact else None,
            rows={int(steps): tuple(rows) for steps, rows in metadata["rows"].items()},
            tables=metadata["tables"],
            transform=metadata["transform"],
            weights={k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")},
            sigmas={int(steps): tuple(chain) for steps, chain in metadata["sigmas"].items()},
            default_steps=metadata["default_steps"],
            tile=metadata["tile"],
            training=metadata["training"],
            **{key: tensors[key].numpy().astype(np.float64) for key in _ARRAYS},
        )
        _check(model, metadata["arithmetic"])
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{path}: not a usable model file ({_last_line(error)})") from error
    return model


def _check(model: FrozenModel, arithmetic: str) -> None:
    """Check that the parts of a model fit each other.

    Raises:
        ValueError: naming the first that does not.
    """
    if model.arithmetic != arithmetic:
        raise ValueError(f"the network is not {arithmetic}")
    dims, grid = model.prior_mean.shape, model.grid_log_snr.shape
    if len(dims) != 1 or model.prior_variance.shape != dims or model.class_mse.shape != grid + dims:
        raise ValueError("the shapes of its prior and calibration do not match")
    for steps, chain in model.sigmas.items():
        # Written so that a NaN is refused as well.
        ordered = all(0.0 < fine < coarse < math.inf for fine, coarse in pairwise(chain))
        if steps < 1 or len(chain) != steps + 1 or not ordered:
            raise ValueError(f"chain of {steps} steps: needs {steps + 1} finite, increasing positive sigmas")
    if not (np.isfinite(model.prior_mean).all() and np.isfinite(model.prior_variance).all()):
        raise ValueError("the prior is not finite")
    if not isinstance(model.tables, str) or dims != (by_name(model.transform).dims,):
        raise ValueError("the prior does not match the coefficients of the transform")
    if model.exact is not None:
        most = model.exact.levels
        fits = [
            len(rows) == steps + 1 and all(type(row) is int and 0 <= row < most for row in rows)
            for steps, rows in model.rows.items()
        ]
        if model.rows.keys() != model.sigmas.keys() or not all(fits):
            raise ValueError("its chains do not have rows in its tables")
    if model.default_steps not in model.sigmas:
        raise ValueError(f"no chain of the default length, {model.default_steps} steps")
