"""The reference's own arithmetic, and that freezing keeps what the network in floating point computes."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.nn.exact.parameters import BYTE, Convolution, ExactParameters, Reading
from ddpm_codec.nn.integer import LOG_VAR_FLOOR, LOG_VAR_STEPS, MEAN_BITS, PICTURE_BITS
from tests.nn.exact.conftest import GRID, noisy
from tests.reference import exact_network


@given(st.integers(-(1 << 50), 1 << 50), st.integers(0, 40))
def test_shifts_round_half_to_even(a: int, s: int) -> None:
    assert int(exact_network.shift_even(np.array(a), s)) == round(Fraction(a, 1 << s))


@given(st.integers(-4095, 4095), st.integers(1, 1023), st.integers(0, 16), st.integers(0, 255))
def test_reading_is_the_hard_swish_in_fractions(s: int, quarter: int, shift: int, zero: int) -> None:
    half = 2 * quarter
    reading = Reading(np.array([half]), np.array([shift]), np.array([zero]), BYTE)
    u = Fraction(4 * s, half)
    swish = u * min(max(u + 4, Fraction(0)), Fraction(8)) / 8
    exact = zero + swish * half * half / 2 / (1 << shift)
    assert int(exact_network.read(np.array([s]), reading)[0]) == min(max(round(exact), 0), BYTE)


def test_convolution_with_its_border() -> None:
    rng = np.random.default_rng(0)
    weight, offset = rng.integers(-127, 128, (5, 4, 3, 3)), rng.integers(-999, 999, 5)
    zero = rng.integers(0, 256, 4)
    layer = Convolution(weight, offset, 1, Reading(zero, zero, zero, BYTE), None)
    q = rng.integers(0, 256, (2, 6, 7, 4))
    centred = torch.from_numpy((q - zero).transpose(0, 3, 1, 2)).double()
    expected = torch.nn.functional.conv2d(centred, torch.from_numpy(weight).double(), padding=1)
    expected += torch.from_numpy(offset + np.einsum("ocij,c->o", weight, zero))[:, None, None]
    np.testing.assert_array_equal(exact_network.convolve(q, layer).transpose(0, 3, 1, 2), expected.numpy())


@pytest.mark.parametrize("level", range(len(GRID)))
def test_integers_follow_the_quantised_network(
    level: int, calibrated: CodecDenoiser, parameters: ExactParameters
) -> None:
    """Up to the roundings between layers, which are finer than those of the activations."""
    picture = noisy(level, batch=8)
    z = torch.from_numpy(picture).double() / (127.5 * 2**PICTURE_BITS)
    levels = torch.full((8,), float(GRID[level]))
    with torch.no_grad():
        unrounded = calibrated.predict_scaled(z.float(), levels)
        calibrated.net.quantize(True)
        rounded = calibrated.predict_scaled(z.float(), levels)
        calibrated.net.quantize(False)
    mean, pixel, coefficient = exact_network.forward(parameters, picture, level)
    got = torch.from_numpy(mean) / (127.5 * 2.0**MEAN_BITS)
    noise = float(np.exp(-0.5 * GRID[level]))
    c_out = 0.5 * noise / np.sqrt(0.25 + noise**2)

    def rms(error: torch.Tensor) -> float:
        return float(error.double().square().mean().sqrt()) / c_out

    assert rms(got - rounded.x0_mean) < max(0.5 * rms(unrounded.x0_mean - rounded.x0_mean), 0.01)
    for index, log_var in ((pixel, rounded.pixel_log_var), (coefficient, rounded.coef_log_var)):
        found = torch.from_numpy(index) / LOG_VAR_STEPS + LOG_VAR_FLOOR
        assert float((found - log_var).abs().mean()) < 0.1


def test_a_network_that_was_not_calibrated_is_refused(denoiser: CodecDenoiser) -> None:
    with pytest.raises(ModelError, match=r"\Athe network is not calibrated\Z"):
        freeze(denoiser, GRID, {})
