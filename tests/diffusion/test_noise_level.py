"""Log-SNR and sigma against their definition in high precision, and the exact bits that chains are coded with."""

import mpmath
import numpy as np
import pytest
import torch

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma, sigma_from_log_snr
from ddpm_codec.errors import InputError

LEVELS = np.linspace(12.0, -12.0, 97)


def test_sigma_is_one_over_the_root_of_snr() -> None:
    with mpmath.workdps(40):
        exact = [float(1 / mpmath.sqrt(mpmath.exp(mpmath.mpf(level)))) for level in LEVELS.tolist()]
        back = [float(-2 * mpmath.log(mpmath.mpf(sigma))) for sigma in exact]
    np.testing.assert_allclose(sigma_from_log_snr(LEVELS), exact, rtol=4e-16)
    np.testing.assert_allclose(log_snr_from_sigma(exact), back, rtol=4e-16, atol=1e-15)


def test_scalars_sequences_and_arrays_give_the_same_bits() -> None:
    """A level on its own and in a chain must not differ in the last bit: files are coded with it."""
    for convert in (sigma_from_log_snr, log_snr_from_sigma):
        values = np.abs(LEVELS[LEVELS != 0.0])
        together = convert(values)
        np.testing.assert_array_equal(convert(values.tolist()), together)
        np.testing.assert_array_equal([float(convert(value)) for value in values.tolist()], together)
        np.testing.assert_array_equal(np.concatenate([convert(values[:3]), convert(values[3:])]), together)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_keep_their_dtype(dtype: torch.dtype) -> None:
    sigma = sigma_from_log_snr(torch.from_numpy(LEVELS).to(dtype))
    assert sigma.dtype == dtype
    np.testing.assert_allclose(sigma.numpy(), sigma_from_log_snr(LEVELS), rtol=8 * torch.finfo(dtype).eps)


def test_a_chain_of_sigmas() -> None:
    chain = Chain.from_sigmas([0.01, 0.3, 7.0])
    np.testing.assert_allclose(np.exp(-0.5 * np.array(chain.log_snr)), [0.01, 0.3, 7.0], rtol=1e-14)
    with pytest.raises(InputError, match="decreasing"):
        Chain.from_sigmas([0.3, 0.01])
