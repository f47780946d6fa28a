"""A training run: checkpoints, logs, validation, forks; in one process or, unchanged, under ``torchrun``."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ddpm_codec.atomic import new_file
from ddpm_codec.device import pick_device
from ddpm_codec.errors import InputError, ModelError, OutputError
from ddpm_codec.isolation import isolated
from ddpm_codec.training.checkpoint import LAST, load_checkpoint, save_checkpoint, state_to_resume
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import mean_over_processes, process_group, same_everywhere, stopped_anywhere
from ddpm_codec.training.log import RunLog
from ddpm_codec.training.trainer import Trainer, learning_rate


def forked_config(run: Path, changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a run that continues from the last checkpoint of another with some keys changed.

    Args:
        run: folder or checkpoint of the other run.
        changes: keys to change; those that are None keep their value.

    Raises:
        InputError: no output, the output of the run itself, or an invalid key.
        ModelError: the checkpoint cannot be read.
    """
    checkpoint = load_checkpoint(run)
    was = asdict(checkpoint.config)
    state_to_resume(checkpoint, checkpoint.config, run)
    given = {key: value for key, value in changes.items() if value is not None}
    output = given.get("output", "")
    folder = run if run.is_dir() else run.parent
    if not output or Path(output).resolve() == folder.resolve():
        raise InputError(f"{output or 'output'}: a fork of {run} needs its own output folder")
    return TrainConfig.from_dict(was | {"init_from": "", "fork_from": str(run)} | given)


@isolated()
def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    announce: Callable[[dict[str, float], str], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Train until ``config.train_steps``; resume if ``config.output`` has a checkpoint.

    The headers of all images are read before the first step. The first checkpoint is written after the first step, another
    before the first validation, so that a run that fails there can be resumed; a run that fails before its first step
    leaves no folder. Images that turn out damaged are replaced, and named in ``log.jsonl``.

    Args:
        config: the run; saved as ``config.toml`` in the output folder.
        progress: show a progress bar on standard error.
        announce: called in the first process, before the first step, with the multiply-adds per pixel of each part of the
            network, and a note about the initial weights (usually empty).
        note: called with lines about images that are left out, or changed into 8-bit RGB; about those that turn out damaged
            in the process that reads them.
        stop: asked before the first step and after every step, in each process; once it returns True, in any of them, a
            checkpoint is written and training ends.

    Returns:
        The path of the last checkpoint.

    Raises:
        InputError: data or configuration unusable; of images that are, all are counted and the first named.
        ModelError: a checkpoint that does not fit, or that only some processes see.
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
            raise ModelError(f"{last}: processes see different checkpoints; all hosts must share the output folder")
        trainer.prepare()
        with _removed_unless_used(last) if rank == 0 else nullcontext():
            if rank == 0:
                _prepare(last.parent, config)
                if config.fork_from and not last.exists():
                    # So that the same command resumes from here, wherever the other run is by then.
                    save_checkpoint(trainer.state(), last)
                for line in trainer.split.notes():
                    note(line)
                if announce is not None:
                    announce(trainer.task.macs_per_pixel(), trainer.task.note)
            _run(trainer, last, progress, note, stop)
    return last


@contextmanager
def _removed_unless_used(last: Path) -> Iterator[None]:
    """If the block fails before there is a checkpoint, remove the folders that did not exist before it."""
    made = [folder for folder in (last.parent, *last.parent.parents) if not os.path.lexists(folder)]
    try:
        yield
    except BaseException:
        if made and not last.exists():
            shutil.rmtree(last.parent, ignore_errors=True)
            for folder in made[1:]:
                with suppress(OSError):
                    folder.rmdir()
        raise


def _prepare(folder: Path, config: TrainConfig) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    with new_file(folder / "config.toml", overwrite=True) as file:
        file.write_text(config.to_toml(), encoding="utf-8")


def _run(
    trainer: Trainer, last: Path, progress: bool, note: Callable[[str], None], stop: Callable[[], bool] | None
) -> None:
    """Take the steps; the first process alone logs, validates and saves."""
    config, leads = trainer.config, trainer.rank == 0
    log = RunLog(last.parent, trainer.step) if leads else None
    bar = tqdm(total=config.train_steps, initial=trainer.step, unit="step", disable=not (progress and leads))
    if log is not None:
        for refused in trainer.split.left_out():
            log.leave_out(0, refused)
    stopped = stop is not None and stopped_anywhere(stop(), trainer.device)
    try:
        while trainer.step < config.train_steps and not stopped:
            _advance(trainer, last)
            bar.update()
            stopped = stop is not None and stopped_anywhere(stop(), trainer.device)
            if _due(trainer, config.log_every):
                figures = _figures(trainer)
                if "train_bpd" in figures:
                    bar.set_postfix_str(
                        f"{figures['train_bpd']:.3f} bits/dim, {figures['images_per_second']:.0f} images/s"
                    )
                if log is not None:
                    log.write(trainer.step, **figures)
            if log is not None and _due(trainer, config.validate_every) and not stopped:
                figures = trainer.validate()
                if figures:
                    log.write(trainer.step, **figures)
            for refused in trainer.newly_damaged():
                bar.clear()
                note(f"{refused}; replaced by another image")
                if log is not None:
                    log.leave_out(trainer.step, refused)
            if _due(trainer, config.checkpoint_every) or stopped or _is_first_to_keep(trainer):
                trainer.window = mean_over_processes(trainer.window)
                if leads:
                    save_checkpoint(trainer.state(), last)
    finally:
        bar.close()
        if log is not None:
            log.close()


def _advance(trainer: Trainer, last: Path) -> None:
    """Take a step; where there are too few images left for it, keep those taken so far."""
    try:
        trainer.advance()
    except InputError:
        if trainer.rank == 0 and trainer.step > 0:
            save_checkpoint(trainer.state(), last)
        raise


def _is_first_to_keep(trainer: Trainer) -> bool:
    """Whether this is the first step, which shows that steps can be taken and kept, or the last before a validation."""
    validates = trainer.checks is not None and trainer.step == trainer.config.validate_every - 1
    return trainer.step == 1 or validates


def _due(trainer: Trainer, every: int) -> bool:
    return trainer.step % every == 0 or trainer.step == trainer.config.train_steps


def _figures(trainer: Trainer) -> dict[str, float]:
    """Return the figures since the last log line, means over all processes, and start a new window.

    Steps without a finite gradient are left out; if there were no others, so are the losses.
    """
    first, second, count, seconds, preparing = mean_over_processes(trainer.window).tolist()
    trainer.window.zero_()
    if count == 0.0:
        return {"seconds": trainer.seconds}
    return {
        **trainer.task.figures((first / count, second / count)),
        "lr": learning_rate(trainer.config, trainer.step - 1),
        "images_per_second": count * trainer.config.batch / seconds,
        "preparing_share": preparing / seconds,
        "seconds": trainer.seconds,
    }
