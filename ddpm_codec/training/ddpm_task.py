"""Training of a DDPM as in the papers: a U-Net, T timesteps, L_simple, L_vlb or L_hybrid."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_codec.device import autocast
from ddpm_codec.diffusion.gaussian import q_sample
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.opening import read_folder
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig
from ddpm_codec.training.checkpoint import LAST, seeded
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.ddpm_objective import TimestepSampler, bound_terms_nats
from ddpm_codec.training.ddpm_settings import even_timesteps, process_of, unet_of
from ddpm_codec.training.distributed import gather
from ddpm_codec.training.task import Batch, Loss, Task
from ddpm_codec.units import nats_to_bits

HYBRID_WEIGHT = 0.001
"""Of L_vlb beside L_simple (Nichol & Dhariwal 2021, eq. 16)."""

VALIDATION_LEVELS = 32


class DdpmTask(Task):
    """A U-Net trained on random timesteps."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.process: ReverseProcess = process_of(config)
        self.unet: UNetConfig = unet_of(config)
        if config.crop % self.unet.stride:
            raise InputError(f"crop = {config.crop}: {config.size} needs a multiple of {self.unet.stride}")
        self.sampler = TimestepSampler(self.process.timesteps, importance=config.objective == "vlb")

    def build(self, device: torch.device) -> nn.Module:
        """See :class:`Task`."""
        return seeded(self.config, lambda: UNet(self.unet)).place(device)

    def macs_per_pixel(self) -> dict[str, float]:
        """See :class:`Task`; counted on one crop on the meta device."""
        with torch.device("meta"):
            network, counter = UNet(self.unet).eval(), FlopCounterMode(display=False)
            with counter:
                network(
                    torch.empty(1, 3, self.config.crop, self.config.crop, dtype=torch.float32),
                    torch.zeros(1, dtype=torch.float32),
                )
        return {"network": counter.get_total_flops() / 2 / self.config.crop**2}

    def first_weights(self, source: Path) -> dict[str, Tensor]:
        """Return weights of a checkpoint, or of a DDPM in a folder of whatever kind.

        Raises:
            ModelError: see :class:`Task`; or the folder has another architecture or process.
        """
        if not source.is_dir() or (source / LAST).exists():
            return super().first_weights(source)
        found = read_folder(source)
        if not same_process(found.process, self.process):
            raise ModelError(f"{source}: its schedule, prediction or variance differs from that of this run")
        # Dropout has no weights, so it may differ.
        if replace(found.unet, dropout=self.unet.dropout) != self.unet:
            raise ModelError(f"{source}: its architecture differs from that of size = {self.config.size!r}")
        return found.weights

    def loss(self, forward: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Loss:
        """Return L_simple, L_vlb in bits/dim (importance-sampled), or L_simple + 0.001 L_vlb.

        L_simple is the mean squared error of the network's output. In L_hybrid, L_vlb teaches the variances alone: the mean
        is cut off from its graph (Nichol & Dhariwal 2021, sec. 3.1).
        """
        x_0, device = batch.x_0, batch.x_0.device
        t, weights = self.sampler.draw(len(x_0) * batch.world, batch.generator)
        t, weights = t[batch.rank :: batch.world].to(device), weights[batch.rank :: batch.world].to(device)
        levels = self._levels(device)
        x_t = q_sample(x_0, levels[t], batch.noise)
        with autocast(device, self.config.dtype):
            output = forward(x_t, t.float())
        with torch.autocast(device.type, enabled=False):
            output = output.float()
            mean, fraction = self.process.split(output)
            target = self.process.target(x_0, batch.noise, x_t, levels[t])
            simple = (target - mean).square().mean(dim=(1, 2, 3))
            learns_both = self.config.objective == "vlb" or fraction is None
            seen = output if learns_both else torch.cat([mean.detach(), output[:, mean.shape[1] :]], dim=1)
            terms = bound_terms_nats(seen, x_0, x_t, t, self.process, levels)
            vlb = nats_to_bits(self.process.timesteps) * (weights.float() * terms).mean()
            total = {"simple": simple.mean(), "vlb": vlb}.get(
                self.config.objective, simple.mean() + HYBRID_WEIGHT * vlb
            )
        if self.sampler.importance:
            everywhere = [gather(values, batch.rank, batch.world) for values in (t, terms)]
            self.sampler.update(everywhere[0].long(), everywhere[1])
        weighted = (weights * simple.detach()).double().mean()
        return Loss(total, (weighted, vlb.detach().double()))

    def figures(self, parts: tuple[float, float]) -> dict[str, float]:
        """See :class:`Task`."""
        return {"simple_loss": parts[0], "train_bpd": parts[1]}

    @torch.no_grad()
    def validation_bpd(self, network: nn.Module, x_0: Tensor) -> float:
        """Return the bound over 32 levels, even in log-SNR, each step and L_0 with the best single variance for x_0.

        Every objective and every kind of output is measured alike; the noise depends on the seed alone.
        """
        levels = self.process.schedule.log_snr
        chain = even_timesteps(self.process.schedule, VALIDATION_LEVELS)
        generator = torch.Generator().manual_seed(self.config.seed)
        bpd = 0.0
        for place_in_chain, index in enumerate(chain):
            error = self._error(network, x_0, index, generator)
            mse = error.double().square().mean()
            if place_in_chain == 0:
                log_p = gaussian_log_likelihood(x_0.double(), x_0.double() - error, mse.log())
                bpd -= nats_to_bits(log_p.mean().item())
            else:
                below = chain[place_in_chain - 1]
                difference = float(np.exp(levels[index]) * np.expm1(levels[below] - levels[index]))
                bpd += nats_to_bits(0.5 * torch.log1p(difference * mse).item())
        return bpd

    def state(self) -> dict[str, Tensor]:
        """Return the losses that importance sampling remembers."""
        return {"losses": self.sampler.losses, "seen": self.sampler.seen} if self.sampler.importance else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See :class:`Task`."""
        for key, own in self.state().items():
            if not isinstance(state.get(key), Tensor) or state[key].shape != own.shape:
                raise ModelError(f"its {key} of importance sampling do not fit")
            own.copy_(state[key])

    def _levels(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.process.schedule.log_snr).float().to(device)

    def _error(self, network: nn.Module, x_0: Tensor, index: int, generator: torch.Generator) -> Tensor:
        """Return x_0 minus the clipped prediction from one timestep."""
        noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float32).to(x_0.device)
        t = torch.full((len(x_0),), index, dtype=torch.int64, device=x_0.device)
        log_snr = self._levels(x_0.device)[t]
        x_t = q_sample(x_0, log_snr, noise)
        with autocast(x_0.device, self.config.dtype):
            output = network(x_t, t.float())
        mean, _ = self.process.split(output.float())
        return x_0 - self.process.x0_mean(mean, x_t, log_snr).clamp(-1.0, 1.0)


def same_process(one: ReverseProcess, other: ReverseProcess) -> bool:
    """Return whether a network trained for one process means the same in the other."""
    if (one.output, one.variance, one.timesteps) != (other.output, other.variance, other.timesteps):
        return False
    return np.allclose(one.schedule.log_alpha_bar, other.schedule.log_alpha_bar, rtol=1e-5)
