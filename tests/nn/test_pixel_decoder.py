"""The pixel decoder: causal to the bit, a distribution that sums to one, known posteriors, counted work."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood, PixelParameters
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.codec_net import SIZES, CodecNetConfig
from ddpm_codec.nn.denoiser import preconditioning
from ddpm_codec.nn.masked_conv import MaskedConv, causal_mask
from ddpm_codec.nn.pixel_decoder import (
    DECODERS,
    LEAST_DEVIATION,
    PixelDecoder,
    PixelDecoderConfig,
    TailTable,
    checked_crossings,
    decoder_config,
    decoder_macs_per_pixel,
)
from ddpm_codec.training.optimizer import build_optimizer
from ddpm_codec.units import GREY_PER_UNIT

SMALL = PixelDecoderConfig(
    CodecNetConfig(width=4, mid_width=8, outer_blocks=1, mid_blocks=1, embedding=8), features=4, channels=4, reach=5
)
GREYS = torch.arange(256, dtype=torch.float64) / GREY_PER_UNIT - 1.0
CROSSINGS = [3.2, 8.2, 20.0]
CODED_CHANNELS = (1, 0, 2)
"""Green, then red, then blue."""


def random_decoder(config: PixelDecoderConfig = SMALL, scale: float = 0.3, seed: int = 3) -> PixelDecoder:
    """Return a decoder none of whose weights is zero, least of all those that begin so."""
    network = PixelDecoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return network


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    greys = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed))
    return greys / GREY_PER_UNIT - 1.0


def noisy(x_0: Tensor, grey_levels: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed), dtype=x_0.dtype)
    return x_0 + grey_levels / GREY_PER_UNIT * noise, torch.full((len(x_0),), log_snr_at(grey_levels))


def in_coded_order(parameters: PixelParameters) -> list[Tensor]:
    """Return mean, log-variance and tail of every sub-pixel in the order of coding, each [B, H * W * 3]."""
    tensors = [parameters.mean, parameters.log_variance, parameters.wide_logit, parameters.wide_log_ratio]
    return [t[:, list(CODED_CHANNELS)].permute(0, 2, 3, 1).flatten(1) for t in tensors if t is not None]


def first_dependences(network: PixelDecoder, side: int = 8) -> list[int | None]:
    """Return, for each sub-pixel in the order of coding, the first one whose parameters change with it."""
    x_0 = pictures(1, side)
    z_0, level = noisy(x_0, 8.2)
    # One picture at a time: in a batch, sums might be taken in another order, and bits are compared.
    before = in_coded_order(network.parameters_given(z_0, level, x_0)[0])
    found = []
    for row, column, channel in itertools.product(range(side), range(side), CODED_CHANNELS):
        changed = x_0.clone()
        changed[0, channel, row, column] += 0.5
        after = in_coded_order(network.parameters_given(z_0, level, changed)[0])
        differs = torch.stack([(a != b)[0] for a, b in zip(before, after, strict=True)]).any(dim=0)
        found.append(int(differs.nonzero()[0, 0]) if differs.any() else None)
    return found


ALIVE = {
    "small": (SMALL, 0.2),
    "tiny": (DECODERS["decoder-tiny"], 0.05),
    "gaussian": (decoder_config("decoder-tiny", "gaussian"), 0.05),
}
"""Configurations, and scales of random weights at which clamps do not hide what a network sees."""


@pytest.mark.parametrize("name", ALIVE)
def test_no_sub_pixel_sees_itself_or_a_later_one(name: str) -> None:
    """Bit-equal, with random weights everywhere."""
    config, scale = ALIVE[name]
    network = random_decoder(config, scale)
    x_0 = pictures(1, 8)
    z_0, level = noisy(x_0, 8.2)
    parameters, maps = network.parameters_given(z_0, level, x_0)
    assert ((x_0 - maps.mean).abs() > 8.0 * maps.scale).float().mean() < 0.1
    greys = GREY_PER_UNIT * (0.5 * parameters.log_variance).exp()
    assert ((greys > 0.06) & (greys < 120)).float().mean() > 0.9
    seen = first_dependences(network)
    assert all(first is None or first > place for place, first in enumerate(seen))
    # And what may be seen is seen: the next sub-pixel by its coefficient, the next pixel by the masked network, from the last
    # of a row one of the next row.
    in_row = [place for place in range(8 * 8 * 3) if place % 24 != 23]
    assert [seen[place] for place in in_row] == [place + 1 for place in in_row]
    assert all((seen[place] or 0) > place + 1 for place in range(23, 8 * 8 * 3 - 1, 24))
    assert seen[-1] is None


@pytest.mark.parametrize("broken", ["stem", "block"])
def test_a_broken_mask_is_found(broken: str) -> None:
    network = random_decoder(scale=0.2)
    mask = network.get_buffer(f"{'masked_stem' if broken == 'stem' else 'blocks.1.masked'}.conv.mask")
    middle = mask.shape[0] // 2
    mask[middle, middle + (0 if broken == "stem" else 1)] = 1.0
    seen = first_dependences(network)
    assert any(first is not None and first <= place for place, first in enumerate(seen))


def test_what_is_masked_away_is_zero_wherever_weights_come_from() -> None:
    """So that integers, which are made from the weights alone, are causal too."""
    network, noise = PixelDecoder(SMALL), random_decoder()
    masked = [module for module in network.modules() if isinstance(module, MaskedConv)]
    assert len(masked) == SMALL.blocks
    assert all(not (layer.weight * (1 - layer.mask)).any() for layer in masked)
    network.load_state_dict(noise.state_dict())
    assert all(not (layer.weight * (1 - layer.mask)).any() for layer in masked)
    assert all((layer.weight * layer.mask).any() for layer in masked)
    x_0 = pictures(2, 8)
    z_0, level = noisy(x_0, 8.2)
    optimizer = build_optimizer(network, "muon", 0.01)
    network.parameters_given(z_0, level, x_0)[0].log_likelihood(x_0).mean().backward()
    optimizer.step()
    assert all(not (layer.weight * (1 - layer.mask)).any() for layer in masked)
    before = network.parameters_given(z_0, level, x_0)[0]
    for layer in masked:
        layer.mask.fill_(1.0)
    after = network.parameters_given(z_0, level, x_0)[0]
    torch.testing.assert_close(before.mean, after.mean)


def test_masks_are_the_pixels_above_and_to_the_left() -> None:
    assert causal_mask(3, own=False).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert causal_mask(3, own=True).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert int(causal_mask(7, own=False).sum()) == 24
    layer = MaskedConv(2, 3, 3, own=True)
    layer(torch.ones(1, 2, 4, 4)).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad != 0, causal_mask(3, own=True).bool().expand(3, 2, 3, 3))


def of_all_values(parameters: PixelParameters, place: tuple[int, int, int]) -> Tensor:
    """Return ln p of each of the 256 values at (channel, row, column) of every picture, [B, 256]."""
    at = [
        None if value is None else value[:, place[0], place[1], place[2], None] for value in vars(parameters).values()
    ]
    return PixelParameters(*at).log_likelihood(GREYS.float().expand(len(parameters.mean), 256), torch.float64)  # type: ignore[arg-type]


def test_joint_masses_of_neighbouring_sub_pixels_sum_to_one() -> None:
    """The network runs anew for every value of the first, and for 65,536 pairs each value of the second is priced."""
    network = random_decoder(scale=0.2)
    x_0 = pictures(1, 8)
    z_0, level = noisy(x_0, 20.0)
    pairs = {
        "red given green": ((1, 4, 4), (0, 4, 4)),
        "next pixel": ((2, 4, 3), (1, 4, 4)),
        "below": ((0, 3, 5), (2, 4, 4)),
    }
    for first, second in pairs.values():
        many = x_0.repeat(256, 1, 1, 1)
        many[:, first[0], first[1], first[2]] = GREYS.float()
        parameters, _ = network.parameters_given(z_0.repeat(256, 1, 1, 1), level.repeat(256), many)
        log_first = parameters.log_likelihood(many, torch.float64)[:, first[0], first[1], first[2]]
        log_second = of_all_values(parameters, second)
        assert (log_second.exp().std(dim=0) > 0).any(), "the second depends on the first"
        torch.testing.assert_close(
            (log_first[:, None] + log_second).logsumexp(dim=(0, 1)),
            torch.zeros((), dtype=torch.float64),
            atol=1e-6,
            rtol=0,
        )


def test_the_second_is_priced_alike_when_the_network_runs_anew_for_it() -> None:
    """A coarse subset of pairs, both values in the picture: what the test above sums up without a run for each pair."""
    network = random_decoder(scale=0.2)
    x_0 = pictures(1, 8)
    z_0, level = noisy(x_0, 20.0)
    values = GREYS.float()[::16]
    # A batch for each value of the second: the place of a picture in its batch may change the rounding of float32.
    many = x_0.repeat(16, 1, 1, 1)
    many[:, 2, 2, 2] = values
    joint, marginal = torch.empty(2, 16, 16, dtype=torch.float64)
    for column, grey in enumerate(values.tolist()):
        many[:, 1, 2, 3] = grey
        parameters, _ = network.parameters_given(z_0.expand_as(many), level.expand(16), many)
        log_p = parameters.log_likelihood(many, torch.float64)
        joint[:, column] = log_p[:, 2, 2, 2] + log_p[:, 1, 2, 3]
        marginal[:, column] = log_p[:, 2, 2, 2]
    assert torch.equal(marginal, marginal[:, :1].expand(16, 16)), "the first does not see the second"
    few = x_0.repeat(16, 1, 1, 1)
    few[:, 2, 2, 2] = values
    parameters, _ = network.parameters_given(z_0.expand_as(few), level.expand(16), few)
    for column, grey in enumerate(values.tolist()):
        second = of_all_values(parameters, (1, 2, 3))[:, round((grey + 1.0) * GREY_PER_UNIT)]
        torch.testing.assert_close(joint[:, column] - marginal[:, 0], second)


def test_where_the_posterior_is_known() -> None:
    """Pixels drawn from N(0, 1/4): without training, the decoder has the mean and variance of x_0 given z_0.

    That is c_skip z and c_out^2, of which a grid of grey levels has these masses up to the width of its bins.
    """
    network = PixelDecoder(SMALL).eval()
    values = 0.5 * torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x_0 = torch.round((values.clamp(-1, 1) + 1.0) * GREY_PER_UNIT) / GREY_PER_UNIT - 1.0
    for grey_levels in (8.2, 20.0):
        z_0, level = noisy(x_0, grey_levels)
        with torch.no_grad():
            parameters, maps = network.parameters_given(z_0, level, x_0)
        sigma = grey_levels / GREY_PER_UNIT
        torch.testing.assert_close(maps.mean, 0.25 / (0.25 + sigma**2) * z_0, atol=1e-6, rtol=1e-5)
        # Bayes on the grid, where black and white are four deviations away.
        inside = (z_0.abs() < 0.4).flatten()
        z = z_0.double().flatten()[inside, None]
        exact = (-2.0 * GREYS**2 - 0.5 * ((z - GREYS) / sigma) ** 2).softmax(dim=1)
        flat = PixelParameters(parameters.mean.flatten()[inside, None], parameters.log_variance.flatten()[inside, None])
        found = flat.log_likelihood(GREYS.expand(len(z), 256), torch.float64).exp()
        torch.testing.assert_close(found, exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grey_levels", CROSSINGS)
def test_deviations_reach_a_tenth_of_a_grey_level_at_every_crossing(grey_levels: float) -> None:
    """A flat picture at any noise: what a floor relative to the noise made impossible."""
    network = PixelDecoder(SMALL).eval().requires_grad_(False)
    x_0 = torch.full((1, 3, 8, 8), 10 / GREY_PER_UNIT)
    z_0, level = noisy(x_0, grey_levels)
    network.parameter_head.conv.bias[3:6] = -100.0  # type: ignore[index]
    parameters, _ = network.parameters_given(z_0, level, x_0)
    deviation = GREY_PER_UNIT * math.exp(0.5 * parameters.log_variance.max().item())
    assert deviation == pytest.approx(LEAST_DEVIATION, rel=1e-5)
    assert deviation <= 0.1


def test_colours_are_given_each_other() -> None:
    """Coefficients alone: red's mean moves by a per unit of green, blue's by b and c, and c's share of a is taken off."""
    network = PixelDecoder(SMALL).eval().requires_grad_(False)
    network.parameter_head.conv.bias[6:9] = torch.tensor([0.5, -0.25, 9.0])  # type: ignore[index]
    x_0 = pictures(1, 8)
    z_0, level = noisy(x_0, 8.2)
    parameters, maps = network.parameters_given(z_0, level, x_0)
    mu, mean = maps.mean[0], parameters.mean[0]
    torch.testing.assert_close(mean[1], mu[1])
    torch.testing.assert_close(mean[0], mu[0] + 0.5 * (x_0[0, 1] - mu[1]))
    torch.testing.assert_close(mean[2], mu[2] - 0.25 * (x_0[0, 1] - mu[1]) + 1.5 * (x_0[0, 0] - mean[0]))


def test_tails_lie_between_the_rows_of_their_table() -> None:
    table = TailTable(5)
    with torch.no_grad():
        table.logit.copy_(torch.tensor([-5.0, -4.0, -1.0, 0.0, 2.0]))
        table.log_ratio.copy_(torch.tensor([2.0, 1.5, 1.0, 0.5, 0.2]))
    place = torch.tensor([[-1.0, 0.0, 0.25, 1.0], [2.5, 3.0, 4.0, 9.0]], requires_grad=True)
    logit, log_ratio = table(place)
    expected = np.interp(place.detach().numpy(), range(5), [-5.0, -4.0, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(logit.detach().numpy(), expected, rtol=1e-6)
    expected = np.interp(place.detach().numpy(), range(5), [2.0, 1.5, 1.0, 0.5, 0.2])
    np.testing.assert_allclose(log_ratio.detach().numpy(), expected, rtol=1e-6)
    logit.sum().backward()
    assert place.grad is not None
    assert place.grad[0, 2].item() == pytest.approx(1.0)
    assert place.grad[1, 0].item() == pytest.approx(1.0)
    assert place.grad[0, 0].item() == place.grad[1, 3].item() == 0.0
    with torch.no_grad():
        table.log_ratio.fill_(-1.0)
    assert torch.equal(table(place)[1], torch.zeros(2, 4)), "never narrower than the narrow component"


def test_the_trunk_is_what_all_at_once_was_made_with() -> None:
    network: PixelLikelihood = random_decoder()
    x_0 = pictures(2, 8)
    z_0, level = noisy(x_0, 3.2)
    alone, (_, with_pixels) = network.trunk(z_0, level), network.parameters_given(z_0, level, x_0)
    for name in ("mean", "features", "scale"):
        assert torch.equal(getattr(alone, name), getattr(with_pixels, name))
    assert alone.mean.shape == x_0.shape
    assert alone.features.shape == (2, SMALL.features, 8, 8)
    torch.testing.assert_close(alone.scale, preconditioning(level).c_out)


def test_sides_that_are_multiples_of_four() -> None:
    network = random_decoder()
    x_0 = torch.zeros(1, 3, 12, 20)
    z_0, level = noisy(x_0, 8.2)
    assert network.parameters_given(z_0, level, x_0)[0].mean.shape == (1, 3, 12, 20)


@pytest.mark.parametrize("size", DECODERS)
def test_work_is_what_torch_counts_without_what_is_masked(size: str) -> None:
    config = DECODERS[size]
    network, counter = PixelDecoder(config).eval(), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.parameters_given(torch.zeros(1, 3, 32, 32), torch.zeros(1), torch.zeros(1, 3, 32, 32))
    counted = counter.get_flop_counts()["Global"]
    convolutions = next(flops for name, flops in counted.items() if "convolution" in str(name)) / 2 / 32**2
    channels, hidden = config.channels, config.reach**2 - config.reach**2 // 2
    masked_away = 3 * hidden * channels + (config.blocks - 1) * 4 * channels**2
    trunk, masked = decoder_macs_per_pixel(config)
    assert convolutions - masked_away == trunk + masked
    assert masked <= 90_000


def test_configurations() -> None:
    config = DECODERS["decoder-48"]
    assert PixelDecoderConfig.from_dict(config.to_dict()) == config
    assert decoder_config("decoder-48", "gaussian").shapes == 0
    assert config.trunk == SIZES["base"]
    for change in ({"channels": 0}, {"channels": 1 << 20}, {"reach": 4}, {"shapes": 1}, {"blocks": 1.5}, {"more": 1}):
        with pytest.raises(ModelError, match=r"\A[^\n]*pixel decoder[^\n]*\Z"):
            PixelDecoderConfig.from_dict(config.to_dict() | change)
    with pytest.raises(ModelError):
        PixelDecoderConfig.from_dict({"channels": 3})
    with pytest.raises(ValueError, match="unknown tail"):
        decoder_config("decoder-48", "square")


def test_crossings_that_are_none() -> None:
    assert checked_crossings((3.2, 8.2)) == (3.2, 8.2)
    for crossings in ((), (8.2, 3.2), (8.2, 8.2), (0.01,), (20000.0,), (math.nan,)):
        with pytest.raises(ValueError, match=r"increasing noise levels from 0\.1 to 1000 grey levels"):
            checked_crossings(crossings)


@pytest.mark.gpu
def test_a_gpu_says_the_same() -> None:
    device = torch.device("cuda")
    network = random_decoder(scale=0.1)
    x_0 = pictures(2, 16)
    z_0, level = noisy(x_0, 8.2)
    expected, _ = network.parameters_given(z_0, level, x_0)
    found, _ = network.place(device).parameters_given(z_0.to(device), level.to(device), x_0.to(device))
    torch.testing.assert_close(found.mean.cpu(), expected.mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.log_variance.cpu(), expected.log_variance, rtol=1e-3, atol=1e-2)
