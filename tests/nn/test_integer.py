"""The seam to the entropy coder: integers in range, the same ones every time."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.denoiser import CodecDenoiser, MixedPrecision
from ddpm_codec.nn.integer import (
    LOG_VAR_FLOOR,
    LOG_VAR_INDICES,
    LOG_VAR_STEPS,
    MEAN_BITS,
    PICTURE_BITS,
    FloatIntegerDenoiser,
    IntegerPrediction,
    log_variances,
)

CHAIN = (10.0, 4.0, -2.5)


def noisy(seed: int, batch: int = 3) -> NDArray[np.int64]:
    grey = np.random.default_rng(seed).normal(0.0, 60.0, (batch, 3, 16, 24))
    scaled: NDArray[np.int64] = np.rint(grey * 2**PICTURE_BITS).astype(np.int64)
    return scaled


def predictions(coder: FloatIntegerDenoiser, picture: NDArray[np.int64], level: int) -> list[IntegerPrediction]:
    return [coder.coefficients(picture, level), coder.pixels(picture, level)]


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("level", range(len(CHAIN)))
@pytest.mark.parametrize("kind", ["noise", "zero", "extreme"])
def test_integers_in_range(kind: str, level: int, dtype: str, denoiser: CodecDenoiser) -> None:
    picture = {"noise": noisy(0), "zero": 0 * noisy(0), "extreme": np.sign(noisy(0)) * (1 << 40)}[kind]
    coder = FloatIntegerDenoiser(MixedPrecision(denoiser, dtype), CHAIN, torch.device("cpu"))
    for prediction, shape in zip(predictions(coder, picture, level), [(3, 192, 2, 3), (3, 3, 16, 24)], strict=True):
        assert prediction.mean.dtype == np.int64
        assert prediction.mean.shape == picture.shape
        assert np.abs(prediction.mean).max() <= 4096 << MEAN_BITS
        assert prediction.log_var_index.dtype == np.int16
        assert prediction.log_var_index.shape == shape
        assert prediction.log_var_index.min() >= 0
        assert prediction.log_var_index.max() < LOG_VAR_INDICES


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_the_same_call_gives_the_same_integers(dtype: str, denoiser: CodecDenoiser) -> None:
    for level in range(len(CHAIN)):
        first = predictions(
            FloatIntegerDenoiser(MixedPrecision(denoiser, dtype), CHAIN, torch.device("cpu")), noisy(level), level
        )
        again = predictions(
            FloatIntegerDenoiser(MixedPrecision(denoiser, dtype), CHAIN, torch.device("cpu")), noisy(level), level
        )
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.mean, other.mean)
            np.testing.assert_array_equal(one.log_var_index, other.log_var_index)


def test_a_picture_alone_is_within_one_unit_of_itself_in_a_batch(denoiser: CodecDenoiser) -> None:
    coder = FloatIntegerDenoiser(MixedPrecision(denoiser, "float32"), CHAIN, torch.device("cpu"))
    picture = noisy(5)
    for level in range(len(CHAIN)):
        for whole, alone in zip(
            predictions(coder, picture, level), predictions(coder, picture[1:2], level), strict=True
        ):
            assert np.abs(whole.mean[1:2] - alone.mean).max() <= 1
            assert np.abs(whole.log_var_index[1:2] - alone.log_var_index).max() <= 1


def test_integers_are_the_prediction_rounded(denoiser: CodecDenoiser) -> None:

    coder = FloatIntegerDenoiser(MixedPrecision(denoiser, "float32"), CHAIN, torch.device("cpu"))
    picture, level = noisy(6), 1
    z = torch.from_numpy(picture / (127.5 * 2**PICTURE_BITS)).float()
    expected = denoiser.predict_scaled(z, torch.full((3,), CHAIN[level]))
    found = coder.coefficients(picture, level)
    units = 127.5 * 2**MEAN_BITS
    np.testing.assert_allclose(found.mean, expected.x0_mean.double().numpy() * units, rtol=0, atol=0.6)
    log_var = expected.coef_log_var.double().numpy()
    np.testing.assert_allclose(log_variances()[found.log_var_index], log_var, rtol=0, atol=0.51 / LOG_VAR_STEPS)


def test_variance_indices_stand_for_multiples_of_a_step() -> None:
    values = log_variances()
    assert (len(values), values[0]) == (LOG_VAR_INDICES, LOG_VAR_FLOOR)
    assert (np.diff(values) * LOG_VAR_STEPS == 1.0).all()
