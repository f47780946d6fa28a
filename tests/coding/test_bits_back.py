"""Bits-back on a chain whose exact likelihood is known: the coded rate is the information content."""

import contextlib

import numpy as np
import pytest
from scipy.stats import norm

from ddpm_codec.coding.ans import Stack, StackExhausted
from ddpm_codec.coding.bits_back import (
    Ints,
    Pixels,
    Points,
    decode_batch,
    encode_batch,
    pop_factorised,
    push_factorised,
)
from ddpm_codec.coding.prices import Floats
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS, PIXEL_GRID
from ddpm_codec.errors import FormatError

ONE = 1 << MEAN_BITS
RATIO = 0.75
SPREAD, CENTRE = 12.0, 120.0


class GaussianChain:
    """Sub-pixels N(CENTRE, SPREAD^2), coded through z_j = x_0 + sigma_j eps with the Bayes-optimal reverse steps.

    All conditionals of a Gaussian chain are Gaussian, so the model is exact and the bound is the likelihood, up to the
    rounding of x_0 to integers, which adds 1/12 to a variance of sigma_0^2.
    """

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self.steps = len(sigmas) - 1
        self.sigma = np.array(sigmas)
        self.delta = self.sigma / RATIO

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def encode_mean(self, x0: Pixels) -> Ints:
        return np.rint((x0 - CENTRE) / self.delta[0] * ONE).astype(np.int64)

    def forward_scale(self, level: int) -> float:
        cleaner = self.sigma[level - 1] if level else 0.0
        return float(np.sqrt(self.sigma[level] ** 2 - cleaner**2) / self.delta[level])

    def forward_mean(self, n_prev: Points, level: int) -> Ints:
        return np.rint(n_prev * (self.delta[level - 1] / self.delta[level] * ONE)).astype(np.int64)

    def push_pictures(self, stack: Stack, x0: Pixels, n_0: Points, prices: Floats | None) -> None:
        push_factorised(stack, x0, self.likelihood(n_0), prices)

    def pop_pictures(self, stack: Stack, shape: tuple[int, int, int, int], n_0: Points) -> Pixels:
        return pop_factorised(stack, shape, self.likelihood(n_0))

    def likelihood(self, n_0: Points) -> tuple[Ints, Points]:
        weight = SPREAD**2 / (SPREAD**2 + self.sigma[0] ** 2)
        mean = np.rint((CENTRE + weight * n_0 * self.delta[0]) * ONE).astype(np.int64)
        index = PIXEL_GRID.index(np.array(np.sqrt(weight) * self.sigma[0]))
        return mean, np.full(mean.shape, index, dtype=np.int32)

    def reverse(self, n_t: Points, level: int) -> tuple[Ints, Points]:
        s, t = self.sigma[level - 1], self.sigma[level]
        weight = (SPREAD**2 + s**2) / (SPREAD**2 + t**2)
        mean = np.rint(n_t * (weight * self.delta[level] / self.delta[level - 1] * ONE)).astype(np.int64)
        scale = np.sqrt(weight * (t**2 - s**2)) / self.delta[level - 1]
        return mean, np.full(mean.shape, LATTICE_GRID.index(np.array(scale)), dtype=np.int32)

    def prior(self, shape: tuple[int, ...]) -> tuple[Ints, Points]:
        scale = np.hypot(SPREAD, self.sigma[-1]) / self.delta[-1]
        return np.zeros(shape, np.int64), np.full(shape, LATTICE_GRID.index(np.array(scale)), dtype=np.int32)


def pictures(shape: tuple[int, ...], seed: int = 0) -> Pixels:
    x = np.random.default_rng(seed).normal(CENTRE, SPREAD, shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def random_bytes(count: int) -> bytes:
    return np.random.default_rng(7).bytes(count)


@pytest.mark.parametrize("sigmas", [(2.0,), (2.0, 9.0), (1.5, 3.0, 8.0, 30.0)])
def test_the_net_rate_is_the_information_content(sigmas: tuple[float, ...]) -> None:
    model, x0 = GaussianChain(sigmas), pictures((4, 3, 128, 128))
    seed = random_bytes(x0.size)
    stack = Stack.seeded(seed)
    before = stack.bits
    encode_batch(stack, model, x0)
    net_bpd = (stack.bits - before) / x0.size
    mass = norm.cdf(x0 + 0.5, CENTRE, SPREAD) - norm.cdf(x0 - 0.5, CENTRE, SPREAD)
    ideal_bpd = float(-np.log2(mass).mean())
    assert net_bpd == pytest.approx(ideal_bpd, abs=0.003)
    stack = Stack.from_bytes(stack.to_bytes())
    np.testing.assert_array_equal(decode_batch(stack, model, x0.shape), x0)
    assert stack.remainder() == seed


@pytest.mark.parametrize("size", [(1, 1), (1, 23), (8, 8), (9, 7), (31, 16)])
@pytest.mark.parametrize("images", [1, 3])
def test_pictures_of_any_size_come_back(size: tuple[int, int], images: int) -> None:
    """Those that are no multiple of the block are padded for the latents, and only their own pixels are coded."""
    model, x0 = GaussianChain((1.0, 4.0, 20.0)), pictures((images, 3, *size), seed=3)
    x0[0, :, 0, 0] = 255  # far from everything: an escape
    seed = random_bytes(images * 4000)
    stack = Stack.seeded(seed)
    encode_batch(stack, model, x0)
    np.testing.assert_array_equal(decode_batch(stack, model, x0.shape), x0)
    assert stack.remainder() == seed


def test_batches_are_popped_in_reverse() -> None:
    model, first, second = GaussianChain((1.0, 4.0)), pictures((2, 3, 8, 8), 1), pictures((1, 3, 16, 9), 2)
    stack = Stack.seeded(random_bytes(3000))
    encode_batch(stack, model, first)
    encode_batch(stack, model, second)
    np.testing.assert_array_equal(decode_batch(stack, model, second.shape), second)
    np.testing.assert_array_equal(decode_batch(stack, model, first.shape), first)
    assert stack.remainder() == random_bytes(3000)


def test_too_few_bits_to_begin_with() -> None:
    with pytest.raises(StackExhausted):
        encode_batch(Stack.seeded(random_bytes(20)), GaussianChain((1.0, 4.0)), pictures((1, 3, 8, 8)))


@pytest.mark.parametrize("place", range(0, 400, 23))
def test_damage_never_goes_by_in_silence(place: int) -> None:
    """A flipped bit either raises or leaves other pixels or another remainder, which the checksum of a block sees."""
    model, x0, seed = GaussianChain((1.0, 4.0)), pictures((1, 3, 16, 16)), random_bytes(400)
    stack = Stack.seeded(seed)
    encode_batch(stack, model, x0)
    data = bytearray(stack.to_bytes())
    data[place] ^= 4
    with contextlib.suppress(FormatError):
        stack = Stack.from_bytes(bytes(data))
        pixels = decode_batch(stack, model, x0.shape)
        assert (pixels != x0).any() or stack.remainder() != seed
