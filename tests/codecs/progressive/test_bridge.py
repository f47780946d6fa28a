"""The Gaussian bridge below a known level: closed forms against linear algebra, and the lossless round trip through it."""

import numpy as np
import pytest

from ddpm_codec.codecs.progressive.steps import UNIT, VALUE_BITS, Patch, ProgressiveChain
from ddpm_codec.codecs.progressive.tail import BridgedLattice
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.bits_back import decode_batch, encode_batch
from ddpm_codec.coding.tables import MEAN_BITS
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.rate_distortion.milestones import ideal_milestones
from tests.golden.regenerate import EXACT, noisy_picture

LEVEL = 4


@pytest.fixture(scope="module")
def session() -> CodingSession:
    return CodingSession.for_encoding(str(EXACT), "cpu")


def bridged(session: CodingSession, pixels: np.ndarray, seed: int = 0) -> tuple[BridgedLattice, np.ndarray]:
    """Return the chain below LEVEL for a picture [H, W, 3], and z_m in grey levels."""
    chain = ProgressiveChain(session.chain)
    y_0 = chain.coefficients(pixels)
    noise = np.random.default_rng(seed).standard_normal(y_0.shape)
    z_m = np.rint((y_0 + chain.sigmas[LEVEL] * noise) * (1 << VALUE_BITS)).astype(np.int32)
    law = chain.law(z_m, Patch(slice(0, z_m.shape[1]), slice(0, z_m.shape[2])), LEVEL)
    model = BridgedLattice(session.lattice(), LEVEL, z_m[None], law.mean[None], law.spread, law.index[None])
    return model, z_m * UNIT


def conditional(tau: np.ndarray) -> tuple[float, float, float]:
    """Return (weight of z_s, weight of z_m, variance) of z_t given z_s and z_m for a random walk at times tau of s, t, m."""
    covariance = np.minimum.outer(tau, tau)
    given, target = [0, 2] if tau[0] > 0 else [2], 1
    gain = covariance[target, given] @ np.linalg.inv(covariance[np.ix_(given, given)])
    variance = covariance[target, target] - gain @ covariance[given, target]
    if tau[0] > 0:
        return float(gain[0]), float(gain[1]), float(variance)
    return 1.0 - float(gain[0]), float(gain[0]), float(variance)


@pytest.mark.parametrize("level", range(LEVEL))
def test_the_bridge_is_the_conditional_of_the_forward_chain(session: CodingSession, level: int) -> None:
    pixels = noisy_picture(1, 16, 16)
    model, z_m = bridged(session, pixels)
    lattice, chain = session.lattice(), ProgressiveChain(session.chain)
    sigma2 = chain.sigmas**2
    start = float(sigma2[level - 1]) if level else 0.0
    weight_s, weight_m, variance = conditional(np.array([start, sigma2[level], sigma2[LEVEL]]))
    assert model.forward_scale(level) * lattice.unit(level) == pytest.approx(np.sqrt(variance), rel=1e-9)
    if level:
        n_s = np.random.default_rng(level).integers(-40, 40, z_m[None].shape).astype(np.int32)
        z_s, found = n_s * lattice.unit(level - 1), model.forward_mean(n_s, level)
    else:
        z_s = chain.coefficients(pixels)[None]
        found = model.encode_mean(pixels.transpose(2, 0, 1)[None].copy())
    expected = (weight_s * z_s + weight_m * z_m[None]) / lattice.unit(level)
    assert np.abs(found * 2.0**-MEAN_BITS - expected).max() < 1e-3


@pytest.mark.parametrize("size", [(16, 24), (13, 9)])
def test_what_the_bridge_codes_comes_back_and_gives_the_stack_back(
    session: CodingSession, size: tuple[int, int]
) -> None:
    pixels = noisy_picture(2, *size)
    padded = np.pad(pixels, ((0, -size[0] % 8), (0, -size[1] % 8), (0, 0)), mode="edge")
    model, _ = bridged(session, padded)
    start = np.random.default_rng(3).bytes(4 * pixels.size)
    stack = Stack.seeded(start)
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    encode_batch(stack, model, batch)
    again = Stack.from_bytes(stack.to_bytes())
    assert np.array_equal(decode_batch(again, model, batch.shape), batch)
    assert again.remainder() == start


def test_what_the_indices_said_need_not_be_said_again(session: CodingSession) -> None:
    """Given z_m a picture costs less than without it, by the KL of the steps down to level m."""
    pixels = noisy_picture(4, 64, 64)
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    costs = []
    for model in (bridged(session, pixels)[0], session.lattice()):
        stack = Stack.seeded(np.random.default_rng(5).bytes(2 * pixels.size))
        before = stack.bits
        encode_batch(stack, model, batch)
        costs.append((stack.bits - before) / pixels.size)
    picture = Picture(PictureInfo("noise.png", "RGB", (64, 64)), pixels.tobytes())
    ideal = ideal_milestones(picture, model=str(EXACT), device="cpu", steps=session.steps, reconstructions=())
    above = next(m.bits for m in ideal if m.label == f"level {LEVEL}") / pixels.size
    # Three samples of the noise of 12,288 dimensions: a standard error of about 0.01 bits/dim each.
    assert costs[1] - costs[0] == pytest.approx(above, abs=0.05)
    assert above > 0.5
