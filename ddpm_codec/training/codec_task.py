"""Training of a codec network on the bound of its chain, optionally with rounding (``quantize``)."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.nn.codec_net import SIZES, macs_per_pixel
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training.calibration import calibrate_on
from ddpm_codec.training.checkpoint import build_denoiser
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.freezing import check_freezes
from ddpm_codec.training.objective import bound_loss, draw_levels
from ddpm_codec.training.rounding import begin_rounding
from ddpm_codec.training.task import Batch, Loss, Task
from ddpm_codec.training.validation import validation_bound_bpd
from ddpm_codec.units import nats_to_bits


class CodecTask(Task):
    """A :class:`~ddpm_codec.nn.codec_net.CodecNet` trained to code."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.transform = by_name(config.transform)

    def build(self, device: torch.device) -> nn.Module:
        """See :class:`Task`; a variance head that W does not use is not trained."""
        denoiser = build_denoiser(self.config).place(device)
        if self.transform.dims != denoiser.net.config.coefficients:
            denoiser.net.freeze_variance_head()
        return denoiser

    def macs_per_pixel(self) -> dict[str, float]:
        """See :class:`Task`."""
        return {"network": macs_per_pixel(SIZES[self.config.size])}

    def loss(self, forward: Callable[[Tensor, Tensor], Prediction], batch: Batch) -> Loss:
        """See :func:`~ddpm_codec.training.objective.bound_loss`."""
        draw = draw_levels(self.config, len(batch.x_0) * batch.world, batch.generator).part(batch.rank, batch.world)
        return bound_loss(forward, self.transform, batch.x_0, batch.noise, draw, self.config)

    def validation_bpd(self, network: nn.Module, x_0: Tensor) -> float:
        """See :class:`Task`."""
        return validation_bound_bpd(cast("CodecDenoiser", network), self.transform, x_0, self.config)

    def figures(self, parts: tuple[float, float]) -> dict[str, float]:
        """See :class:`Task`."""
        steps_bpd, reconstruction_bpd = (nats_to_bits(part) for part in parts)
        return {
            "steps_bpd": steps_bpd,
            "reconstruction_bpd": reconstruction_bpd,
            "train_bpd": steps_bpd + reconstruction_bpd,
        }

    def prepare(
        self, network: nn.Module, average: nn.Module, sampler: CropSampler, step: int, device: torch.device
    ) -> None:
        """Switch to rounded weights and activations; calibrate first, unless the checkpoint is calibrated.

        Raises:
            ModelError: a new run whose network could not be exported.
        """
        if not self.config.quantize:
            return
        denoiser, averaged = cast("CodecDenoiser", network), cast("CodecDenoiser", average)

        def calibrate() -> None:
            if not denoiser.net.calibrated:
                calibrate_on(denoiser, sampler, self.transform, self.config, device)
            if step == 0:
                check_freezes(denoiser, sampler, self.config, device)

        begin_rounding(denoiser.net, averaged.net, calibrate)
