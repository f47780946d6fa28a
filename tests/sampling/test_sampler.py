"""The walk from x_T: where it begins and ends, what the network is asked, and that batches do not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_codec.codecs.pixels.coder import PixelCoder
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.variance import NetworkVariances
from ddpm_codec.errors import ModelError
from ddpm_codec.models.model_file import load_model
from ddpm_codec.sampling.sampler import CrossingEnd, Sampler, from_pixels, to_pixels
from ddpm_codec.sampling.steps import Ancestral, Ddim
from tests.golden.regenerate import EXACT
from tests.sampling.toys import SIDE, chain_of, classes, generators, photographic, sampler


@pytest.fixture
def drawn() -> Sampler:
    toy = photographic()
    return sampler(toy, chain_of(4), Ancestral(toy.transform, NetworkVariances(toy.transform)))


def test_the_prior_is_the_noise_itself_where_it_is_standard(drawn: Sampler) -> None:
    standard = replace(drawn, prior=PriorModel.standard(192))
    noise = standard.noise_like(torch.empty(2, 3, SIDE, SIDE), generators(2))
    torch.testing.assert_close(standard.draw_prior(generators(2), SIDE, SIDE), noise, rtol=0, atol=1e-12)


def test_the_prior_is_scaled_and_moved_per_class(drawn: Sampler) -> None:
    noise = drawn.transform.forward(drawn.noise_like(torch.empty(2, 3, SIDE, SIDE), generators(2)))
    level = torch.tensor(drawn.chain.log_snr[-1], dtype=torch.float64)
    variance = alpha_bar(level) * classes(drawn.prior.variance) + sigma2(level)
    expected = alpha_bar(level).sqrt() * classes(drawn.prior.mean) + variance.sqrt() * noise
    found = drawn.transform.forward(drawn.draw_prior(generators(2), SIDE, SIDE))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_network_sees_single_precision_at_one_level_after_the_other(drawn: Sampler) -> None:
    seen: list[tuple[torch.dtype, int, set[float]]] = []
    counted: list[int] = []

    def spy(x_t: Tensor, log_snr: Tensor) -> Prediction:
        seen.append((x_t.dtype, len(x_t), set(log_snr.tolist())))
        return drawn.denoiser(x_t, log_snr)

    given = generators(3)
    spied = replace(drawn, denoiser=spy, evaluated=counted.append)
    visits = list(spied.walk(spied.draw_prior(given, SIDE, SIDE), 4, given))
    assert [visit.place for visit in visits] == [4, 3, 2, 1, 0]
    levels = [float(np.float32(level)) for level in reversed(drawn.chain.log_snr)]
    assert seen == [(torch.float32, 3, {level}) for level in levels]
    assert counted == [3] * 5


def test_the_picture_is_the_mean_at_the_cleanest_level(drawn: Sampler) -> None:
    """No noise is added behind it: what is drawn after the last step draws nothing more from the generators."""
    given, others = generators(2), generators(2)
    x_t = drawn.draw_prior(given, SIDE, SIDE)
    others_x_t = drawn.draw_prior(others, SIDE, SIDE)
    *_, last = drawn.walk(x_t, 4, given)
    level = torch.full((2,), drawn.chain.log_snr[0], dtype=torch.float32)
    assert last.place == 0
    assert torch.equal(last.x0_mean, drawn.denoiser(last.x_t.float(), level).x0_mean)
    assert torch.equal(drawn.finish(others_x_t, 4, others), last.x0_mean)


def test_a_picture_does_not_depend_on_its_batch(drawn: Sampler) -> None:
    together = drawn.finish(drawn.draw_prior(generators(5), SIDE, SIDE), 4, generators(5, 1))
    given = generators(5)[3:4]
    alone = drawn.finish(drawn.draw_prior(given, SIDE, SIDE), 4, generators(5, 1)[3:4])
    torch.testing.assert_close(together[3:4], alone, rtol=0, atol=1e-6)


def test_numbers_that_are_not_finite_are_refused(drawn: Sampler) -> None:
    def broken(x_t: Tensor, log_snr: Tensor) -> Prediction:
        del log_snr
        nothing = torch.full_like(x_t, torch.nan)
        return Prediction(nothing, nothing, nothing)

    given = generators(1)
    with pytest.raises(ModelError, match=r"toy: .* not finite"):
        replace(drawn, denoiser=broken, name="toy").finish(drawn.draw_prior(given, SIDE, SIDE), 4, given)


def test_pixels_are_the_nearest_grey_levels() -> None:
    grey = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    values = from_pixels(grey, torch.device("cpu"))
    assert (values.min().item(), values.max().item()) == (-1.0, 1.0)
    assert np.array_equal(to_pixels(values), grey)
    assert np.array_equal(to_pixels(values + 0.49 / 127.5), grey)
    beyond = torch.tensor([-7.0, 7.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert to_pixels(beyond).tolist() == [[[[0, 255, 128]]]]


def test_at_a_crossing_pictures_are_drawn_one_by_one_around_the_mean_of_the_decoder() -> None:
    toy, model = photographic(), load_model(EXACT)
    executor = model.pixel_decoder_executor(torch.device("cpu"))
    assert executor is not None
    coder, log_snr = PixelCoder(executor, 0), log_snr_at(model.crossings[0])
    plain = sampler(toy, replace(chain_of(2), log_snr=(log_snr, *chain_of(2).log_snr[1:])), Ddim())
    x_t = plain.draw_prior(generators(3), SIDE, SIDE) * 0.1
    drawing, showing = (replace(plain, end=CrossingEnd(coder, draws)) for draws in (True, False))
    drawn, mean = drawing.finish(x_t, 0, generators(3)), showing.finish(x_t, 0, generators(3))
    assert torch.equal(drawn[1:2], drawing.finish(x_t[1:2], 0, generators(3)[1:2]))
    assert not torch.equal(drawn, drawing.finish(x_t, 0, generators(4)[1:]))
    z_0 = x_t / alpha_bar(torch.tensor(log_snr, dtype=torch.float64)).sqrt()
    greys = coder.given(torch.round(z_0 * 127.5 * 64).to(torch.int64).numpy()).mean()
    assert np.array_equal(to_pixels(mean), greys.transpose(0, 2, 3, 1))
    away = float((drawn - mean).abs().mean()) * 127.5
    assert 0.5 < away < 2.0 * model.crossings[0]
