"""The lattice model of a chain: its numbers are those of the diffusion, and what it codes comes back."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ddpm_codec.codecs.latents import RATIO, DiffusionLattice, GreyChain, noisy_picture
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.bits_back import decode_batch, encode_batch
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS, PIXEL_GRID, STEPS_PER_OCTAVE
from ddpm_codec.diffusion.gaussian import posterior
from ddpm_codec.diffusion.transform import BlockTransform, by_name
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer
from ddpm_codec.nn.integer import IntegerPrediction

GREY = 127.5
SPREAD = 30.0
"""Standard deviation of the pictures, grey levels."""

SIGMAS = (0.006, 0.03, 0.15, 0.8)
ONE = 1 << MEAN_BITS
HALF_STEP = 0.5 / STEPS_PER_OCTAVE + 1e-6


class Shrinkage:
    """The optimal denoiser of white Gaussian pictures: the same shrinkage in every orthonormal basis."""

    def __init__(self, transform: BlockTransform, sigmas: tuple[float, ...]) -> None:
        self.transform = transform
        noise = (GREY * np.array(sigmas)) ** 2
        self.weight = SPREAD**2 / (SPREAD**2 + noise)
        log_variance = np.log(self.weight * noise / GREY**2)
        self.index = np.rint((log_variance - integer.LOG_VAR_FLOOR) * integer.LOG_VAR_STEPS).astype(np.int16)

    def coefficients(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        images, _, height, width = picture.shape
        side = self.transform.block
        return self.predict(picture, level, (images, self.transform.dims, height // side, width // side))

    def pixels(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        return self.predict(picture, level, picture.shape)

    def predict(self, picture: np.ndarray, level: int, shape: tuple[int, ...]) -> IntegerPrediction:
        scale = self.weight[level] * 2.0 ** (integer.MEAN_BITS - integer.PICTURE_BITS)
        return IntegerPrediction(np.rint(picture * scale).astype(np.int64), np.full(shape, self.index[level]))

    def variance(self, level: int) -> float:
        """Return the predicted variance, grey levels squared."""
        return float(np.exp(integer.log_variances()[self.index[level]])) * GREY**2


def lattice(name: str, sigmas: tuple[float, ...] = SIGMAS) -> tuple[DiffusionLattice, Shrinkage]:
    transform = by_name(name)
    denoiser = Shrinkage(transform, sigmas)
    variance = np.full(transform.dims, (SPREAD / GREY) ** 2)
    return DiffusionLattice(GreyChain(denoiser, transform, sigmas, np.zeros(transform.dims), variance)), denoiser


def delta(level: int) -> float:
    """Return the width of the lattice, grey levels."""
    return GREY * SIGMAS[level] / RATIO


def pictures(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(GREY, SPREAD, shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def latents(name: str, level: int) -> np.ndarray:
    spread = math.hypot(SPREAD, GREY * SIGMAS[level]) / delta(level)
    dims, side = by_name(name).dims, 8 // by_name(name).block
    return np.rint(np.random.default_rng(level).normal(0, spread, (2, dims, side, 3 * side))).astype(np.int32)


NAMES = pytest.mark.parametrize("name", ["colour-8x8", "identity"])
STEPS = pytest.mark.parametrize("level", range(1, len(SIGMAS)))


@NAMES
@STEPS
def test_a_reverse_step_is_that_of_the_diffusion(name: str, level: int) -> None:
    """N(a x_t + c m, v + c^2 w) of the variance-preserving process, divided by sqrt(alpha_bar_s)."""
    model, denoiser = lattice(name)
    n = latents(name, level)
    mean, scale_index = model.reverse(n, level)

    log_snr = -2.0 * torch.tensor(SIGMAS, dtype=torch.float64).log()
    a, c, v = (float(part) for part in posterior(log_snr[level - 1], log_snr[level]))
    root_s, root_t = (float(torch.sigmoid(log_snr[at]).sqrt()) for at in (level - 1, level))
    z_t = n * delta(level)
    # W x0_mean of a picture that is shrunk is W z_t shrunk.
    x0_mean = denoiser.weight[level] * z_t
    expected = (a * z_t * root_t + c * x0_mean) / root_s / delta(level - 1)
    # The picture that the denoiser sees has 6 fractional bits, its answer 10.
    unseen = c / root_s * 0.5 * 8.0 * (2.0**-6 + 2.0**-10) / delta(level - 1)
    np.testing.assert_allclose(mean / ONE, expected, rtol=0, atol=unseen + 1.0 / ONE)
    assert np.abs(mean / ONE - expected).mean() < unseen / 8.0 + 1.0 / ONE

    variance = v / root_s**2 * GREY**2 + (c / root_s) ** 2 * denoiser.variance(level)
    scale = math.sqrt(variance) / delta(level - 1)
    np.testing.assert_allclose(np.log2(LATTICE_GRID.scales[scale_index] / scale), 0.0, atol=HALF_STEP)


@STEPS
def test_a_forward_step_and_the_marginal_give_the_posterior(level: int) -> None:
    """Bayes: 1 / v = 1 / sigma_s^2 + 1 / (sigma_t^2 - sigma_s^2)."""
    model, _ = lattice("colour-8x8")
    log_snr = -2.0 * torch.tensor(SIGMAS, dtype=torch.float64).log()
    v = float(posterior(log_snr[level - 1], log_snr[level]).v / torch.sigmoid(log_snr[level - 1])) * GREY**2
    step = (model.forward_scale(level) * delta(level)) ** 2
    assert 1 / v == pytest.approx(1 / (GREY * SIGMAS[level - 1]) ** 2 + 1 / step, rel=1e-9)
    n = np.arange(-40, 41, dtype=np.int32)
    np.testing.assert_allclose(model.forward_mean(n, level) / ONE, n * delta(level - 1) / delta(level), atol=0.51 / ONE)


@NAMES
def test_the_first_latent_is_the_transformed_picture(name: str) -> None:
    model, _ = lattice(name)
    x0 = pictures((2, 3, 16, 8))
    y0 = by_name(name).forward(torch.from_numpy(x0.astype(np.float64) - GREY)).numpy()
    np.testing.assert_allclose(model.encode_mean(x0) / ONE, y0 / delta(0), rtol=1e-12, atol=0.51 / ONE)
    assert model.latent_shape(x0.shape) == y0.shape
    assert model.forward_scale(0) == pytest.approx(RATIO, rel=1e-12)


@NAMES
def test_the_likelihood_is_that_of_the_denoiser(name: str) -> None:
    denoiser = Shrinkage(by_name(name), SIGMAS)
    dims = by_name(name).dims
    chain = GreyChain(denoiser, by_name(name), SIGMAS, np.zeros(dims), np.ones(dims))
    n = latents(name, 0)
    mean, scale_index = chain.pixel_law(n, delta(0))
    picture = by_name(name).inverse(torch.from_numpy(n * delta(0))).numpy()
    np.testing.assert_allclose(mean / ONE, GREY + denoiser.weight[0] * picture, rtol=0, atol=0.51 / 64 + 1e-3)
    scale = math.sqrt(denoiser.variance(0))
    np.testing.assert_allclose(np.log2(PIXEL_GRID.scales[scale_index] / scale), 0.0, atol=HALF_STEP)


@NAMES
def test_the_prior_is_that_of_the_data_with_noise(name: str) -> None:
    transform = by_name(name)
    rng = np.random.default_rng(2)
    mean, variance = rng.normal(0, 2, transform.dims), rng.uniform(0.01, 4, transform.dims)
    model = DiffusionLattice(GreyChain(Shrinkage(transform, SIGMAS), transform, SIGMAS, mean, variance))
    shape = (2, transform.dims, 3, 5)
    got, scale_index = model.prior(shape)
    assert got.shape == scale_index.shape == shape
    np.testing.assert_allclose(got[1, :, 2, 4] / ONE, mean * GREY / delta(-1), rtol=0, atol=0.51 / ONE)
    scale = np.sqrt(variance + SIGMAS[-1] ** 2) * GREY / delta(-1)
    np.testing.assert_allclose(np.log2(LATTICE_GRID.scales[scale_index[0, :, 1, 1]] / scale), 0.0, atol=HALF_STEP)


@NAMES
@pytest.mark.parametrize("level", range(len(SIGMAS)))
def test_the_denoiser_sees_the_inverse_transform(name: str, level: int) -> None:
    """To 1/64 grey level."""
    n = latents(name, level)
    picture = by_name(name).inverse(torch.from_numpy(n * delta(level))).numpy()
    np.testing.assert_allclose(
        noisy_picture(by_name(name), n, delta(level)) / 2**integer.PICTURE_BITS, picture, rtol=0, atol=1 / 64
    )


@NAMES
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 41), (24, 17)])
def test_random_pictures_come_back(name: str, size: tuple[int, int]) -> None:
    """Uniform noise, which the model does not expect, and padding."""
    model, _ = lattice(name)
    rng = np.random.default_rng(4)
    x0 = rng.integers(0, 256, (3, 3, *size), np.uint8)
    seed = rng.bytes(3 * 6 * 64 * math.ceil(size[0] / 8) * math.ceil(size[1] / 8))
    stack = Stack.seeded(seed)
    encode_batch(stack, model, x0)
    stack = Stack.from_bytes(stack.to_bytes())
    np.testing.assert_array_equal(decode_batch(stack, model, x0.shape), x0)
    assert stack.remainder() == seed


@NAMES
def test_the_net_rate_is_the_information_content(name: str) -> None:
    """The model is exact where the first noise hides that grey levels are whole numbers."""
    model, _ = lattice(name, (0.012, *SIGMAS[1:]))
    x0 = pictures((2, 3, 64, 64), seed=5)
    seed = np.random.default_rng(6).bytes(x0.size)
    stack = Stack.seeded(seed)
    before = stack.bits
    encode_batch(stack, model, x0)
    upper = np.where(x0 == 255, 1.0, norm.cdf(x0 + 0.5, GREY, SPREAD))
    lower = np.where(x0 == 0, 0.0, norm.cdf(x0 - 0.5, GREY, SPREAD))
    assert (stack.bits - before) / x0.size == pytest.approx(float(-np.log2(upper - lower).mean()), abs=0.003)


@NAMES
@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 1 << 28, 1 << 22, -1000])
def test_latents_that_no_encoder_draws_are_damage(name: str, value: int) -> None:
    """They come from an escape symbol that damage made; nothing may overflow, and the error is the format's."""
    model, _ = lattice(name)
    shape = model.latent_shape((1, 3, 8, 8))
    stack = Stack.seeded(b"")
    n = np.zeros(shape, np.int32)
    n[0, 1, 0, 0] = value
    stack.push_lattice(n, *model.prior(shape))
    with pytest.raises(FormatError):
        pop_all(stack, model)


def pop_all(stack: Stack, model: DiffusionLattice) -> None:
    decode_batch(stack, model, (1, 3, 8, 8))
    stack.remainder()


def test_a_chain_has_the_bytes_of_every_machine() -> None:
    """Integers and correctly rounded arithmetic from the pictures to the words: equality, not closeness."""
    shape = (2, 3, 19, 24)
    raw = hashlib.shake_256(b"ddpm-codec chain").digest(math.prod(shape) + 9001)
    x0 = np.frombuffer(raw[: math.prod(shape)], np.uint8).reshape(shape)
    transform, sigmas = by_name("colour-8x8"), (0.0078125, 0.0625, 0.5)
    variance = np.full(transform.dims, 0.5)
    model = DiffusionLattice(GreyChain(Dyadic(), transform, sigmas, np.zeros(transform.dims), variance))
    stack = Stack.seeded(raw[math.prod(shape) :])
    encode_batch(stack, model, x0)
    data = stack.to_bytes()
    assert hashlib.sha256(data).hexdigest() == "3aee3c8d0690e63621d4ca4cafd8abf5a339d558463f6af0a469ec743f837d48"


class Dyadic:
    """A denoiser of integers alone."""

    def coefficients(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        images, _, height, width = picture.shape
        index = np.arange(192, dtype=np.int16)[None, :, None, None] + 400
        shape = (images, 192, height // 8, width // 8)
        return IntegerPrediction(picture * (12 >> level), np.broadcast_to(index, shape))

    def pixels(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        return IntegerPrediction(picture * 15, (400 + (np.abs(picture) >> 6)).astype(np.int16))
