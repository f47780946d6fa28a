"""State of a run and its training step, in one process or several.

Every random number is a function of (seed, step, position in the batch), and a batch is split over the processes by
position, so a resumed run, or one on several processes, sees the same data, levels and noise: the loss curve is the same,
bit for bit after a resume, up to rounding with another number of processes.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddpm_codec.device import preferred_dtype
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import InputError, ModelError, Untaken
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, load_weights, state_to_resume
from ddpm_codec.training.codec_task import CodecTask
from ddpm_codec.training.config import Kind, TrainConfig
from ddpm_codec.training.crops import CropSampler, split_holdout
from ddpm_codec.training.ddpm_task import DdpmTask
from ddpm_codec.training.optimizer import build_optimizer
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask
from ddpm_codec.training.task import Batch, Loss, Task

MAX_SKIPPED = 20
"""Consecutive steps without a finite gradient after which a run is aborted."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate at ``step``: linear warm-up, constant, linear decay to zero over the last ``decay`` share."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    tail = (config.train_steps - step) / max(config.decay * config.train_steps, 1.0)
    return config.lr * min(warm, tail, 1.0)


def task_of(config: TrainConfig) -> Task:
    """Return the task of a run.

    Raises:
        InputError: the crop does not fit the network.
        ModelError: the architecture is inconsistent.
    """
    kinds: dict[Kind, type[Task]] = {
        "codec network": CodecTask,
        "U-Net": DdpmTask,
        "pixel decoder": PixelDecoderTask,
    }
    return kinds[config.kind](config)


class Trainer:
    """State and one step of a run.

    Args:
        config: the run.
        device: of this process.
        rank: of this process.
        world: number of processes.

    Raises:
        InputError: data unusable, or a batch that does not divide over the processes.
    """

    def __init__(self, config: TrainConfig, device: torch.device, rank: int, world: int) -> None:
        if config.batch % world:
            raise InputError(f"batch = {config.batch} does not divide over {world} processes")
        if config.dtype == "auto":
            config = replace(config, dtype=preferred_dtype(device))
        self.config, self.device, self.rank, self.world = config, device, rank, world
        self.task = task_of(config)
        self.split = split = split_holdout(config)
        self._damaged: list[Untaken] = []
        self.sampler = CropSampler(
            split.train,
            config.crop,
            flip=config.flip,
            seed=config.seed,
            weights=split.weights,
            augmentation=config.augmentation,
            on_damage=self._damaged.append,
        )
        checks = CropSampler(
            split.validation, config.crop, flip=False, seed=config.seed, on_damage=self._damaged.append
        )
        self.checks = checks if len(split.validation) else None
        self.denoiser, self.average = (self.task.build(device) for _ in range(2))
        # The average is never trained: where the two differ, as in dropout, it computes as in use.
        self.average.eval().requires_grad_(False)
        self.optimizer = build_optimizer(self.denoiser, config.optimizer, config.lr)
        self.step, self.seconds = 0, 0.0
        self.skipped_in_a_row = 0
        # Since the last line of the log: sums of the two losses in nats, number of steps taken, seconds, and those of them
        # that went into crops and noise.
        self.window = torch.zeros(5, dtype=torch.float64, device=device)
        forward: nn.Module = self.denoiser
        if world > 1:
            forward = DistributedDataParallel(self.denoiser)
        self.forward = torch.compile(forward) if config.compile else forward

    def resume(self, checkpoint: Checkpoint, source: Path) -> None:
        """Continue exactly where ``checkpoint`` stopped.

        Raises:
            ModelError: the checkpoint does not fit (see :func:`~ddpm_codec.training.checkpoint.state_to_resume`).
        """
        weights, optimizer = state_to_resume(checkpoint, self.config, source)
        load_weights(self.denoiser, weights, str(source))
        load_weights(self.average, checkpoint.ema, str(source))
        try:
            self.optimizer.load_state_dict(optimizer)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{source}: the optimiser's state does not fit ({error})") from error
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        if checkpoint.window is not None and checkpoint.window.shape == self.window.shape:
            self.window.copy_(checkpoint.window)
        try:
            self.task.load_state(checkpoint.task)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from error

    def start_from(self, source: Path) -> None:
        """Start from the averaged weights of another run, or of a DDPM folder.

        Raises:
            ModelError: the weights do not fit this run.
        """
        weights = self.task.first_weights(source)
        for denoiser in (self.denoiser, self.average):
            load_weights(denoiser, weights, str(source))

    def fork(self, source: Path) -> None:
        """Continue exactly from the checkpoint of another run, except for what this run's configuration changes.

        Raises:
            ModelError: the checkpoint does not fit.
            InputError: the other run has taken at least ``train_steps`` already.
        """
        checkpoint = load_checkpoint(source)
        if checkpoint.step >= self.config.train_steps:
            raise InputError(f"train_steps = {self.config.train_steps}: {source} has taken {checkpoint.step} already")
        self.resume(checkpoint, source)

    def prepare(self) -> None:
        """Prepare for the first step, after the weights are loaded.

        Raises:
            ModelError: a new run whose network could not be exported.
        """
        self.task.prepare(self.denoiser, self.average, self.sampler, self.step, self.device)

    def newly_damaged(self) -> list[Untaken]:
        """Return the images that turned out damaged since the last call, and were replaced by others."""
        found = self._damaged.copy()
        self._damaged.clear()
        return found

    def state(self) -> Checkpoint:
        """Return what a resumed run needs."""
        return Checkpoint(
            self.config,
            self.step,
            self.denoiser.state_dict(),
            self.average.state_dict(),
            self.optimizer.state_dict(),
            self.seconds,
            self.window,
            self.task.state(),
        )

    def advance(self) -> None:
        """Take one optimiser step, counted into ``window``; without a finite gradient the weights stay as they are.

        Raises:
            InputError: too many images are damaged; nothing of the step was taken.
            ModelError: no gradient was finite for :data:`MAX_SKIPPED` steps in a row.
        """
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        loss = self.backward()
        # The gradient, and so this decision, is the same in every process.
        norm = nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.config.clip)
        taken = bool(torch.isfinite(norm).item())
        if taken:
            self.optimizer.step()
        self.step += 1
        self._update_average()
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        self.window[3] += elapsed
        self._count(loss, taken)

    def _count(self, loss: Loss, taken: bool) -> None:
        if taken:
            self.skipped_in_a_row = 0
            self.window[0] += loss.parts[0]
            self.window[1] += loss.parts[1]
            self.window[2] += 1.0
            return
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MAX_SKIPPED:
            raise ModelError(
                f"training diverged at step {self.step}: no finite gradient for {MAX_SKIPPED} steps, lower lr"
            )

    def backward(self) -> Loss:
        """Leave the gradient of the whole batch in the parameters; return the loss of this process's part."""
        started = time.perf_counter()
        batch = self._batch()
        self.window[4] += time.perf_counter() - started
        loss = self.task.loss(self.forward, batch)
        self.optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        return loss

    def validate(self) -> dict[str, float]:
        """Return the validation figures of the averaged weights; none without validation images."""
        if self.checks is None:
            return {}
        totals, done = dict[str, float](), 0
        while done < self.config.validation_images:
            count = min(64, self.config.validation_images - done)
            x_0 = self._to_model(self.checks.batch(done, count, slice(None)))
            for key, value in self.task.validation_figures(self.average, x_0).items():
                totals[key] = totals.get(key, 0.0) + count * value
            done += count
        return {key: total / done for key, total in totals.items()}

    def _batch(self) -> Batch:
        """Return this process's images and noise: positions rank, rank + world, ... of the step's batch."""
        config, part = self.config, slice(self.rank, None, self.world)
        x_0 = self._to_model(self.sampler.batch(self.step, config.batch, part))
        # A seed an image, so that no process draws the noise of another; then one for draws about the batch, and one a
        # process for what networks draw by themselves, as dropout does.
        seeds = (
            np.random.SeedSequence([config.seed, self.step, 1]).generate_state(config.batch + 1 + self.world).tolist()
        )
        shared = torch.Generator().manual_seed(seeds[config.batch])
        own = torch.Generator()
        images = seeds[: config.batch][part]
        noise = torch.stack(
            [torch.randn(x_0.shape[1:], generator=own.manual_seed(seed), dtype=torch.float32) for seed in images]
        )
        torch.manual_seed(seeds[config.batch + 1 + self.rank])
        return Batch(x_0, noise.to(self.device), shared, self.rank, self.world)

    def _to_model(self, pixels: NDArray[np.uint8]) -> Tensor:
        return to_model_values(pixels, self.device).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.config.ema, self.step / (self.step + 9))
        averages: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(self.denoiser.parameters())
        torch._foreach_lerp_(averages, values, 1.0 - keep)
