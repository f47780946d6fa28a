"""One pass over training pictures that prices every sub-chain of a grid of levels.

At each level t a picture is noised once and denoised once. The error and the predicted variance then give the cost of
the step to every cleaner level s, because the cost depends on s through snr_s - snr_t alone (Kingma et al. 2021).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.chain import LevelTable, transition_from_mse
from ddpm_codec.diffusion.gaussian import q_sample, step_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.prediction import Denoiser, Prediction
from ddpm_codec.diffusion.prior import PriorModel, prior_kl_nats
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import InputError, ModelError

VarianceKind = Literal["predicted", "class", "level", "beta", "beta-tilde"]
"""Variance of a reverse step: the model's own, one per coefficient class and level, one per level, or one of the two fixed
ones of Ho et al. 2020."""

_Array = NDArray[np.float64]

LEAST_MSE = 1e-12
"""Of a calibration: pictures of two colours can be predicted without any error, and a variance of zero forbids all others."""


def noise_generator(seed: int, number: int) -> torch.Generator:
    """Return the generator of noise ``number`` under a seed; neither is negative.

    Numbers of any size are told apart: the seed and the number are hashed together, all their bits. torch's generator on a
    CPU starts from 32 bits of the hash, so that among N numbers N^2 / 2^33 pairs are expected to draw alike by chance (0.01
    among 10,000, 116 among a million). Each draw is standard normal all the same, so no mean is biased by it.
    """
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def image_generators(seed: int, first: int, count: int) -> list[torch.Generator]:
    """Return one generator an image, for images ``first`` to ``first + count - 1``.

    Each depends on the seed and the index of its image alone, so that no figure depends on how images are batched.
    """
    return [noise_generator(seed, first + k) for k in range(count)]


def draw_noise(x_0: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Return standard normal noise like x_0 [B, ...], drawn on the CPU image by image."""
    drawn = [torch.randn(x_0.shape[1:], generator=generator, dtype=x_0.dtype) for generator in generators]
    return torch.stack(drawn).to(x_0.device)


def denoise_at(denoiser: Denoiser, x_0: Tensor, log_snr: float, generators: list[torch.Generator]) -> Prediction:
    """Noise the pictures x_0 [B, 3, H, W] to a level and return what the denoiser says about them."""
    level = torch.full((len(x_0),), log_snr, dtype=x_0.dtype, device=x_0.device)
    return denoiser(q_sample(x_0, level, draw_noise(x_0, generators)), level)


def check_pictures(x_0: Tensor, transform: BlockTransform) -> None:
    """Refuse what W cannot be applied to.

    Raises:
        InputError: unless x_0 is [B, 3, H, W] with sides that are multiples of the block.
    """
    if x_0.ndim != 4 or x_0.shape[1] != 3 or x_0.shape[2] % transform.block or x_0.shape[3] % transform.block:
        got = list(x_0.shape)
        raise InputError(f"pictures must be [B, 3, H, W] with sides that are multiples of {transform.block}; got {got}")


def step_log_variance(prediction: Prediction, transform: BlockTransform) -> Tensor:
    """Return the predicted ln variance of each coefficient of W x_0, [B, D, h, w].

    A network whose coefficient head belongs to another transform can still serve W = identity, where a coefficient is a
    sub-pixel: with its per-sub-pixel head.

    Raises:
        InputError: where the network predicts nothing for this transform.
    """
    images, channels, height, width = prediction.x0_mean.shape
    block = transform.block
    expected = (images, transform.dims, height // block, width // block)
    if prediction.coef_log_var.shape == expected:
        return prediction.coef_log_var
    if (images, channels, height, width) == expected:
        return prediction.pixel_log_var
    got = list(prediction.coef_log_var.shape)
    raise InputError(f"{transform.name} needs log-variances {list(expected)}; the network gives {got}")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Mean squared errors of a denoiser, the optimal variances of its reverse steps where it predicts none.

    Attributes:
        log_snr: levels, cleanest first, [G].
        mse: mean of (W x_0 - W x0_mean)^2 over pictures and blocks, one per coefficient class, [G, D].
    """

    log_snr: _Array
    mse: _Array

    def log_variance(self, log_snr: float, kind: VarianceKind) -> _Array:
        """Return ln variance of each coefficient class at a level, [D]; between levels ln mse is interpolated.

        Raises:
            InputError: for a level outside the calibrated range, or kind ``predicted``.
        """
        if kind not in ("class", "level"):
            raise InputError(f"a calibration gives the variances 'class' and 'level'; asked for {kind!r}")
        # Levels that come from a formula may differ in their last bits on another processor.
        if 0.0 < log_snr - self.log_snr[0] < 1e-6 or 0.0 < self.log_snr[-1] - log_snr < 1e-6:
            log_snr = float(self.log_snr[0] if log_snr > self.log_snr[0] else self.log_snr[-1])
        if not self.log_snr[-1] <= log_snr <= self.log_snr[0]:
            span = f"{self.log_snr[-1]:g} to {self.log_snr[0]:g}"
            raise InputError(f"the calibration covers log-SNR {span}; asked for {log_snr:g}")
        mse = self.mse
        if kind == "level":
            mse = mse.mean(axis=1, keepdims=True).repeat(mse.shape[1], axis=1)
        with np.errstate(divide="ignore"):
            logs: _Array = np.log(mse)
        exact = np.flatnonzero(self.log_snr == log_snr)
        if exact.size:
            row: _Array = logs[exact[0]]
            return row
        below = int(np.searchsorted(-self.log_snr, -log_snr))
        share = (self.log_snr[below - 1] - log_snr) / (self.log_snr[below - 1] - self.log_snr[below])
        between: _Array = (1.0 - share) * logs[below - 1] + share * logs[below]
        return between


@dataclass(frozen=True, eq=False)
class LevelMeasurement:
    """Means over pictures at G levels, in nats per dimension, cleanest first.

    Attributes:
        log_snr: levels, [G].
        predicted_nats: KL of the step t -> s with predicted variances, [G, G] at [s, t]; infinite where not measured.
        mse: squared error per coefficient class, model values, [G, D].
        reconstruction_nats: L_0 decoded from each level, [G].
        prior_nats: L_T at each level, [G].
        images: pictures seen.
        crossings: levels at which the network was not asked, and steps may end, [C].
        crossing_nats: KL of the step from each level to each of those with predicted variances, [C, G]; infinite where
            the level is not noisier.
    """

    log_snr: _Array
    predicted_nats: _Array
    mse: _Array
    reconstruction_nats: _Array
    prior_nats: _Array
    images: int
    crossings: _Array = field(default_factory=lambda: np.zeros(0))
    crossing_nats: _Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def pixel_mse(self) -> _Array:
        """Squared error per sub-pixel, [G]: the mean over classes, since W is orthonormal."""
        means: _Array = self.mse.mean(axis=1)
        return means

    @property
    def calibration(self) -> Calibration:
        """The optimal variances per class and level."""
        return Calibration(self.log_snr, self.mse)

    def table(self, kind: VarianceKind) -> LevelTable:
        """Return the costs of every step with variances of that kind; L_0 and L_T are the same in all three."""
        if kind == "predicted":
            transition = self.predicted_nats
        else:
            transition = transition_from_mse(self.log_snr, self.mse if kind == "class" else self.pixel_mse)
        return LevelTable(self.log_snr, transition, self.reconstruction_nats, self.prior_nats)


def _grid(log_snr: Iterable[float]) -> _Array:
    """Return a grid of levels, [G].

    Raises:
        InputError: it does not decrease.
    """
    levels = np.array(list(log_snr), dtype=np.float64)
    if len(levels) < 2 or not (np.diff(levels) < 0.0).all():
        raise InputError("a grid of levels needs at least two log-SNR values, strictly decreasing")
    return levels


class _Sums:
    """Running sums over pictures, in float64."""

    def __init__(self, levels: _Array, classes: int, max_gap: float, crossings: _Array) -> None:
        count = len(levels)
        self.levels, self.crossings = levels, crossings
        self.from_crossing = np.zeros((len(crossings), count))
        self.above = crossings[:, None] > levels[None, :]
        self.predicted = np.zeros((count, count))
        gap = levels[:, None] - levels[None, :]
        self.measured = (gap > 0.0) & (gap <= max_gap)
        self.squares = np.zeros((count, classes))
        self.reconstruction = np.zeros(count)
        self.prior = np.zeros(count)
        self.images = 0
        self.dims = 0
        self.blocks = 0

    def add_level(self, index: int, x_0: Tensor, prediction: Prediction, transform: BlockTransform) -> None:
        """Add one level of one batch. Works in the dtype of x_0: this table chooses, evaluate_bound reports."""
        error = transform.forward(x_0 - prediction.x0_mean)
        squares = error.square().sum(dim=(0, 2, 3), dtype=torch.float64)
        self.squares[index] += squares.cpu().numpy()
        log_p = gaussian_log_likelihood(x_0, prediction.x0_mean, prediction.pixel_log_var)
        self.reconstruction[index] -= log_p.sum(dtype=torch.float64).item()
        log_variance = step_log_variance(prediction, transform)
        for measured, cleaner, sums in (
            (self.measured, self.levels, self.predicted),
            (self.above, self.crossings, self.from_crossing),
        ):
            for s in np.flatnonzero(measured[:, index]):
                difference = np.exp(self.levels[index]) * np.expm1(cleaner[s] - self.levels[index])
                kl = step_kl_nats(error, log_variance, error.new_tensor(difference))
                sums[s, index] += kl.sum(dtype=torch.float64).item()

    def result(self) -> LevelMeasurement:
        """Return the means."""
        if self.images == 0:
            raise InputError("cannot measure levels: no pictures")
        return LevelMeasurement(
            self.levels,
            np.where(self.measured, self.predicted / self.dims, np.inf),
            self.squares / self.blocks,
            self.reconstruction / self.dims,
            self.prior / self.dims,
            self.images,
            self.crossings,
            np.where(self.above, self.from_crossing / self.dims, np.inf),
        )


@torch.no_grad()
def measure_levels(
    denoiser: Denoiser,
    batches: Iterable[Tensor],
    transform: BlockTransform,
    log_snr_grid: Iterable[float],
    prior: PriorModel,
    seed: int,
    max_gap: float = 7.0,
    progress: Callable[[int], object] | None = None,
    crossings: Iterable[float] = (),
) -> LevelMeasurement:
    """Measure what every step between levels of a grid costs, with one noise draw an image and level.

    Args:
        denoiser: the network, on the device of the batches.
        batches: model values x_0, each [B, 3, H, W] with sides that are multiples of the block of W.
        transform: W.
        log_snr_grid: G levels, strictly decreasing.
        prior: p(x_T).
        seed: of the noise; the result does not depend on the batch size.
        max_gap: longest step that is priced with predicted variances, in nats of log-SNR; longer ones cost infinity.
        progress: told after each network evaluation how many (image, level) pairs are done, as ``tqdm.update``.
        crossings: log-SNR of levels where a pixel decoder may take over: the network is not asked there, but steps to them
            are priced, however long.

    Returns:
        Means over all dimensions of all pictures.

    Raises:
        InputError: for no pictures, pictures of a wrong shape, or a grid that does not decrease.
    """
    levels = _grid(log_snr_grid)
    sums = _Sums(levels, transform.dims, max_gap, np.array(list(crossings), dtype=np.float64))
    for x_0 in batches:
        check_pictures(x_0, transform)
        generators = image_generators(seed, sums.images, len(x_0))
        y_0 = transform.forward(x_0)
        for index, level in enumerate(levels.tolist()):
            sums.prior[index] += prior_kl_nats(y_0, level, prior).sum().item()
            sums.add_level(index, x_0, denoise_at(denoiser, x_0, level, generators), transform)
            if progress is not None:
                progress(len(x_0))
        sums.images += len(x_0)
        sums.dims += x_0.numel()
        sums.blocks += x_0.numel() // transform.dims
    return sums.result()


@torch.no_grad()
def measure_errors(
    denoiser: Denoiser,
    batches: Iterable[Tensor],
    transform: BlockTransform,
    log_snr_grid: Iterable[float],
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> Calibration:
    """Measure the mean squared error of x0_mean at every level of a grid, one noise draw an image and level.

        mse[t, c] = E ( (W x_0)_c - (W x0_mean(x_t))_c )^2,

    which is the optimal variance of the reverse step from t where it is diagonal in W.

    Args:
        denoiser: the network, on the device of the batches.
        batches: model values x_0, each [B, 3, H, W] with sides that are multiples of the block of W.
        transform: W.
        log_snr_grid: G levels, strictly decreasing.
        seed: of the noise; the result does not depend on the batch size.
        progress: told after each network evaluation how many (image, level) pairs are done, as ``tqdm.update``.

    Raises:
        InputError: for no pictures, pictures of a wrong shape, or a grid that does not decrease.

    Source: Bao et al. 2022 (Analytic-DPM), theorem 1, per coefficient.
    """
    levels = _grid(log_snr_grid)
    squares, images, blocks = np.zeros((len(levels), transform.dims)), 0, 0
    for x_0 in batches:
        check_pictures(x_0, transform)
        generators = image_generators(seed, images, len(x_0))
        for index, level in enumerate(levels.tolist()):
            error = transform.forward(x_0 - denoise_at(denoiser, x_0, level, generators).x0_mean)
            squares[index] += error.square().sum(dim=(0, 2, 3), dtype=torch.float64).cpu().numpy()
            if progress is not None:
                progress(len(x_0))
        images += len(x_0)
        blocks += x_0.numel() // transform.dims
    if images == 0:
        raise InputError("cannot measure errors: no pictures")
    if not np.isfinite(squares).all():
        raise ModelError("the network's predictions are not finite")
    return Calibration(levels, np.maximum(squares / blocks, LEAST_MSE))
