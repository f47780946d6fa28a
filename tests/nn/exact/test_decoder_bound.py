"""The laws of sub-pixels as distributions, and the exact pixel decoder as a likelihood for bounds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_codec.coding.pixel_laws import (
    SCALES,
    TAIL_LENGTH,
    Laws,
    cumulative,
    make_inverse_scales,
    make_tails,
)
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood, PixelParameters
from ddpm_codec.errors import InputError
from ddpm_codec.nn.exact.decoder_bound import ExactPixelLikelihood
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from tests.reference import exact_decoder
from tests.toy_decoders import CROSSINGS, random_exact_decoder

LOG_SNR = tuple(log_snr_at(grey_levels) for grey_levels in CROSSINGS)


@pytest.fixture(scope="module")
def decoder() -> ExactPixelDecoder:
    return random_exact_decoder(4)


def likelihood(decoder: ExactPixelDecoder) -> PixelLikelihood:
    return ExactPixelLikelihood(PixelDecoderExecutor(decoder, torch.device("cpu")), LOG_SNR)


def noisy(height: int = 6, width: int = 7) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return (z_0, x_0, grey levels) at the middle crossing."""
    rng = np.random.default_rng(0)
    greys = rng.integers(100, 156, (2, 3, height, width))
    z_0 = np.rint((greys - 127.5 + rng.normal(0.0, CROSSINGS[1], greys.shape)) * 64) / 64
    return torch.from_numpy(z_0 / 127.5), torch.from_numpy(greys / 127.5 - 1.0).float(), greys


def test_the_bound_is_what_the_frequencies_cost(decoder: ExactPixelDecoder) -> None:
    z_0, x_0, greys = noisy()
    parameters, maps = likelihood(decoder).parameters_given(z_0, torch.full((2,), LOG_SNR[1]), x_0)
    found = parameters.log_likelihood(x_0, torch.float64).numpy()
    picture = np.pad(np.rint(z_0.numpy() * 127.5 * 64).astype(np.int64), ((0, 0), (0, 0), (0, 2), (0, 1)), mode="edge")
    mean, features = exact_decoder.trunk(decoder, picture, 1)
    np.testing.assert_array_equal(np.rint(maps.mean.numpy() * 127.5 * 1024), mean[..., :6, :7])
    v = exact_decoder.sums(decoder, mean, features, greys, 1)
    for image, row, column in np.ndindex(2, 6, 7):
        inputs = (v[image, row, column], mean[image, :, row, column], greys[image, :, row, column])
        laws = exact_decoder.pixel_laws(decoder, 1, *(list(map(int, values)) for values in inputs))
        for channel, law in enumerate(laws):
            k = int(greys[image, channel, row, column])
            count = exact_decoder.cumulative(decoder, k + 1, law) - exact_decoder.cumulative(decoder, k, law)
            assert found[image, channel, row, column] == pytest.approx(np.log(count / 2**24), rel=1e-12)


def test_levels_that_are_no_crossing_are_refused(decoder: ExactPixelDecoder) -> None:
    z_0, _, _ = noisy()
    for bad in (torch.full((2,), LOG_SNR[1] + 0.01), torch.tensor(LOG_SNR[:2])):
        with pytest.raises(InputError, match=r"\Aan exact pixel decoder takes batches at one of its crossings[^\n]*\Z"):
            likelihood(decoder).trunk(z_0, bad)


@pytest.mark.parametrize("shapes", [0, 4])
def test_frequencies_are_the_discretised_distribution(shapes: int) -> None:
    """Against float64 masses: within two counts and what tables of 64 entries to a sigma miss."""
    logit, log_ratio = np.linspace(-8.0, 0.5, 4), np.linspace(1.7, 0.1, 4)
    tails = make_tails(logit, log_ratio) if shapes else make_tails(None, None)
    rng = np.random.default_rng(0)
    laws = Laws(
        rng.integers(-20 << 16, 280 << 16, 300), rng.integers(0, SCALES, 300), rng.integers(0, max(shapes, 1), 300)
    )
    counts = np.stack([cumulative(np.array(k), laws, tails, make_inverse_scales()) for k in range(257)], axis=1)
    frequencies = torch.from_numpy(np.diff(counts, axis=1) - 1)[:, None, None].double() / ((1 << 24) - 256)
    sigma = 0.05 * np.exp(laws.scale / 64.0) / 127.5
    all_greys = torch.arange(256, dtype=torch.float64) / 127.5 - 1.0

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values)[:, None, None, None]

    parts = [(laws.mean16 / 65536.0 - 127.5) / 127.5, 2.0 * np.log(sigma)]
    parts += [logit[laws.row], log_ratio[laws.row]] if shapes else []
    wanted = PixelParameters(*(column(part) for part in parts)).log_likelihood(
        all_greys.expand(len(sigma), 1, 1, 256), torch.float64
    )
    assert float((frequencies - wanted.exp()).abs().max()) < 4e-5


def test_tails_do_not_depend_on_the_last_bits_of_parameters() -> None:
    logit, log_ratio = np.array([-3.0, 0.25]), np.array([1.0, 0.125])
    tails = make_tails(logit, log_ratio)
    np.testing.assert_array_equal(make_tails(logit + 1e-6, log_ratio - 1e-6), tails)
    assert (make_tails(logit + 2.0**-15, log_ratio) != tails).any()
    assert tails.shape == (2, TAIL_LENGTH)
