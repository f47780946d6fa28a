"""Objectives of DDPM training: closed forms, the bound written out, importance sampling, where gradients go."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.gaussian import q_sample
from ddpm_codec.diffusion.measurement import draw_noise, image_generators
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.diffusion.variance import ProcessVariances
from ddpm_codec.models.ddpm_denoiser import DdpmDenoiser
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.ddpm_objective import HISTORY, UNIFORM_SHARE, TimestepSampler, bound_terms_nats
from ddpm_codec.training.ddpm_task import DdpmTask
from ddpm_codec.training.task import Batch

OUTPUTS = ("eps", "x0", "v", "previous")
VARIANCES = ("beta", "beta-tilde", "learned-range")
SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {
    "linear": NoiseSchedule.linear_beta,
    "cosine": NoiseSchedule.cosine,
}
outputs = pytest.mark.parametrize("output", OUTPUTS)
variances = pytest.mark.parametrize("variance", VARIANCES)
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
Array = NDArray[np.float64]


def config(**values: Any) -> TrainConfig:  # noqa: ANN401
    return TrainConfig(**{"size": "ddpm-tiny", "crop": 16, "dtype": "float32", **values})


def grey(count: int, side: int = 4) -> Tensor:
    """Return pictures of all kinds of grey levels, black and white among them."""
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(8))
    pixels[:, :, 0], pixels[:, :, 1] = 0, 255
    return pixels.double() / 127.5 - 1.0


def normal(*shape: int, seed: int = 9) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_of(x_0: Tensor, noise: Tensor, seed: int = 0) -> Batch:
    return Batch(x_0, noise, torch.Generator().manual_seed(seed), 0, 1)


def written_out(
    raw: Array, x_0: Array, x_t: Array, t: int, betas: Array, output: str, variance: str
) -> tuple[Array, Array]:
    """Return the term of one image per sub-pixel in nats, and x_0 as the network says it (Ho et al., eq. 5 to 13)."""
    kept = np.concatenate([[1.0], np.cumprod(1.0 - betas)])
    now, before, beta = kept[t + 1], kept[t], betas[t]
    c, a = np.sqrt(before) * beta / (1.0 - now), np.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - now)
    said, rest = raw[:3], raw[3:]
    x0_mean = {
        "eps": (x_t - np.sqrt(1.0 - now) * said) / np.sqrt(now),
        "x0": said,
        "v": np.sqrt(now) * x_t - np.sqrt(1.0 - now) * said,
        "previous": (said - a * x_t) / c,
    }[output]
    # The smaller variance of the last message is that of the step above it.
    u = max(t, 1)
    smaller = betas[u] * (1.0 - kept[u]) / (1.0 - kept[u + 1])
    share = {"beta": 0.0 if t == 0 else 1.0, "beta-tilde": 0.0}.get(variance, (rest + 1.0) / 2.0)
    log_variance = share * np.log(beta) + (1.0 - share) * np.log(smaller) + 0.0 * said
    deviation = np.exp(0.5 * log_variance)
    if t > 0:
        q = Normal(torch.tensor(a * x_t + c * x_0), torch.tensor(np.sqrt(smaller)))
        p = Normal(torch.tensor(a * x_t + c * x0_mean), torch.tensor(deviation))
        return kl_divergence(q, p).numpy(), x0_mean
    gap = -np.abs(x_0 - x0_mean)
    # Mirrored to the left, where differences of the distribution function do not cancel.
    mass = stats.norm.cdf((gap + 1.0 / 255.0) / deviation) - stats.norm.cdf((gap - 1.0 / 255.0) / deviation)
    top = stats.norm.sf((x_0 - 1.0 / 255.0 - x0_mean) / deviation)
    bottom = stats.norm.cdf((x_0 + 1.0 / 255.0 - x0_mean) / deviation)
    return -np.log(np.where(x_0 > 0.999, top, np.where(x_0 < -0.999, bottom, mass))), x0_mean


@schedules
@variances
@outputs
def test_terms_are_those_of_the_papers(output: str, variance: str, schedule: str) -> None:
    """Every timestep in any order, the cleanest twice, with a network that errs by about as much as one must."""
    steps, t = 12, torch.tensor([7, 0, 11, 3, 0, 1, 2, 10, 4, 9, 5, 8, 6])
    process = ReverseProcess(SCHEDULES[schedule](steps), output, variance)  # type: ignore[arg-type]
    betas, levels = process.schedule.betas, torch.from_numpy(process.schedule.log_snr)
    x_0, noise = grey(len(t)), normal(len(t), 3, 4, 4)
    x_t, level = q_sample(x_0, levels[t], noise), levels[t].reshape(-1, 1, 1, 1)
    wrong = x_0 + 0.8 * torch.exp(-0.5 * level.clamp(min=0.0)) * normal(*x_0.shape, seed=10)
    implied = (x_t - torch.sigmoid(level).sqrt() * wrong) / torch.sigmoid(-level).sqrt()
    raw = process.target(wrong, implied, x_t, levels[t])
    if variance == "learned-range":
        raw = torch.cat([raw, normal(*x_0.shape, seed=11)], dim=1)
    found = bound_terms_nats(raw, x_0, x_t, t, process, levels)
    single = bound_terms_nats(raw.float(), x_0.float(), x_t.float(), t, process, levels.float())
    for index, timestep in enumerate(t.tolist()):
        values = (raw[index].numpy(), x_0[index].numpy(), x_t[index].numpy())
        expected, x0_mean = written_out(*values, timestep, betas, output, variance)
        np.testing.assert_allclose(x0_mean, wrong[index].numpy(), rtol=1e-6, atol=1e-8)
        assert found[index].item() == pytest.approx(expected.mean(), rel=1e-7)
        assert single[index].item() == pytest.approx(expected.mean(), rel=2e-3)


@variances
@outputs
def test_terms_add_up_to_the_bound(output: str, variance: str) -> None:
    """What training descends, summed over t on the same noise, is what ``evaluate_bound`` reports, without L_T."""
    steps, seed, images = 8, 4, 3
    process = ReverseProcess(NoiseSchedule.cosine(steps), output, variance, clip=False)  # type: ignore[arg-type]
    learned = variance == "learned-range"
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, groups=4, time_channels=8, learned_range=learned)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x_0, levels = grey(images, 8), torch.from_numpy(process.schedule.log_snr)
    identity, prior = by_name("identity"), PriorModel.standard(3)
    chain = Chain(tuple(process.schedule.log_snr.tolist()))
    denoiser = DdpmDenoiser(network, process, block=1)
    terms = evaluate_bound(denoiser, [x_0], identity, chain, prior, variance=ProcessVariances(process), seed=seed)
    generators = image_generators(seed, 0, images)
    for index in range(steps):
        t = torch.full((images,), index)
        x_t = q_sample(x_0, levels[t], draw_noise(x_0, generators))
        with torch.no_grad():
            raw = network(x_t.float(), t.float()).double()
        ours = bound_terms_nats(raw, x_0, x_t, t, process, levels).numpy() / math.log(2.0)
        reported = terms.diffusion_bpd[:, index - 1] if index else terms.reconstruction_bpd
        np.testing.assert_allclose(ours, reported, rtol=2e-4)


@schedules
@pytest.mark.parametrize("objective", ["simple", "vlb"])
def test_the_mean_loss_of_the_best_predictor(objective: str, schedule: str) -> None:
    """x_0 ~ N(0, p): the best eps leaves alpha_bar p / (alpha_bar p + 1 - alpha_bar) of the noise.

    The KLs follow from the mean squared error of x_0, and L_0 by quadrature over that error.
    """
    steps, power = 6, 0.04
    task = DdpmTask(config(timesteps=steps, schedule=schedule, objective=objective))
    betas = np.linspace(0.1 / steps, 0.999, steps) if schedule == "linear" else NoiseSchedule.cosine(steps).betas
    kept = np.cumprod(1.0 - betas)
    ab = torch.tensor(kept, dtype=torch.float32)

    def best(x_t: Tensor, t: Tensor) -> Tensor:
        a = ab[t.long()][:, None, None, None]
        return (1.0 - a).sqrt() * x_t / (a * power + 1.0 - a)

    simple = kept * power / (kept * power + 1.0 - kept)
    mse = power * (1.0 - kept) / (kept * power + 1.0 - kept)
    before = kept[:-1]
    smaller = betas[1:] * (1.0 - before) / (1.0 - kept[1:])
    c2 = before * betas[1:] ** 2 / (1.0 - kept[1:]) ** 2
    kl = 0.5 * (np.log(betas[1:] / smaller) + (smaller + c2 * mse[1:]) / betas[1:] - 1.0)
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    edges = [
        (-math.sqrt(mse[0]) * np.abs(nodes) + half) / math.sqrt(smaller[0]) for half in (1.0 / 255.0, -1.0 / 255.0)
    ]
    last = -np.log(stats.norm.cdf(edges[0]) - stats.norm.cdf(edges[1])) @ shares / shares.sum()
    drawn = []
    for seed in range(300):
        noise = [normal(8, 3, 4, 4, seed=3 * seed + k).float() for k in range(2)]
        loss = task.loss(best, batch_of(math.sqrt(power) * noise[0], noise[1], seed))
        assert loss.total.item() == pytest.approx(loss.parts[objective == "vlb"].item(), rel=1e-6)
        drawn.append([part.item() for part in loss.parts])
    means, errors = np.mean(drawn, axis=0), np.std(drawn, axis=0, ddof=1) / math.sqrt(len(drawn))
    expected = np.array([simple.mean(), (kl.sum() + last) / math.log(2.0)])
    # Draws by importance weigh L_vlb alone.
    seen = slice(1, 2) if objective == "vlb" else slice(0, 2)
    assert (errors < 0.02 * expected)[seen].all()
    assert (np.abs(means - expected) < 4.0 * errors)[seen].all(), (means, expected, errors)


def filled(timesteps: int, seed: int = 12) -> TimestepSampler:
    """A sampler with a full history of unequal losses."""
    sampler = TimestepSampler(timesteps, importance=True)
    losses = np.random.default_rng(seed).gamma(1.0, np.arange(1, timesteps + 1), (HISTORY, timesteps))
    for row in losses:
        sampler.update(torch.arange(timesteps), torch.from_numpy(row))
    return sampler


def test_uniform_until_every_timestep_has_ten_losses() -> None:
    """Then p_t ~ sqrt(mean of the last ten squares), Nichol & Dhariwal 2021, eq. 18."""
    sampler, rng = TimestepSampler(3, importance=True), np.random.default_rng(13)
    history: list[list[float]] = [[], [], []]
    for step in range(40):
        t = torch.tensor([0, 1, 1] if step % 2 else [0, 2, 1])
        losses = torch.from_numpy(rng.normal(1.0, 0.5, 3))
        sampler.update(t, losses)
        for index, loss in zip(t.tolist(), losses.tolist(), strict=True):
            history[index].append(loss)
        p = sampler.probabilities()
        if min(len(values) for values in history) < 10:
            assert torch.equal(p, torch.full((3,), 1.0 / 3.0, dtype=torch.float64))
            continue
        sizes = np.array([np.sqrt(np.mean(np.square(values[-10:]))) for values in history])
        np.testing.assert_allclose(p.numpy(), 0.999 * sizes / sizes.sum() + 0.001 / 3.0, rtol=1e-12)
    assert len(history[2]) == 20
    assert not torch.allclose(p, p[0])
    assert UNIFORM_SHARE == 0.001


def test_losses_that_are_not_finite_are_not_remembered() -> None:
    sampler = filled(4)
    before = sampler.probabilities()
    sampler.update(torch.tensor([0, 1, 2]), torch.tensor([math.nan, math.inf, -math.inf]))
    assert torch.equal(sampler.probabilities(), before)
    plain = TimestepSampler(4, importance=False)
    for _ in range(12):
        plain.update(torch.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert torch.equal(plain.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("count", [1, 7, 64])
@pytest.mark.parametrize("importance", [True, False])
def test_draws_have_their_frequencies_and_weights(importance: bool, count: int) -> None:
    sampler = filled(9) if importance else TimestepSampler(9, importance=False)
    p, generator, batches = sampler.probabilities().numpy(), torch.Generator().manual_seed(1), 3000
    assert p.max() / p.min() > 2.0 or not importance
    tallies, figures, values = np.zeros(9), [], torch.from_numpy(np.random.default_rng(2).normal(size=9))
    for _ in range(batches):
        t, weights = sampler.draw(count, generator)
        assert t.shape == weights.shape == (count,)
        np.testing.assert_allclose(weights.numpy(), 1.0 / (9.0 * p[t.numpy()]), rtol=1e-12)
        tally = np.bincount(t.numpy(), minlength=9)
        # Stratified: never a whole draw more or fewer than expected.
        assert (np.abs(tally - count * p) < 1.0 + 1e-9).all()
        tallies += tally
        figures.append((weights * values[t]).mean().item())
    if count == 1:
        assert stats.chisquare(tallies, batches * p).pvalue > 1e-3
    np.testing.assert_allclose(tallies / tallies.sum(), p, atol=0.03 / count)
    stderr = np.std(figures, ddof=1) / math.sqrt(batches)
    assert abs(np.mean(figures) - values.mean().item()) < 4.0 * stderr + 1e-12


@outputs
@pytest.mark.parametrize("objective", ["hybrid", "vlb"])
def test_where_gradients_go(objective: str, output: str) -> None:
    """In L_hybrid the mean's channels learn from L_simple alone; the range's from 0.001 L_vlb. L_vlb teaches both."""
    steps = 6
    task = DdpmTask(config(timesteps=steps, objective=objective, prediction=output, variance="learned-range"))
    x_0, noise = grey(12).float(), normal(12, 3, 4, 4).float()
    raw = normal(12, 6, 4, 4, seed=14).float().requires_grad_()
    loss = task.loss(lambda x_t, t: raw, batch_of(x_0, noise, 3))
    loss.total.backward()
    assert raw.grad is not None
    t, weights = TimestepSampler(steps, importance=False).draw(12, torch.Generator().manual_seed(3))
    assert {0, steps - 1} <= set(t.tolist())
    assert torch.equal(weights, torch.ones(12, dtype=torch.float64))
    levels = torch.from_numpy(task.process.schedule.log_snr)
    x_t = q_sample(x_0, levels.float()[t], noise)
    copy = raw.detach().double().requires_grad_()
    terms = bound_terms_nats(copy, x_0.double(), x_t.double(), t, task.process, levels)
    vlb = steps / math.log(2.0) * terms.mean()
    vlb.backward()
    assert copy.grad is not None
    target = task.process.target(x_0, noise, x_t, levels.float()[t])
    simple = (raw.detach()[:, :3] - target) * 2.0 / x_0.numel()
    assert copy.grad[:, :3].any()
    if objective == "hybrid":
        expected = torch.cat([simple.double(), 0.001 * copy.grad[:, 3:]], dim=1)
        assert loss.total.item() == pytest.approx(loss.parts[0].item() + 0.001 * vlb.item(), rel=1e-4)
    else:
        expected = copy.grad
        assert loss.total.item() == pytest.approx(vlb.item(), rel=1e-4)
    scale = expected.abs().mean().item()
    torch.testing.assert_close(raw.grad.double(), expected, rtol=2e-3, atol=1e-4 * scale)
    assert raw.grad[:, 3:].flatten(1).any(dim=1).all()


def test_importance_weights_the_loss_and_remembers_it() -> None:
    steps = 4
    task = DdpmTask(config(timesteps=steps, objective="vlb"))
    task.sampler = filled(steps)
    x_0, noise, raw = grey(8).float(), normal(8, 3, 4, 4).float(), normal(8, 3, 4, 4, seed=15).float()
    t, weights = filled(steps).draw(8, torch.Generator().manual_seed(3))
    asked: list[torch.Tensor] = []

    def network(x_t: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        asked.append(at)
        return raw

    loss = task.loss(network, batch_of(x_0, noise, 3))
    assert asked[0].tolist() == t.tolist()
    levels = torch.from_numpy(task.process.schedule.log_snr)
    x_t = q_sample(x_0.double(), levels[t], noise.double())
    terms = bound_terms_nats(raw.double(), x_0.double(), x_t, t, task.process, levels)
    assert loss.total.item() == pytest.approx(steps / math.log(2.0) * (weights * terms).mean().item(), rel=1e-4)
    expected = filled(steps)
    expected.update(t, terms)
    torch.testing.assert_close(task.sampler.losses, expected.losses, rtol=1e-3, atol=1e-6)
    assert task.sampler.seen.tolist() == [HISTORY + int((t == k).sum()) for k in range(steps)]
