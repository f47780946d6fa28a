"""Figures: their layout, and what must be equal in them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.pictures import Pixels
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.variance import NetworkVariances
from ddpm_codec.sampling.figures import Canvas, Figure, Grid, Interpolation, Progressive, Shared
from ddpm_codec.sampling.sampler import from_pixels
from ddpm_codec.sampling.steps import Ancestral, Ddim
from tests.sampling.toys import SIDE, GaussianToy, chain_of, photographic, sampler

STEPS = 6
PAIR = np.random.default_rng(0).integers(0, 256, (2, SIDE, 2 * SIDE, 3)).astype(np.uint8)
FIGURES = (
    Grid(7),
    Grid(7, (6, 3, 0)),
    Progressive(5, (6, 4, 2, 0)),
    Shared(5, (6, 2)),
    Interpolation(5, (5, 3, 0), PAIR),
)


def quiet(toy: GaussianToy) -> GaussianToy:
    """The same around grey, so that nothing is clipped at black or white."""
    return replace(toy, mean=0.1 * toy.mean, variance=0.5 * toy.variance)


def canvas(seed: int = 0, batch: int = 3, evaluated: Callable[[int], object] | None = None) -> Canvas:
    toy = quiet(photographic())
    rule = Ancestral(toy.transform, NetworkVariances(toy.transform))
    return Canvas(replace(sampler(toy, chain_of(STEPS), rule), evaluated=evaluated), SIDE, 2 * SIDE, seed, batch)


@pytest.mark.parametrize("figure", FIGURES)
def test_layout_and_work_are_as_announced(figure: Figure) -> None:
    counted: list[int] = []
    frames = figure.draw(canvas(evaluated=counted.append))
    expected = len(figure.places) if isinstance(figure, Grid) else 1
    assert (frames.shape, frames.dtype) == ((expected, figure.pictures, SIDE, 2 * SIDE, 3), np.dtype(np.uint8))
    assert figure.pictures % figure.columns == 0 or isinstance(figure, Grid)
    assert sum(counted) == figure.evaluations(STEPS)
    assert max(counted) == 3


@pytest.mark.parametrize("figure", FIGURES)
def test_the_seed_decides_and_the_batch_does_not(figure: Figure) -> None:
    frames = figure.draw(canvas())
    assert np.array_equal(frames, figure.draw(canvas(batch=1)))
    assert np.array_equal(frames, figure.draw(canvas(batch=100)))
    assert not np.array_equal(frames, figure.draw(canvas(seed=1)))


@pytest.mark.parametrize("figure", [Grid(7), Progressive(7, (0,)), Shared(7, (6,))])
def test_samples_differ(figure: Figure) -> None:
    pictures = figure.draw(canvas())[-1]
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)


def test_more_samples_begin_with_the_same() -> None:
    assert np.array_equal(Grid(7).draw(canvas())[:, :4], Grid(4).draw(canvas()))


def test_the_last_frame_and_the_last_column_are_the_samples() -> None:
    samples = Grid(7).draw(canvas())[0]
    assert np.array_equal(Grid(7, (5, 2, 0)).draw(canvas())[-1], samples)
    progressive = Progressive(7, (5, 2, 0)).draw(canvas())[0].reshape(7, 3, *samples.shape[1:])
    assert np.array_equal(progressive[:, -1], samples)
    assert not np.array_equal(progressive[:, 0], samples)


def spread(pictures: Pixels) -> float:
    """Mean variance over pictures of a sub-pixel, grey levels squared."""
    return float(pictures.astype(np.float64).var(axis=0, ddof=1).mean())


def test_the_cleaner_the_latent_the_less_its_draws_differ() -> None:
    toy, chain = quiet(photographic()), chain_of(STEPS)
    rows = Shared(24, (6, 4, 2, 0)).draw(canvas())[0].reshape(4, 25, SIDE, 2 * SIDE, 3)
    for row, place in zip(rows, (6, 4, 2, 0), strict=True):
        # Of Gaussian data, w_t = w / (1 + snr_t w) is left of x_0; its draws are rounded to grey levels and to means at
        # level 0, which takes w_0 = w / (1 + snr_0 w) away again.
        snr_t, snr_0 = (np.exp(chain.log_snr[k]) for k in (place, 0))
        left = (toy.variance / (1.0 + snr_t * toy.variance) - toy.variance / (1.0 + snr_0 * toy.variance)).mean()
        assert spread(row[1:]) == pytest.approx(left * 127.5**2, rel=0.1, abs=0.2)


def test_no_two_draws_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise what the draws of two rows have in common would not be what their latents have in common."""
    asked: list[int] = []
    given = Canvas.generators

    def recorded(self: Canvas, first: int, count: int) -> list[torch.Generator]:
        asked.extend(range(first, first + count))
        return given(self, first, count)

    monkeypatch.setattr(Canvas, "generators", recorded)
    Shared(5, (6, 4, 2)).draw(canvas())
    assert len(asked) == len(set(asked)) == 1 + 3 * 5


def test_the_latents_of_all_rows_lie_on_one_way_down() -> None:
    both = Shared(1, (6, 3)).draw(canvas())[0].reshape(2, 2, SIDE, 2 * SIDE, 3)
    alone = Shared(1, (3,)).draw(canvas())[0].reshape(1, 2, SIDE, 2 * SIDE, 3)
    assert np.array_equal(both[1, 0], alone[0, 0])
    assert np.array_equal(Shared(4, (6, 3)).draw(canvas())[0].reshape(2, 5, -1)[1, 0], both[1, 0].ravel())


def test_mixtures_stand_between_their_pictures() -> None:
    rows = Interpolation(4, (5, 0), PAIR).draw(canvas())[0].reshape(2, 6, SIDE, 2 * SIDE, 3)
    for row in rows:
        assert np.array_equal(row[[0, -1]], PAIR)


def test_pictures_are_noised_to_their_level_before_they_are_mixed() -> None:
    seen: list[Tensor] = []
    given = canvas(batch=8)

    def spy(x_t: Tensor, log_snr: Tensor) -> Prediction:
        seen.append(x_t.double())
        return given.sampler.denoiser(x_t, log_snr)

    spied = replace(given, sampler=replace(given.sampler, denoiser=spy))
    Interpolation(3, (4, 0), PAIR).draw(spied)
    x_0 = from_pixels(PAIR, torch.device("cpu"))
    noises = []
    for x_t, place in ((seen[0], 4), (seen[-1], 0)):
        level = torch.tensor(given.sampler.chain.log_snr[place], dtype=torch.float64)
        noises.append((x_t[[0, 2]] - alpha_bar(level).sqrt() * x_0) / sigma2(level).sqrt())
        assert stats.kstest(noises[-1].flatten().numpy(), "norm").pvalue > 1e-3
        torch.testing.assert_close(x_t[1], 0.5 * (x_t[0] + x_t[2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(noises[0], noises[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_only_the_share_differs_between_mixtures(place: int) -> None:
    """The ideal denoiser of Gaussian data is affine, so with the same noise everywhere the mixtures lie on a line."""
    pair = PAIR // 16 + np.array([90, 150], dtype=np.uint8)[:, None, None, None]
    row = Interpolation(5, (place,), pair).draw(canvas())[0][1:-1].astype(np.float64)
    line = row[0] + np.linspace(0.0, 1.0, 5)[:, None, None, None] * (row[-1] - row[0])
    assert np.abs(row - line).max() <= 1.01
    assert np.abs(row[0] - row[-1]).mean() > 10.0


def test_of_a_clean_latent_the_pictures_come_back() -> None:
    """With DDIM and data of any variance, where next to no noise is added next to nothing is lost."""
    toy = replace(photographic(), variance=np.full(192, 1e4))
    drawn = Canvas(sampler(toy, chain_of(STEPS), Ddim()), SIDE, 2 * SIDE, 0, 8)
    clean = replace(drawn.sampler, chain=type(drawn.sampler.chain)((14.0, 12.0)))
    row = Interpolation(2, (0,), PAIR).draw(replace(drawn, sampler=clean))[0].astype(np.float64)
    # sigma = e^-7 is 0.12 grey levels.
    assert np.abs(row[1:3] - row[[0, 3]]).max() <= 1.0


def test_a_grid_is_about_square() -> None:
    assert [Grid(count).columns for count in (1, 2, 4, 5, 16, 17)] == [1, 2, 2, 3, 4, 5]


def test_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    Grid(2).draw(canvas())
    assert torch.equal(before, torch.get_rng_state())
