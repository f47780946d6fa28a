"""The training loop: alone, or unchanged under ``torchrun`` on several processes and hosts.

Every random number is a function of (seed, step), and a batch is split over the processes by position, so a run that was
killed and resumed, or that ran on several processes, sees the same data and the same noise.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError, ModelError, OutputError
from ddpm_codec.training.checkpoint import (
    LAST,
    Checkpoint,
    build_denoiser,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.data import CropSampler, ImageSet, open_images
from ddpm_codec.training.distributed import pick_device, process_group
from ddpm_codec.training.log import RunLog
from ddpm_codec.training.objective import Draw, Loss, bound_loss, draw_levels
from ddpm_codec.training.optimizer import build_optimizer
from ddpm_codec.training.validation import validation_bound_bpd
from ddpm_codec.units import GREY_PER_UNIT


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate at ``step``: linear warm-up, constant, linear decay to zero over the last ``decay`` share."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    tail = (config.steps - step) / max(config.decay * config.steps, 1.0)
    return config.lr * min(warm, tail, 1.0)


def split_holdout(config: TrainConfig) -> tuple[ImageSet, ImageSet]:
    """Return (training, validation) images; a hold-out is a fixed random choice by the seed."""
    images = open_images(config.data)
    if config.validation:
        return images, open_images(config.validation)
    if not 0 <= config.holdout < len(images):
        raise InputError(f"holdout = {config.holdout}: {config.data} holds {len(images)} images")
    order = np.random.default_rng(config.seed).permutation(len(images)).tolist()
    return images.subset(sorted(order[config.holdout :])), images.subset(sorted(order[: config.holdout]))


class Trainer:
    """State and one step of a run."""

    def __init__(self, config: TrainConfig, device: torch.device, rank: int, world: int) -> None:
        if config.batch % world:
            raise InputError(f"batch = {config.batch} does not divide over {world} processes")
        self.config, self.device, self.rank = config, device, rank
        self.denoiser = build_denoiser(config).to(device, memory_format=torch.channels_last)
        self.transform = by_name(config.transform)
        self.average = build_denoiser(config).to(device, memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.denoiser, config.optimizer, config.lr)
        self.step, self.seconds = 0, 0.0
        self.part = slice(rank * config.batch // world, (rank + 1) * config.batch // world)
        train, validation = split_holdout(config)
        self.sampler = CropSampler(train, config.crop, flip=config.flip, seed=config.seed)
        self.checks = CropSampler(validation, config.crop, flip=False, seed=config.seed) if len(validation) else None
        forward: nn.Module = DistributedDataParallel(self.denoiser) if world > 1 else self.denoiser
        self.forward = torch.compile(forward) if config.compile else forward

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where ``checkpoint`` stopped.

        Raises:
            ModelError: the checkpoint holds averaged weights only.
        """
        if checkpoint.weights is None or checkpoint.optimizer is None:
            raise ModelError("this checkpoint holds averaged weights only: start from it with init_from")
        load_weights(self.denoiser, checkpoint.weights, "checkpoint")
        load_weights(self.average, checkpoint.ema, "checkpoint")
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Take the averaged weights of another run as the first weights of this one."""
        for denoiser in (self.denoiser, self.average):
            load_weights(denoiser, checkpoint.ema, self.config.init_from)

    def state(self) -> Checkpoint:
        """Return what a resumed run needs."""
        return Checkpoint(
            self.config,
            self.step,
            self.denoiser.state_dict(),
            self.average.state_dict(),
            self.optimizer.state_dict(),
            self.seconds,
        )

    def advance(self) -> Loss:
        """Take one optimiser step; return the loss of this process's part of the batch."""
        started = time.perf_counter()
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        x_0, noise, draw = self._batch()
        loss = bound_loss(self.forward, self.transform, x_0, noise, draw, config)
        self.optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        self.seconds += time.perf_counter() - started
        return loss

    def validate(self) -> float | None:
        """Return the validation bound of the averaged weights in bits/dim, or None without validation images."""
        if self.checks is None:
            return None
        total, done = 0.0, 0
        while done < self.config.validation_images:
            count = min(64, self.config.validation_images - done)
            x_0 = self._to_model(self.checks.batch(done, count, slice(None)))
            total += count * validation_bound_bpd(self.average, self.transform, x_0, self.config)
            done += count
        return total / done

    def _batch(self) -> tuple[Tensor, Tensor, Draw]:
        """Return this process's images, noise and levels; the clean levels are dealt out evenly."""
        config = self.config
        x_0 = self._to_model(self.sampler.batch(self.step, config.batch, self.part))
        seed = int(np.random.SeedSequence([config.seed, self.step, self.rank]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        draw = draw_levels(config, len(x_0), generator)
        noise = torch.randn(x_0.shape, generator=generator).to(self.device)
        return x_0, noise, draw

    def _to_model(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        x_0 = torch.from_numpy(pixels).to(self.device).float() / GREY_PER_UNIT - 1.0
        return x_0.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.config.ema, self.step / (self.step + 9))
        averages, values = list(self.average.parameters()), list(self.denoiser.parameters())
        torch._foreach_lerp_(averages, values, 1.0 - keep)


def train(config: TrainConfig, *, progress: bool = True) -> Path:
    """Train until ``config.steps``; resume from ``config.output`` where a run has stopped there.

    Args:
        config: the run; saved as ``config.toml`` in the output folder.
        progress: show a progress bar on standard error.

    Returns:
        The path of the last checkpoint.

    Raises:
        InputError: data or configuration unusable.
        ModelError: a checkpoint that does not fit.
        OutputError: the output folder cannot be written.
    """
    if not config.output:
        raise InputError("output: name a folder for the checkpoints")
    device = pick_device(config.device)
    folder = Path(config.output)
    with process_group(device) as (rank, world):
        trainer = Trainer(config, device, rank, world)
        last = folder / LAST
        if last.exists():
            trainer.load(load_checkpoint(last))
        elif config.init_from:
            trainer.start_from(load_checkpoint(Path(config.init_from)))
        if rank == 0:
            _prepare(folder, config)
            _lead(trainer, folder, progress)
        else:
            while trainer.step < config.steps:
                trainer.advance()
    return last


def _prepare(folder: Path, config: TrainConfig) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(config.to_toml())
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error})") from error


def _lead(trainer: Trainer, folder: Path, progress: bool) -> None:
    """Run the steps of the process that logs, validates and saves."""
    config = trainer.config
    log = RunLog(folder)
    window: list[Loss] = []
    mark = trainer.seconds
    bar = tqdm(total=config.steps, initial=trainer.step, unit="step", disable=not progress)
    try:
        while trainer.step < config.steps:
            window.append(trainer.advance())
            bar.update()
            if trainer.step % config.log_every == 0:
                rate = len(window) * config.batch / (trainer.seconds - mark)
                _report(log, bar, trainer, window, rate)
                window, mark = [], trainer.seconds
            if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
                bound = trainer.validate()
                if bound is not None:
                    log.write(trainer.step, validation_bpd=bound)
            if trainer.step % config.checkpoint_every == 0 or trainer.step == config.steps:
                save_checkpoint(trainer.state(), folder / LAST)
    finally:
        bar.close()
        log.close()


def _report(log: RunLog, bar: Any, trainer: Trainer, window: list[Loss], rate: float) -> None:
    steps = sum(loss.steps_bpd for loss in window) / len(window)
    reconstruction = sum(loss.reconstruction_bpd for loss in window) / len(window)
    lr = learning_rate(trainer.config, trainer.step - 1)
    log.write(
        trainer.step,
        steps_bpd=steps,
        reconstruction_bpd=reconstruction,
        train_bpd=steps + reconstruction,
        lr=lr,
        images_per_second=rate,
        seconds=trainer.seconds,
    )
    bar.set_postfix_str(f"{steps + reconstruction:.3f} bits/dim, {rate:.0f} images/s")
