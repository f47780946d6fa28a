"""The variational bound of a chain, term by term, in bits per dimension.

    -ln P(x_0) <= L_T + sum_k L_k + L_0,
    L_T = KL( q(x_T | x_0) || p(x_T) ),
    L_k = KL( q(x_s | x_t, x_0) || p(x_s | x_t) ),
    L_0 = -ln P(x_0 | x_first).

The sum is what a bits-back coder spends on a picture, and each term is one of its messages (Ho et al. 2020, sec. 4.3).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.gaussian import ratio_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood, logistic_log_likelihood
from ddpm_codec.diffusion.measurement import (
    Calibration,
    LevelMeasurement,
    VarianceKind,
    check_pictures,
    denoise_at,
    draw_noise,
    measure_levels,
    noise_generator,
)
from ddpm_codec.diffusion.noise_level import sigma_from_log_snr
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
from ddpm_codec.diffusion.prediction import Denoiser, Prediction
from ddpm_codec.diffusion.prior import PriorModel, prior_kl_nats
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.diffusion.variance import Variances, variances_of
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.units import GREY_PER_UNIT, nats_to_bits

__all__ = [
    "BoundTerms",
    "Calibration",
    "LevelMeasurement",
    "Likelihood",
    "PriorModel",
    "VarianceKind",
    "evaluate_bound",
    "measure_levels",
    "prior_kl_nats",
]

Likelihood = Literal["gaussian", "logistic"]
"""The family of the discretised decoder L_0; either has the mean and variance that the network predicts."""

_LOG_SCALE_OF_UNIT_VARIANCE = 0.5 * math.log(3.0) - math.log(math.pi)
_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BoundTerms:
    """Every term of the bound for each of N pictures, in bits per dimension of that picture.

    Attributes:
        chain: the K + 1 levels.
        prior_bpd: L_T, [N].
        diffusion_bpd: L_k, cleanest step first, [N, K].
        reconstruction_bpd: L_0, [N].
        dims: sub-pixels of each picture, [N].
        mean_rmse: root mean squared error of the mean of x_0 at the cleanest level, in grey levels, [N]: of the denoiser's,
            or of m_0 where a pixel decoder took over.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> terms = ddpm_codec.bound(np.zeros((16, 16, 3), np.uint8), model="cifar10", steps=4, device="cpu")
        >>> parts = terms.prior_bpd + terms.diffusion_bpd.sum(axis=1) + terms.reconstruction_bpd
        >>> bool(np.isclose(parts, terms.total_bpd).all()), terms.images
        (True, 1)
    """

    chain: Chain
    prior_bpd: _Array
    diffusion_bpd: _Array
    reconstruction_bpd: _Array
    dims: NDArray[np.int64]
    mean_rmse: _Array

    @property
    def images(self) -> int:
        """N."""
        return len(self.dims)

    @property
    def total_bpd(self) -> _Array:
        """L_T + sum_k L_k + L_0 of each picture, [N]."""
        total: _Array = self.prior_bpd + self.diffusion_bpd.sum(axis=1) + self.reconstruction_bpd
        return total

    @property
    def mean_bpd(self) -> float:
        """Mean of the totals over pictures, each counting the same."""
        return float(self.total_bpd.mean())

    @property
    def stderr_bpd(self) -> float:
        """Standard error of :attr:`mean_bpd` over pictures; NaN for a single one."""
        if self.images < 2:
            return math.nan
        return float(self.total_bpd.std(ddof=1)) / math.sqrt(self.images)

    @property
    def pooled_bpd(self) -> float:
        """Bits of all pictures over sub-pixels of all pictures: what one archive of them is compared with."""
        return float(np.average(self.total_bpd, weights=self.dims))

    @property
    def pooled_stderr_bpd(self) -> float:
        """Standard error of :attr:`pooled_bpd`, a ratio of sums over pictures; NaN for a single one."""
        if self.images < 2:
            return math.nan
        residual_bits = self.dims * (self.total_bpd - self.pooled_bpd)
        spread = math.sqrt(float(np.square(residual_bits).sum()) * self.images / (self.images - 1))
        return spread / float(self.dims.sum())

    def to_dict(self) -> dict[str, object]:
        """Return means over pictures, ready for JSON; a standard error of one picture is None."""
        return {
            "images": self.images,
            "dims": int(self.dims.sum()),
            "total_bpd": self.mean_bpd,
            "stderr_bpd": _finite(self.stderr_bpd),
            "pooled_bpd": self.pooled_bpd,
            "pooled_stderr_bpd": _finite(self.pooled_stderr_bpd),
            "prior_bpd": float(self.prior_bpd.mean()),
            "diffusion_bpd": self.diffusion_bpd.mean(axis=0).tolist(),
            "reconstruction_bpd": float(self.reconstruction_bpd.mean()),
            "mean_rmse": float(np.sqrt(np.average(self.mean_rmse**2, weights=self.dims))),
            "steps": self.chain.steps,
            "log_snr": list(self.chain.log_snr),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class _Evaluator:
    """What stays the same from picture to picture."""

    denoiser: Denoiser
    transform: BlockTransform
    chain: Chain
    prior: PriorModel
    variances: Variances
    likelihood: Likelihood
    decoder: PixelLikelihood | None
    coded: tuple[int, int] | None = None

    def terms(self, x_0: Tensor, generators: list[torch.Generator], progress: Callable[[int], object] | None) -> _Array:
        """Return [prior, steps cleanest first, reconstruction] in nats and the squared error of the cleanest mean.

        One row a picture, [B, K + 3].
        """
        levels = self.chain.log_snr
        columns = [prior_kl_nats(self.transform.forward(x_0.double()), levels[-1], self.prior)]
        for index, level in enumerate(levels):
            if index == 0:
                last = self._reconstruction(x_0, level, generators)
            else:
                columns.append(self._step(x_0, denoise_at(self.denoiser, x_0, level, generators), index))
            if progress is not None:
                progress(len(x_0))
        return torch.stack([*columns, *last], dim=1).cpu().numpy()

    def _step(self, x_0: Tensor, prediction: Prediction, index: int) -> Tensor:
        error = self.transform.forward(x_0.double() - prediction.x0_mean.double())
        s, t = self.chain.log_snr[index - 1 : index + 1]
        difference = error.new_tensor(self.chain.snr_differences[index - 1])
        log_ratio = self.variances.log_ratio(prediction, s, t)
        if log_ratio.shape[-2:] not in ((1, 1), error.shape[-2:]):
            raise InputError(f"variances per sub-pixel require the identity transform, not {self.transform.name}")
        return ratio_kl_nats(error, log_ratio, difference).sum(dim=(1, 2, 3))

    def _reconstruction(self, x_0: Tensor, level: float, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Return L_0 and the squared error of the mean at the cleanest level, summed over each picture, [B] each."""
        if self.decoder is None:
            prediction = denoise_at(self.denoiser, x_0, level, generators)
            mean, log_p = prediction.x0_mean, self._factorised(x_0, prediction)
        else:
            levels = torch.full((len(x_0),), level, dtype=x_0.dtype, device=x_0.device)
            z_0 = x_0 + float(sigma_from_log_snr(level)) * draw_noise(x_0, generators)
            if self.coded is not None:
                x_0 = x_0[..., : self.coded[0], : self.coded[1]].contiguous()
            parameters, maps = self.decoder.parameters_given(z_0, levels, x_0)
            mean, log_p = maps.mean[..., : x_0.shape[2], : x_0.shape[3]], parameters.log_likelihood(x_0, torch.float64)
        error = (x_0.double() - mean.double()).square()
        return -log_p.sum(dim=(1, 2, 3)), error.sum(dim=(1, 2, 3))

    def _factorised(self, x_0: Tensor, prediction: Prediction) -> Tensor:
        """Return ln p(x_0 | x_first) of every sub-pixel where each is decoded on its own."""
        first, second = self.chain.log_snr[:2]
        mean = prediction.x0_mean.double()
        log_variance = self.variances.decoder_log_variance(prediction, first, second)
        if self.likelihood == "gaussian":
            return gaussian_log_likelihood(x_0.double(), mean, log_variance)
        return logistic_log_likelihood(x_0.double(), mean, 0.5 * log_variance + _LOG_SCALE_OF_UNIT_VARIANCE)


@torch.no_grad()
def evaluate_bound(
    denoiser: Denoiser,
    batches: Iterable[Tensor],
    transform: BlockTransform,
    chain: Chain,
    prior: PriorModel,
    *,
    variance: VarianceKind | Variances = "predicted",
    calibration: Calibration | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    likelihood: Likelihood = "gaussian",
    decoder: PixelLikelihood | None = None,
    coded: tuple[int, int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> BoundTerms:
    """Return every term of the bound for every picture, with one noise draw a picture and level.

    The KLs and L_0 are computed in float64 from what the denoiser says in the dtype of the batches.

    Args:
        denoiser: the network, on the device of the batches.
        batches: model values x_0, each [B, 3, H, W] with sides that are multiples of the block of W; sizes may differ
            between batches.
        transform: W, in which the reverse steps are diagonal.
        chain: the levels.
        prior: p(x_T).
        variance: of the reverse steps and L_0: a kind (see :func:`~ddpm_codec.diffusion.variance.variances_of`), or an object
            that gives them.
        calibration: measured on training pictures; needed for ``class`` and ``level``.
        seed: of the noise.
        numbers: of the noise, one a picture over all batches, at least 0; None: 0, 1, 2, and so on. A picture draws from a
            generator of its own (:func:`~ddpm_codec.diffusion.measurement.noise_generator`), which the seed and its number
            determine, whatever is evaluated beside it, before it or in another call. Equal numbers draw equal noise.
        likelihood: family of L_0 where each sub-pixel is decoded on its own.
        decoder: p(x_0 | z_0) at the cleanest level of the chain, in place of the denoiser's own; the denoiser is not asked
            there.
        coded: rows and columns that the decoder codes, from the first on, where the others are padding that it does not see;
            None: all. Bits are still divided by all sub-pixels.
        progress: told after each network evaluation how many (image, level) pairs are done, as ``tqdm.update``.

    Raises:
        InputError: for no pictures, pictures of a wrong shape, numbers that are negative or more or fewer than the pictures,
            an unknown variance or likelihood, or a calibration that is missing or does not cover the chain.
        ModelError: a term is not finite.

    Source: Ho et al. 2020, eq. 5; Kingma et al. 2021 (VDM), eq. 11 and 13.
    """
    if likelihood not in ("gaussian", "logistic"):
        raise InputError(f"unknown likelihood {likelihood!r}")
    if numbers is not None and min(numbers, default=0) < 0:
        raise InputError(f"numbers of noise are at least 0; got {min(numbers)}")
    if isinstance(variance, str):
        variance = variances_of(variance, transform, calibration, chain.log_snr)
    evaluator = _Evaluator(denoiser, transform, chain, prior, variance, likelihood, decoder, coded)
    terms: list[_Array] = []
    dims: list[int] = []
    for x_0 in batches:
        check_pictures(x_0, transform)
        nats = evaluator.terms(x_0, _generators(seed, numbers, len(dims), len(x_0)), progress)
        if not np.isfinite(nats).all():
            raise ModelError(
                "the bound is not finite: the network predicts non-finite values, or the variances are invalid"
            )
        per_image = x_0[0].numel()
        terms.append(nats / per_image)
        dims.extend([per_image] * len(x_0))
    if not dims:
        raise InputError("cannot evaluate the bound: no pictures")
    if numbers is not None and len(numbers) > len(dims):
        raise InputError(f"{len(numbers)} numbers of noise for {len(dims)} pictures")
    table = np.concatenate(terms)
    bpd, rmse = nats_to_bits(1.0) * table[:, :-1], GREY_PER_UNIT * np.sqrt(table[:, -1])
    return BoundTerms(chain, bpd[:, 0], bpd[:, 1:-1], bpd[:, -1], np.array(dims, dtype=np.int64), rmse)


def _generators(seed: int, numbers: Sequence[int] | None, done: int, count: int) -> list[torch.Generator]:
    """Return the generators of the ``count`` pictures that come after ``done`` ones."""
    span = range(done, done + count)
    if numbers is None:
        return [noise_generator(seed, number) for number in span]
    if len(numbers) < span.stop:
        raise InputError(f"{len(numbers)} numbers of noise for {span.stop} pictures or more")
    return [noise_generator(seed, numbers[place]) for place in span]
