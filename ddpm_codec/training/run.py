"""The training loop: alone, or unchanged under ``torchrun`` on several processes and hosts.

Every random number is a function of (seed, step, position in the batch), and a batch is split over the processes by
position, so a run that was killed and resumed, or that ran on several processes, sees the same data, levels and noise: the
loss curve is the same, bit for bit after a resume, up to rounding for another number of processes.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ddpm_codec.atomic import new_file
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import InputError, ModelError, OutputError
from ddpm_codec.training.checkpoint import (
    LAST,
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    state_to_resume,
)
from ddpm_codec.training.codec_task import CodecTask
from ddpm_codec.training.config import Kind, TrainConfig
from ddpm_codec.training.crops import CropSampler, split_holdout
from ddpm_codec.training.ddpm_task import DdpmTask
from ddpm_codec.training.decoder_task import DecoderTask
from ddpm_codec.training.distributed import (
    mean_over_processes,
    pick_device,
    process_group,
    same_everywhere,
)
from ddpm_codec.training.log import RunLog
from ddpm_codec.training.optimizer import build_optimizer
from ddpm_codec.training.task import Batch, Loss, Task

MAX_SKIPPED = 20
"""Steps in a row without a finite gradient after which a run is given up."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate at ``step``: linear warm-up, constant, linear decay to zero over the last ``decay`` share."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    tail = (config.steps - step) / max(config.decay * config.steps, 1.0)
    return config.lr * min(warm, tail, 1.0)


def task_of(config: TrainConfig) -> Task:
    """Return what a run of ``config`` trains.

    Raises:
        InputError: crop and network do not fit.
        ModelError: the architecture does not hold together.
    """
    kinds: dict[Kind, type[Task]] = {
        "codec network": CodecTask,
        "U-Net": DdpmTask,
        "pixel decoder": DecoderTask,
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
        self.config, self.device, self.rank, self.world = config, device, rank, world
        self.task = task_of(config)
        split = split_holdout(config)
        self.sampler = CropSampler(
            split.train,
            config.crop,
            flip=config.flip,
            seed=config.seed,
            weights=split.weights,
            augmentation=config.augmentation,
        )
        checks = CropSampler(split.validation, config.crop, flip=False, seed=config.seed)
        self.checks = checks if len(split.validation) else None
        self.denoiser, self.average = (self.task.build(device) for _ in range(2))
        # The average is never trained: where the two differ, as in dropout, it computes as in use.
        self.average.eval().requires_grad_(False)
        self.optimizer = build_optimizer(self.denoiser, config.optimizer, config.lr)
        self.step, self.seconds = 0, 0.0
        # Since the last line of the log: seconds of this process that went into crops and noise.
        self.preparing = 0.0
        self.skipped_in_a_row = 0
        # Since the last line of the log: sums of the two losses in nats, number of steps taken, seconds.
        self.window = torch.zeros(4, dtype=torch.float64, device=device)
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
        if checkpoint.window is not None:
            self.window.copy_(checkpoint.window)
        try:
            self.task.load_state(checkpoint.task)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from error

    def start_from(self, source: Path) -> None:
        """Take averaged weights of another run, or of a DDPM in a folder, as the first weights of this one.

        Raises:
            ModelError: the weights do not fit, or were trained for something that this run has not.
        """
        weights = self.task.first_weights(source)
        for denoiser in (self.denoiser, self.average):
            load_weights(denoiser, weights, str(source))

    def fork(self, source: Path) -> None:
        """Go on from the checkpoint of another run, exactly, but for what this run's configuration changes.

        Raises:
            ModelError: the checkpoint does not fit.
            InputError: this run ends before it begins.
        """
        checkpoint = load_checkpoint(source)
        if checkpoint.step >= self.config.steps:
            raise InputError(f"steps = {self.config.steps}: {source} has taken {checkpoint.step} already")
        self.resume(checkpoint, source)

    def prepare(self) -> None:
        """Make ready for the first step, once all weights are there.

        Raises:
            ModelError: the run begins, and what it trains could not be used.
        """
        self.task.prepare(self.denoiser, self.average, self.sampler, self.step, self.device)

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
        self.preparing += time.perf_counter() - started
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
        noise = torch.stack([torch.randn(x_0.shape[1:], generator=own.manual_seed(seed)) for seed in images])
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


def forked_config(run: Path, changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a run that goes on from the last checkpoint of another under other keys.

    Args:
        run: folder or checkpoint of the other run.
        changes: keys that differ; None: the same.

    Raises:
        InputError: no output, or that of the run itself; a key that is wrong.
        ModelError: the checkpoint cannot be read.
    """
    was = asdict(load_checkpoint(run).config)
    given = {key: value for key, value in changes.items() if value is not None}
    output = given.get("output", "")
    if not output or Path(output).resolve() in (run.resolve(), run.resolve().parent):
        raise InputError(f"{output or 'output'}: a fork of {run} needs an output folder of its own")
    return TrainConfig.from_dict(was | {"init_from": "", "fork_from": str(run)} | given)


def train(
    config: TrainConfig, *, progress: bool = True, announce: Callable[[dict[str, float]], None] | None = None
) -> Path:
    """Train until ``config.steps``; resume from ``config.output`` where a run has stopped there.

    Args:
        config: the run; saved as ``config.toml`` in the output folder.
        progress: show a progress bar on standard error.
        announce: told, in the first process and before the first step, the multiply-adds a pixel of each part of the
            network.

    Returns:
        The path of the last checkpoint.

    Raises:
        InputError: data or configuration unusable.
        ModelError: a checkpoint that does not fit, or that only some of the processes see.
        OutputError: the output folder cannot be written.
    """
    if not config.output:
        raise InputError("output: name a folder for the checkpoints")
    device = pick_device(config.device)
    last = Path(config.output) / LAST
    # Dropout draws from torch's own generator; the caller's state of it is given back.
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), process_group(device) as (rank, world):
        trainer = Trainer(config, device, rank, world)
        if last.exists():
            trainer.resume(load_checkpoint(last), last)
        elif config.fork_from:
            trainer.fork(Path(config.fork_from))
        elif config.init_from:
            trainer.start_from(Path(config.init_from))
        if not same_everywhere(trainer.step, device):
            raise ModelError(f"{last}: not every process sees the same checkpoint; all hosts need the output folder")
        trainer.prepare()
        if rank == 0:
            _prepare(last.parent, config)
            if announce is not None:
                announce(trainer.task.macs_per_pixel())
        _run(trainer, last, progress)
    return last


def _prepare(folder: Path, config: TrainConfig) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    with new_file(folder / "config.toml", overwrite=True) as file:
        file.write_text(config.to_toml(), encoding="utf-8")


def _run(trainer: Trainer, last: Path, progress: bool) -> None:
    """Take the steps; the first process alone logs, validates and saves."""
    config, leads = trainer.config, trainer.rank == 0
    log = RunLog(last.parent, trainer.step) if leads else None
    bar = tqdm(total=config.steps, initial=trainer.step, unit="step", disable=not (progress and leads))
    try:
        while trainer.step < config.steps:
            trainer.advance()
            bar.update()
            if _due(trainer, config.log_every):
                figures = _figures(trainer)
                if "train_bpd" in figures:
                    bar.set_postfix_str(
                        f"{figures['train_bpd']:.3f} bits/dim, {figures['images_per_second']:.0f} images/s"
                    )
                if log is not None:
                    log.write(trainer.step, **figures)
            if log is not None and _due(trainer, config.validate_every):
                figures = trainer.validate()
                if figures:
                    log.write(trainer.step, **figures)
            if _due(trainer, config.checkpoint_every):
                trainer.window = mean_over_processes(trainer.window)
                if leads:
                    save_checkpoint(trainer.state(), last)
    finally:
        bar.close()
        if log is not None:
            log.close()


def _due(trainer: Trainer, every: int) -> bool:
    return trainer.step % every == 0 or trainer.step == trainer.config.steps


def _figures(trainer: Trainer) -> dict[str, float]:
    """Return the log's figures since its last line, means over all processes, and begin a new window.

    Steps without a finite gradient are left out; where there was no other, so are the losses.
    """
    first, second, count, seconds = mean_over_processes(trainer.window).tolist()
    trainer.window.zero_()
    preparing, trainer.preparing = trainer.preparing, 0.0
    if count == 0.0:
        return {"seconds": trainer.seconds}
    return {
        **trainer.task.figures((first / count, second / count)),
        "lr": learning_rate(trainer.config, trainer.step - 1),
        "images_per_second": count * trainer.config.batch / seconds,
        "preparing_share": preparing / seconds,
        "seconds": trainer.seconds,
    }
