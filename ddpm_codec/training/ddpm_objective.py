"""The objectives of DDPM training: L_simple, L_vlb and L_hybrid, one random timestep per image."""

import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import ratio_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.process import ReverseProcess

HISTORY = 10
"""Number of losses per timestep that importance sampling remembers."""

UNIFORM_SHARE = 0.001
"""Share of the draws that stays uniform; no weight exceeds its inverse."""


class TimestepSampler:
    """Draws timesteps, uniformly or with probabilities p_t proportional to sqrt(E[L_t^2]) of the last losses.

    Until every timestep has :data:`HISTORY` losses the draws are uniform. All draws are systematic: evenly spaced in the
    distribution function with one random offset a batch.

    Args:
        timesteps: T.
        importance: draw by importance.

    Source: Nichol & Dhariwal 2021, eq. 18.
    """

    def __init__(self, timesteps: int, *, importance: bool) -> None:
        self.timesteps, self.importance = timesteps, importance
        self.losses = torch.zeros(timesteps, HISTORY, dtype=torch.float64)
        self.seen = torch.zeros(timesteps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Return p_t, [T] float64."""
        uniform = torch.full((self.timesteps,), 1.0 / self.timesteps, dtype=torch.float64)
        if not self.importance or bool((self.seen < HISTORY).any()):
            return uniform
        sizes = self.losses.square().mean(dim=1).sqrt()
        return (1.0 - UNIFORM_SHARE) * sizes / sizes.sum() + UNIFORM_SHARE * uniform

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return timesteps [count] and their weights 1 / (T p_t), with which means over draws are means over t."""
        p = self.probabilities()
        # Stratified draws from p: the inverse distribution function at evenly spaced places with one random offset.
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        places = (torch.arange(count, dtype=torch.float64) + offset) / count
        t = torch.searchsorted(p.cumsum(0), places).clamp(max=self.timesteps - 1)
        return t, 1.0 / (self.timesteps * p[t])

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember losses [B] at timesteps [B]; those that are not finite are left out."""
        if not self.importance:
            return
        for index, loss in zip(t.tolist(), losses.tolist(), strict=True):
            if loss == loss and abs(loss) != float("inf"):
                self.losses[index] = torch.cat([self.losses[index, 1:], self.losses.new_tensor([loss])])
                self.seen[index] += 1


def bound_terms_nats(
    output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, process: ReverseProcess, levels: Tensor
) -> Tensor:
    """Return L_t of each image in nats per dimension, [B]: a KL, or for t = 0 the negative log-likelihood L_0.

    Args:
        output: of the network, [B, C or 2C, H, W].
        x_0: model values, [B, C, H, W].
        x_t: what the network saw.
        t: timesteps, [B].
        process: of the model.
        levels: log-SNR of its timesteps, [T], in the dtype to compute in.

    Nothing is clipped here, so that gradients reach every output.
    """
    mean, fraction = process.split(output)
    log_snr, below = levels[t], levels[(t - 1).clamp(min=0)]
    error = x_0 - process.x0_mean(mean, x_t, log_snr)
    # snr_s - snr_t without cancellation; for t = 0 there is no step, and the other branch counts.
    difference = torch.exp(log_snr) * torch.expm1(below - log_snr)
    kl = ratio_kl_nats(error, process.log_ratio(below, log_snr, fraction), difference).mean(dim=(1, 2, 3))
    clean = torch.nonzero(t == 0).flatten()
    if len(clean):
        part = None if fraction is None else fraction[clean]
        first, second = (levels[k].expand(len(clean)) for k in (0, min(1, len(levels) - 1)))
        log_variance = process.decoder_log_variance(first, second, part).expand_as(error[clean])
        log_p = gaussian_log_likelihood(x_0[clean], x_0[clean] - error[clean], log_variance)
        kl = kl.index_copy(0, clean, -log_p.mean(dim=(1, 2, 3)).to(kl.dtype))
    return kl
