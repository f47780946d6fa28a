"""The steps of a chain on whole pictures: patches without seams, the first step, the gain of a known part."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.codecs.progressive import steps
from ddpm_codec.codecs.progressive.steps import (
    JUMP,
    MARGIN,
    UNIT,
    VALUE_BITS,
    Patch,
    ProgressiveChain,
    StepLaw,
    plan_patches,
)
from ddpm_codec.codecs.progressive.walk import PatchState
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.allocation import CLASSES, LOWEST, UNCODED, class_costs, cost_class
from ddpm_codec.coding.codebook import LABEL_BITS, gaussian_labels
from ddpm_codec.diffusion.prior import PriorModel, prior_kl_nats
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.models.model_file import load_model, model_bytes
from ddpm_codec.nn.codec_net import SIZES, CodecNet
from tests.golden.regenerate import EXACT, noisy_picture

ONE = 1 << VALUE_BITS


@pytest.fixture(scope="module")
def session() -> CodingSession:
    return CodingSession.for_encoding(str(EXACT), "cpu")


@pytest.fixture(scope="module")
def chain(session: CodingSession) -> ProgressiveChain:
    return ProgressiveChain(session.chain)


@pytest.fixture(scope="module")
def factorised(tmp_path_factory: pytest.TempPathFactory) -> ProgressiveChain:
    """The same denoiser without the pixel decoder, with a chain of three of its levels."""
    model = load_model(EXACT)
    rows = (0, 30, 60)
    sigmas = tuple(np.exp(-0.5 * model.grid_log_snr[list(rows)]).tolist())
    alone = dataclasses.replace(
        model, decoder=None, crossings=(), default_steps=2, rows={(0, 2): rows}, sigmas={(0, 2): sigmas}
    )
    alone = dataclasses.replace(alone, default_crossing=0, progressive_crossing=0, progressive_steps=None)
    path = tmp_path_factory.mktemp("model") / "alone.safetensors"
    path.write_bytes(model_bytes(alone))
    return ProgressiveChain(CodingSession.for_encoding(str(path), "cpu").chain)


def noisy_latents(chain: ProgressiveChain, level: int, height: int = 320, width: int = 160) -> np.ndarray:
    y_0 = chain.coefficients(noisy_picture(1, height, width))
    noise = np.random.default_rng(2).standard_normal(y_0.shape) * chain.sigmas[level]
    return np.rint((y_0 + noise) * ONE).astype(np.int32)


WHOLE = Patch(slice(0, 40), slice(0, 20))
PATCHES = [
    Patch(slice(top, bottom), slice(left, right))
    for top, bottom in ((0, 7), (7, 16), (16, 40))
    for left, right in ((0, 1), (1, 20))
]


@pytest.mark.parametrize("level", [1, 3])
def test_a_patch_is_what_the_whole_picture_is_there(chain: ProgressiveChain, level: int) -> None:
    z_t = noisy_latents(chain, level)
    whole = chain.law(z_t, WHOLE, level)
    for where in PATCHES:
        part = chain.law(z_t, where, level)
        assert np.array_equal(part.mean, whole.mean[where.at])
        assert np.array_equal(part.index, whole.index[where.at])
        assert np.array_equal(part.x0_mean, whole.x0_mean[where.at])


def test_a_patch_of_pixels_is_what_the_whole_picture_is_there(factorised: ProgressiveChain) -> None:
    """Of a denoiser that decodes level 0 itself."""
    chain = factorised
    z_0 = noisy_latents(chain, 0)
    mean, scale = chain.pixel_law(z_0, WHOLE)
    for where in PATCHES:
        part_mean, part_scale = chain.pixel_law(z_0, where)
        assert np.array_equal(part_mean, mean[(slice(None), *where.pixels(8))])
        assert np.array_equal(part_scale, scale[(slice(None), *where.pixels(8))])


@pytest.mark.parametrize("size", SIZES)
def test_no_network_reaches_beyond_the_margin(size: str) -> None:
    """A middle block of 8x8 depends on no pixel farther than MARGIN from it, and on some that are not much nearer."""
    net = CodecNet(SIZES[size]).double()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0.0, 0.3)
    side, middle = 2 * MARGIN + 40, MARGIN + 16
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    mean, pixels, coefficients = net(x, torch.zeros(1, dtype=torch.float64))
    block = slice(middle, middle + 8)
    (
        mean[..., block, block].sum()
        + pixels[..., block, block].sum()
        + coefficients[..., middle // 8, middle // 8].sum()
    ).backward()
    assert x.grad is not None
    rows, columns = torch.nonzero(x.grad[0].abs().sum(0), as_tuple=True)
    for seen in (rows, columns):
        reach = max(middle - int(seen.min()), int(seen.max()) - (middle + 7))
        assert MARGIN // 8 < reach <= MARGIN


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 40), st.sampled_from([1, 8]))
def test_patches_cover_a_picture_once(rows: int, columns: int, longest: int, block: int) -> None:
    height, width = 8 * rows, 8 * columns
    with pytest.MonkeyPatch.context() as context:
        context.setattr(steps, "WHOLE_PIXELS", 64 * 64)
        context.setattr(steps, "PATCH_SIDE", 8 * longest)
        patches = plan_patches(height, width, block)
    seen = np.zeros((height // block, width // block), np.int64)
    for where in patches:
        seen[where.at] += 1
        sides = [block * side for side in where.blocks]
        assert all(side > 0 and side % 8 == 0 for side in sides)
        assert len(patches) == 1 or max(sides) <= 8 * longest
    assert (seen == 1).all()
    assert (len(patches) == 1) == (height * width <= 64 * 64 or max(height, width) <= 8 * longest)


def test_the_first_step_costs_what_the_prior_does(session: CodingSession, chain: ProgressiveChain) -> None:
    y_0 = chain.coefficients(noisy_picture(3, 64, 64))
    law = chain.first_law(y_0.shape)
    ratio = (law.spread[law.index] * UNIT) ** 2 / law.variance
    distance = (y_0 * ONE - law.mean) / law.spread[law.index]
    nats = 0.5 * (np.log(ratio) + 1 / ratio + distance**2 - 1).sum()
    model = session.model
    prior = PriorModel(model.prior_mean, model.prior_variance)
    log_snr = -2.0 * float(np.log(model.chain_sigmas()[-1]))
    x_0 = torch.from_numpy(noisy_picture(3, 64, 64).transpose(2, 0, 1)[None].copy()).double() / 127.5 - 1.0
    expected = prior_kl_nats(by_name(model.transform).forward(x_0), log_snr, prior)
    assert nats == pytest.approx(float(expected[0]), rel=1e-4)


def law_of(mean: np.ndarray, variance: float, kept: float, w: float) -> StepLaw:
    """Return a law of one scale, of z_t = 0 and x0_mean = mean (grey levels)."""
    spread2 = variance + (1 - kept) ** 2 * w
    index = np.zeros(mean.shape, np.int16)
    middle = np.rint((1 - kept) * mean * ONE).astype(np.int64)
    classes = cost_class(np.array([spread2 / variance]))
    return StepLaw(middle, index, np.array([np.sqrt(spread2) * ONE]), classes, variance, kept, mean, np.array([w]))


def test_what_is_known_of_a_step_is_used_as_bayes_has_it() -> None:
    """y ~ N(m, w), z_s ~ N((1 - a) y, v): the error of E[y | z_s] is w v / ((1 - a)^2 w + v), and w where unknown."""
    rng = np.random.default_rng(4)
    shape, kept, variance, w = (3, 100, 100), 0.4, 9.0, 30.0
    mean = rng.normal(0, 50, shape)
    law = law_of(mean, variance, kept, w)
    y = mean + rng.normal(0, np.sqrt(w), shape)
    z_s = (1 - kept) * y + rng.normal(0, np.sqrt(variance), shape)
    labels = np.rint((z_s * ONE - law.mean) / law.spread[0] * 2.0**LABEL_BITS).astype(np.int16).reshape(-1)
    known = rng.random(labels.size) < 0.5
    error = (PatchState(law, labels, known, law.mean).updated_mean() * UNIT - y).reshape(-1) ** 2
    best = w * variance / ((1 - kept) ** 2 * w + variance)
    # 15,000 squares of Gaussians: a standard error of 1.2 %.
    assert error[known].mean() == pytest.approx(best, rel=0.05)
    assert error[~known].mean() == pytest.approx(w, rel=0.05)


def test_a_jump_moves_the_mean_and_the_sample_with_it() -> None:
    law = law_of(np.zeros((3, 2, 2)), 4.0, 0.5, 16.0)
    places, jumps = np.array([1, 7]), np.array([3, -2])
    moved = law.jumped(places, jumps)
    labels = gaussian_labels(1, 12)
    change = (moved.sample(labels).astype(np.int64) - law.sample(labels)).reshape(-1)
    assert np.array_equal(change[places], np.rint(jumps * law.spread[0] * JUMP).astype(np.int64))
    assert not np.delete(change, places).any()


def test_samples_have_the_mean_and_the_variance_of_p() -> None:
    law = law_of(np.full((3, 64, 64), 5.0), 4.0, 0.25, 16.0)
    z_s = law.sample(gaussian_labels(7, law.mean.size)) * UNIT
    spread2 = 4.0 + 0.75**2 * 16.0
    assert z_s.mean() == pytest.approx(0.75 * 5.0, abs=4 * np.sqrt(spread2 / z_s.size))
    assert z_s.var() == pytest.approx(spread2, rel=4 * np.sqrt(2 / z_s.size))


def test_noisy_levels_leave_cheap_dimensions_out() -> None:
    bits = 2.0 ** np.linspace(-9.5, 2, 200)
    for floor in (LOWEST, -7, -6):
        classes = cost_class(4.0**bits, floor)
        assert np.array_equal(classes == UNCODED, bits < 2.0**floor)
        coded = classes[classes < UNCODED]
        assert coded.max() < CLASSES
        assert class_costs()[coded].min() > 2.0**floor * (1 << 16)
