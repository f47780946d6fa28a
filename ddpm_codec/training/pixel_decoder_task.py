"""Training of a pixel decoder: -ln p(x_0 | z_0) at a few crossings, plus a term that keeps m_0 the mean picture."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ddpm_codec.device import autocast
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.pixel_decoder import (
    PixelDecoder,
    PixelDecoderConfig,
    completed,
    decoder_config,
    decoder_macs_per_pixel,
)
from ddpm_codec.training.checkpoint import check_starts, load_checkpoint, seeded
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.decoder_calibration import calibrate_decoder_on
from ddpm_codec.training.distributed import gather
from ddpm_codec.training.rounding import begin_rounding
from ddpm_codec.training.task import Batch, Loss, Task
from ddpm_codec.units import GREY_PER_UNIT, nats_to_bits

_PREFIX = "net."
"""Of the weights of a codec network, which are those of its denoiser."""

_MEAN_ROWS = 12
"""Rows of a pixel head that make the mean of three sub-pixels, 2x2 pixels at a time."""

TRUNK_HEAD = "trunk_head.conv."

MEMORY = 0.98
"""Decay of the running mean of squared errors."""

LEAST_SQUARE = (0.1 / GREY_PER_UNIT) ** 2
"""Lower bound on the variance of the term on m_0, for data that can be predicted exactly."""

MASKED = ("masked_stem.", "step_stem.", "feature_stem.", "blocks.", "parameter_head.", "tail.")
"""Prefixes of the weights after the trunk."""


class PixelDecoderTask(Task):
    """A :class:`~ddpm_codec.nn.pixel_decoder.PixelDecoder` trained at its crossings, each crop at one of them."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.network: PixelDecoderConfig = decoder_config(config.size, config.tail)
        self.log_snr = torch.tensor([log_snr_at(grey_levels) for grey_levels in config.crossings], dtype=torch.float32)
        self.squares = torch.zeros(len(config.crossings), dtype=torch.float64)

    def build(self, device: torch.device) -> nn.Module:
        """See :class:`Task`."""
        return seeded(self.config, lambda: PixelDecoder(self.network)).place(device)

    def macs_per_pixel(self) -> dict[str, float]:
        """See :class:`Task`."""
        trunk, masked = decoder_macs_per_pixel(self.network)
        return {"trunk": trunk, "masked network": masked}

    def loss(self, forward: Callable[..., tuple[PixelParameters, TrunkMaps]], batch: Batch) -> Loss:
        """Return the mean of -ln p(x_0 | z_0) + mean_weight (x_0 - m_0)^2 / (2 v) a sub-pixel, in bits.

        The second term is a Gaussian's around m_0 whose variance v, one a crossing, is the running mean of its squared error:
        so all crossings weigh alike, and since v does not depend on the crop the optimum is m_0 = E[x_0 | z_0]. Without it
        m_0 drifts: nothing else in the likelihood wants it to be the mean.
        """
        count = len(batch.x_0) * batch.world
        log_snr = self._draw(count, batch.generator)[batch.rank :: batch.world].to(batch.x_0.device)
        log_p, maps = self._evaluate(forward, batch.x_0, batch.noise, log_snr)
        error = batch.x_0 - maps.mean
        squares = error.square().mean(dim=(1, 2, 3))
        variance = self._variances(log_snr, squares.detach(), batch).to(squares)
        auxiliary = 0.5 * (squares / variance).mean()
        likelihood = -log_p.mean()
        total = nats_to_bits(1.0) * (likelihood + self.config.mean_weight * auxiliary)
        return Loss(total, (likelihood.detach().double(), error.detach().double().square().mean()))

    def figures(self, parts: tuple[float, float]) -> dict[str, float]:
        """See :class:`Task`."""
        return {"train_bpd": nats_to_bits(parts[0]), "mean_rmse": GREY_PER_UNIT * parts[1] ** 0.5}

    def validation_bpd(self, network: nn.Module, x_0: Tensor) -> float:
        """Return L_0 in bits/dim, the mean over the crossings."""
        return self.validation_figures(network, x_0)["validation_bpd"]

    @torch.no_grad()
    def validation_figures(self, network: nn.Module, x_0: Tensor) -> dict[str, float]:
        """Return L_0 in bits/dim, and the squared error of m_0 in grey levels, at each crossing; see :class:`Task`."""
        generator = torch.Generator().manual_seed(self.config.seed)
        figures = {"validation_bpd": 0.0}
        forward = cast("PixelDecoder", network)
        for grey_levels, level in zip(self.config.crossings, self.log_snr, strict=True):
            noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float32).to(x_0.device)
            log_p, maps = self._evaluate(forward, x_0, noise, level.expand(len(x_0)).to(x_0.device))
            bpd = -nats_to_bits(log_p.double().mean().item())
            figures["validation_bpd"] += bpd / len(self.log_snr)
            figures[f"crossing_{grey_levels:g}_bpd"] = bpd
            error = (x_0 - maps.mean).double().square().mean().item()
            figures[f"crossing_{grey_levels:g}_mse"] = GREY_PER_UNIT**2 * error
        return figures

    def first_weights(self, source: Path) -> dict[str, Tensor]:
        """Return initial weights from a pixel decoder, or the trunk and mean of a codec network.

        Only the trunk is used of a decoder with another masked network or another tail.

        Raises:
            ModelError: see :class:`Task`; or the trunks differ.
        """
        checkpoint = load_checkpoint(source)
        check_starts(checkpoint, self.config, str(source))
        if checkpoint.config.kind == "U-Net":
            raise ModelError(f"{source}: is a U-Net; a pixel decoder starts from a pixel decoder or a codec network")
        fresh = cast("PixelDecoder", self.build(torch.device("cpu")))
        given = _as_decoder(checkpoint.ema) if checkpoint.config.kind == "codec network" else checkpoint.ema
        given = completed(fresh, given)
        weights = dict(fresh.state_dict())
        masked = {key for key in weights if key.startswith(MASKED)}
        fits = all(key in given and given[key].shape == weights[key].shape for key in masked)
        if not fits:
            self.note = f"{source}: only its trunk is used, the masked network starts from scratch"
        for key in weights.keys() - (set() if fits else masked):
            if key not in given:
                raise ModelError(f"{source}: weight {key!r} of the trunk is missing")
            weights[key] = _first_rows(given[key], weights[key]) if key.startswith(TRUNK_HEAD) else given[key]
        return weights

    def prepare(
        self, network: nn.Module, average: nn.Module, sampler: CropSampler, step: int, device: torch.device
    ) -> None:
        """Switch to rounded weights and activations; calibrate first, unless the checkpoint is calibrated."""
        del step
        if not self.config.quantize:
            return
        trained = cast("PixelDecoder", network)

        def calibrate() -> None:
            if not trained.calibrated:
                calibrate_decoder_on(trained, sampler, self.log_snr, self.config.crop, device)

        begin_rounding(trained, cast("PixelDecoder", average), calibrate)

    def state(self) -> dict[str, Tensor]:
        """Return the running means of the squared error of m_0."""
        return {"squares": self.squares}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See :class:`Task`; a checkpoint without them begins with those of its next step."""
        found = state.get("squares", torch.zeros_like(self.squares))
        if found.shape != self.squares.shape:
            raise ModelError("its squared errors are those of other crossings")
        self.squares.copy_(found)

    def _variances(self, log_snr: Tensor, squares: Tensor, batch: Batch) -> Tensor:
        """Return the running mean of the squared error at the crossing of each crop, [B], the same in every process.

        Args:
            log_snr: of each crop of this process, [B].
            squares: mean squared error of m_0 in each.
            batch: which processes there are.
        """
        levels = gather(log_snr, batch.rank, batch.world).cpu()
        errors = gather(squares, batch.rank, batch.world).cpu().double()
        before = self.squares.clone()
        for index, level in enumerate(self.log_snr):
            here = errors[levels == level]
            if len(here) and torch.isfinite(here).all():
                mean = here.mean()
                self.squares[index] = torch.where(before[index] > 0, MEMORY * before[index] + (1 - MEMORY) * mean, mean)
        # Of steps before this one, so that a crop does not choose its own weight; the first step has no other.
        used = torch.where(before > 0, before, self.squares).clamp_min(LEAST_SQUARE)
        place = (log_snr.cpu()[:, None] == self.log_snr).int().argmax(dim=1)
        return used[place].to(squares.device)

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return one crossing an image, [count]: each as often as the others, to within one."""
        first = int(torch.randint(len(self.log_snr), (), generator=generator).item())
        return self.log_snr[(torch.arange(count) + first) % len(self.log_snr)]

    def _evaluate(
        self,
        forward: Callable[..., tuple[PixelParameters, TrunkMaps]],
        x_0: Tensor,
        noise: Tensor,
        log_snr: Tensor,
    ) -> tuple[Tensor, TrunkMaps]:
        """Return ln p of every sub-pixel, in float32, and the maps of the trunk."""
        z_0 = x_0 + torch.exp(-0.5 * log_snr)[:, None, None, None] * noise
        with autocast(x_0.device, self.config.dtype):
            parameters, maps = forward(z_0, log_snr, x_0)
        with torch.autocast(x_0.device.type, enabled=False):
            return parameters.log_likelihood(x_0), maps


def _first_rows(given: Tensor, fresh: Tensor) -> Tensor:
    """Return ``fresh`` with its first rows from ``given``; one of another width is left for the check of shapes."""
    if given.shape[1:] != fresh.shape[1:]:
        return given
    rows = min(len(given), len(fresh))
    return torch.cat([given[:rows].float(), fresh[rows:]])


def _as_decoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a codec network's weights under the decoder's names: the trunk, and the mean's rows of the pixel head."""
    renamed = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
    for key in [key for key in renamed if key.startswith("pixel_head.")]:
        value = renamed[key][:_MEAN_ROWS] if ".conv." in key else renamed[key]
        renamed[key.replace("pixel_head.", "trunk_head.")] = value
    return renamed
