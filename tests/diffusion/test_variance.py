"""KLs of steps with any variance, and where variances come from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import even_chain
from ddpm_codec.diffusion.gaussian import posterior, ratio_kl_nats, step_kl_nats
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import BlockTransform, by_name
from ddpm_codec.diffusion.variance import CalibratedVariances, NetworkVariances, ProcessVariances, variances_of
from ddpm_codec.errors import InputError

levels = st.floats(-8.0, 11.0)
gaps = st.floats(1e-3, 12.0)
IDENTITY, BLOCKS = by_name("identity"), by_name("colour-8x8")


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def saying(log_variance: Tensor | float, fraction: Tensor | None = None, side: int = 16) -> Prediction:
    """A prediction with the same ln variance of every coefficient of 8x8 blocks, and of every sub-pixel."""
    value = torch.as_tensor(log_variance, dtype=torch.float64)
    picture = torch.zeros(2, 3, side, side, dtype=torch.float64)
    return Prediction(picture, value.expand(2, 192, side // 8, side // 8), value.expand(2, 3, side, side), fraction)


def process(variance: str) -> ProcessVariances:
    return ProcessVariances(ReverseProcess(NoiseSchedule.linear_beta(10), variance=variance))  # type: ignore[arg-type]


@given(levels, gaps, st.floats(-2, 2), st.floats(-2, 2), st.floats(-4.0, 6.0))
def test_kl_is_that_of_torch(log_snr_s: float, gap: float, x_0: float, mean: float, rho: float) -> None:
    s, t = scalar(log_snr_s), scalar(log_snr_s - gap)
    a, c, v = posterior(s, t)
    x_t = 0.37
    q = Normal(a * x_t + c * x_0, v.sqrt())
    p = Normal(a * x_t + c * mean, (v * math.exp(rho)).sqrt())
    ours = ratio_kl_nats(scalar(x_0 - mean), scalar(rho), t.exp() * torch.expm1(s - t))
    assert ours.item() == pytest.approx(kl_divergence(q, p).item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4])
def test_kl_is_the_mean_log_ratio(rho: float) -> None:
    """In units of the posterior's standard deviation: q = N(0, 1), p = N(-sqrt(d) error, e^rho)."""
    difference, error = 3.0, 0.2
    draws = torch.randn(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q, p = Normal(scalar(0.0), scalar(1.0)), Normal(scalar(-math.sqrt(difference) * error), scalar(math.exp(rho / 2)))
    ratio = q.log_prob(draws) - p.log_prob(draws)
    exact = ratio_kl_nats(scalar(error), scalar(rho), scalar(difference)).item()
    stderr = ratio.std().item() / math.sqrt(len(ratio))
    assert abs(ratio.mean().item() - exact) < 4.0 * stderr
    assert stderr < 0.02 * exact


@given(st.floats(-1, 1), st.floats(-15.0, 2.0), st.floats(-6.0, 9.0))
def test_kl_with_a_variance_of_the_data(error: float, log_variance: float, log_difference: float) -> None:
    d = scalar(math.exp(log_difference))
    rho = torch.log1p(d * math.exp(log_variance))
    long_way = step_kl_nats(scalar(error), scalar(log_variance), d).item()
    assert ratio_kl_nats(scalar(error), rho, d).item() == pytest.approx(long_way, rel=1e-9, abs=1e-12)


def test_kl_takes_one_difference_an_image_and_broadcasts() -> None:
    error = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    rho, d = torch.tensor([0.3, -0.2], dtype=torch.float64).reshape(2, 1, 1, 1), torch.tensor([0.5, 7.0]).double()
    whole = ratio_kl_nats(error, rho, d)
    assert whole.shape == error.shape
    for index in range(2):
        alone = ratio_kl_nats(error[index], rho[index].expand(3, 4, 4), d[index])
        torch.testing.assert_close(whole[index], alone)


def test_gradients_of_the_kl() -> None:
    error, rho = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    d = torch.tensor([0.5, 20.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda e, r: ratio_kl_nats(e, r, d), (error, rho))
    # The best variance is the true one: v + c^2 error^2.
    best = torch.log1p(d[:, None] * error.detach().square()).requires_grad_()
    ratio_kl_nats(error, best, d).sum().backward()
    assert best.grad is not None
    torch.testing.assert_close(best.grad, torch.zeros_like(best), rtol=0, atol=1e-12)


@given(levels, gaps)
def test_beta_is_a_variance_of_the_data(log_snr_s: float, gap: float) -> None:
    """That of the noise, w = 1 - alpha_bar_t, at any stride; and the reverse variance is 1 - alpha_bar_t / alpha_bar_s."""
    s, t = log_snr_s, log_snr_s - gap
    prediction = saying(math.log(1.0 / (1.0 + math.exp(t))))
    network = NetworkVariances(BLOCKS).log_ratio(prediction, s, t)
    fixed = process("beta").log_ratio(prediction, s, t)
    torch.testing.assert_close(network, fixed.expand_as(network), rtol=1e-9, atol=1e-12)
    beta = -math.expm1(math.log1p(math.exp(-s)) - math.log1p(math.exp(-t)))
    found = posterior(scalar(s), scalar(t)).v * fixed.exp()
    assert found.item() == pytest.approx(beta, rel=1e-8)


@given(levels, gaps)
def test_beta_tilde_is_certainty(log_snr_s: float, gap: float) -> None:
    prediction = saying(-math.inf)
    network = NetworkVariances(BLOCKS).log_ratio(prediction, log_snr_s, log_snr_s - gap)
    fixed = process("beta-tilde").log_ratio(prediction, log_snr_s, log_snr_s - gap)
    assert not network.any()
    assert not fixed.any()


def test_learned_range_goes_from_one_to_the_other() -> None:
    fraction = torch.rand(2, 3, 16, 16) * 2.0 - 0.5
    prediction = saying(0.0, fraction)
    rho = process("learned-range").log_ratio(prediction, 3.0, 1.0)
    assert rho.dtype == torch.float64
    largest = process("beta").log_ratio(prediction, 3.0, 1.0)
    torch.testing.assert_close(rho, fraction.double() * largest)
    assert (rho < 0.0).any()
    decoder = process("learned-range").decoder_log_variance(prediction, 9.0, 8.0)
    v = -math.expm1(-1.0) / (1.0 + math.exp(9.0))
    ends = math.log(v), math.log(1.0 / (1.0 + math.exp(9.0)))
    torch.testing.assert_close(decoder, ends[0] + fraction.double() * (ends[1] - ends[0]))
    for variance in ("beta", "beta-tilde"):
        fixed = process(variance).decoder_log_variance(prediction, 9.0, 8.0)
        assert fixed.squeeze().item() == pytest.approx(ends[0], rel=1e-12)


def test_a_learned_range_is_of_sub_pixels() -> None:
    """It is no variance of 8x8 coefficients: a bound in those is refused in one line, not by a shape inside."""
    prediction = saying(0.0, torch.rand(2, 3, 16, 16))
    pictures, chain = [torch.zeros(2, 3, 16, 16)], even_chain(8.0, -3.0, 2)

    def bound(transform: BlockTransform) -> float:
        prior = PriorModel.standard(transform.dims)
        variance = process("learned-range")
        return evaluate_bound(
            lambda x, level: prediction, pictures, transform, chain, prior, variance=variance
        ).mean_bpd

    assert math.isfinite(bound(IDENTITY))
    with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
        bound(BLOCKS)


def test_a_learned_range_needs_a_network_that_has_one() -> None:
    for ask in (process("learned-range").log_ratio, process("learned-range").decoder_log_variance):
        with pytest.raises(InputError, match=r"\A[^\n]*learned range[^\n]*\Z"):
            ask(saying(0.0), 3.0, 1.0)


def test_network_variances() -> None:
    generator = torch.Generator().manual_seed(2)
    coefficients = torch.randn(2, 192, 2, 2, generator=generator)
    pixels = torch.randn(2, 3, 16, 16, generator=generator)
    prediction = Prediction(torch.zeros(2, 3, 16, 16), coefficients, pixels)
    d = math.exp(3.0) - math.exp(1.0)
    for transform, logs in ((BLOCKS, coefficients), (IDENTITY, pixels)):
        variances = NetworkVariances(transform)
        rho = variances.log_ratio(prediction, 3.0, 1.0)
        torch.testing.assert_close(rho, torch.log(1.0 + d * logs.double().exp()))
        assert torch.equal(variances.decoder_log_variance(prediction, 9.0, 8.0), pixels.double())


@given(st.floats(-7.0, 9.0), st.floats(1e-9, 1e-5))
def test_neighbouring_levels_do_not_cancel(log_snr: float, gap: float) -> None:
    """To the last digits, though snr_s - snr_t is a millionth of either."""
    t = log_snr - gap
    rho = NetworkVariances(BLOCKS).log_ratio(saying(-12.0), log_snr, t).flatten()[0].item()
    exact = math.log1p(math.exp(t) * math.expm1(log_snr - t) * math.exp(-12.0))
    assert rho == pytest.approx(exact, rel=1e-12, abs=0.0)


def test_calibrated_variances() -> None:
    rng = np.random.default_rng(3)
    grid = np.array([8.0, 2.0, -3.0])
    mse = rng.uniform(0.01, 0.5, (3, 192))
    calibration = Calibration(grid, mse)
    prediction = saying(5.0)
    d = math.exp(3.0) - math.exp(2.0)
    between = np.exp(0.5 * np.log(mse[1]) + 0.5 * np.log(mse[2]))
    far = math.exp(3.0) - math.exp(-0.5)
    by_class = CalibratedVariances(BLOCKS, calibration, "class")
    found = by_class.log_ratio(prediction, 3.0, 2.0).expand_as(prediction.coef_log_var)
    np.testing.assert_allclose(found[1, :, 0, 1].numpy(), np.log(1.0 + d * mse[1]), rtol=1e-12)
    found = by_class.log_ratio(prediction, 3.0, -0.5).expand_as(prediction.coef_log_var)
    np.testing.assert_allclose(found[0, :, 1, 1].numpy(), np.log(1.0 + far * between), rtol=1e-12)
    by_level = CalibratedVariances(BLOCKS, calibration, "level")
    found = by_level.log_ratio(prediction, 3.0, 2.0).expand_as(prediction.coef_log_var)
    np.testing.assert_allclose(found.numpy(), np.log(1.0 + d * mse[1].mean()), rtol=1e-12)
    for variances in (by_class, by_level):
        assert torch.equal(variances.decoder_log_variance(prediction, 8.0, 2.0), prediction.pixel_log_var)
    with pytest.raises(InputError, match=r"\Athe calibration has 192 classes, transform identity has 3\Z"):
        CalibratedVariances(IDENTITY, calibration, "class")


def test_variances_by_name() -> None:
    chain = even_chain(8.0, -3.0, 4).log_snr
    calibration = Calibration(np.array([8.0, -3.0]), np.ones((2, 192)))
    prediction = saying(-1.0)
    assert isinstance(variances_of("predicted", BLOCKS, None, chain), NetworkVariances)
    for kind in ("class", "level"):
        found = variances_of(kind, BLOCKS, calibration, chain)
        assert isinstance(found, CalibratedVariances)
        assert found.kind == kind
        with pytest.raises(InputError, match=rf"\Avariance '{kind}' needs a calibration[^\n]*\Z"):
            variances_of(kind, BLOCKS, None, chain)
    for kind in ("beta", "beta-tilde"):
        fixed = variances_of(kind, BLOCKS, None, chain)  # type: ignore[arg-type]
        for s, t in ((chain[0], chain[1]), (chain[1], chain[4])):
            assert torch.equal(fixed.log_ratio(prediction, s, t), process(kind).log_ratio(prediction, s, t))
    with pytest.raises(InputError, match=r"\Aunknown variance 'gamma'\Z"):
        variances_of("gamma", BLOCKS, None, chain)  # type: ignore[arg-type]
