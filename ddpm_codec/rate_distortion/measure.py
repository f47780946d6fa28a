"""Measures one picture: every codec, every setting, every metric. Runs in a process of its own."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.atomic import new_file, reason
from ddpm_codec.errors import DdpmCodecError, InputError, OutputError
from ddpm_codec.isolation import ask_for_threads
from ddpm_codec.padding import centre_crop
from ddpm_codec.picture import Picture
from ddpm_codec.rate_distortion.curves import IDEAL, OURS, RatePoint
from ddpm_codec.rate_distortion.metrics import METRICS
from ddpm_codec.rate_distortion.peers import PEERS
from ddpm_codec.rate_distortion.sources import CurveSource, Sources
from ddpm_codec.rate_distortion.store import PictureRecord, Store

Pixels = NDArray[np.uint8]

CROP_SIDE: Final = 384
"""Side of the crops on the page."""


@dataclass(frozen=True)
class Task:
    """All that a process needs to measure a picture.

    Attributes:
        picture: RGB.
        store: gets the record.
        sources: this codec's curves.
        peers: names.
        metrics: names.
        model: name or file.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K; None: the model's own.
        reconstructions: of our pictures.
        crops: also write the crops for the page.
    """

    picture: Picture
    store: Store
    sources: Sources
    peers: tuple[str, ...]
    metrics: tuple[str, ...]
    model: str
    device: str
    steps: int | None
    reconstructions: tuple[str, ...]
    crops: bool


@dataclass
class _Measurement:
    """A picture being measured."""

    task: Task
    original: Pixels
    points: list[RatePoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _values: dict[bytes, dict[str, float | None]] = field(default_factory=dict)

    def score(self, pixels: Pixels) -> dict[str, float | None]:
        """Return every metric; equal pictures, which both curves of this codec share, are measured once."""
        key = pixels.tobytes()
        if key not in self._values:
            self._values[key] = {name: METRICS[name](self.original, pixels) for name in self.task.metrics}
        return self._values[key]


def measure_picture(task: Task) -> PictureRecord:
    """Measure one picture and write its record.

    Raises:
        DdpmCodecError: the model, the codec or the folder fails. A picture that a peer rejects becomes a note.
    """
    if _Worker.stopped:
        raise DdpmCodecError(_STOPPED)
    _Worker.measuring = True
    try:
        return _measured(task)
    finally:
        _Worker.measuring = False


def _measured(task: Task) -> PictureRecord:
    measurement = _Measurement(task, task.picture.array())
    if task.crops:
        _save_crop(task, None, measurement.original)
    for point, pixels in _all_points(measurement):
        if task.crops and point.codec != IDEAL:
            _save_crop(task, len(measurement.points), pixels)
        measurement.points.append(point)
    return task.store.save(
        PictureRecord(
            task.picture.name,
            task.picture.size,
            task.store.picture_key(task.picture),
            tuple(measurement.points),
            tuple(measurement.notes),
            task.crops,
        )
    )


def start_worker(started: "SimpleQueue[int]") -> None:
    """Prepare a process that is one of several: torch gets one thread, and SIGTERM ends a measurement cleanly.

    Args:
        started: told the number of the process.
    """
    import torch

    torch.set_num_threads(1)
    ask_for_threads(1)
    # Ctrl-C and a closed terminal reach all processes; the first one tells the others.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _Worker.stop)
    started.put(os.getpid())


class _Worker:
    """A process that is one of several."""

    measuring = False
    stopped = False

    @classmethod
    def stop(cls, _number: int, _frame: FrameType | None) -> None:
        """End what it is at; waiting, it ends by itself."""
        cls.stopped = True
        if cls.measuring:
            raise DdpmCodecError(_STOPPED)


_STOPPED: Final = "the process was asked to stop"


def _all_points(measurement: _Measurement) -> Iterator[tuple[RatePoint, Pixels]]:
    sources = measurement.task.sources
    yield from _our_points(measurement, OURS, sources.real)
    yield from _our_points(measurement, IDEAL, sources.ideal)
    for name in measurement.task.peers:
        yield from _peer_points(measurement, name)


def _our_points(measurement: _Measurement, codec: str, source: CurveSource) -> Iterator[tuple[RatePoint, Pixels]]:
    task = measurement.task
    milestones = source(
        task.picture, model=task.model, device=task.device, steps=task.steps, reconstructions=task.reconstructions
    )
    for milestone in milestones:
        count = milestone.file_bytes if codec == OURS else None
        for reconstruction, pixels in milestone.pictures.items():
            values = measurement.score(pixels)
            bpp = milestone.bits / task.picture.info.pixel_count
            yield RatePoint(codec, milestone.label, count, bpp, values, reconstruction), pixels


def _peer_points(measurement: _Measurement, name: str) -> Iterator[tuple[RatePoint, Pixels]]:
    peer = PEERS[name]
    for setting in peer.ladder:
        try:
            data = peer.encode(measurement.original, setting)
            pixels = peer.decode(data)
        except InputError as error:
            measurement.notes.append(f"{measurement.task.picture.name}: {error}")
            return
        bpp = 8.0 * len(data) / measurement.task.picture.info.pixel_count
        yield RatePoint(name, setting.label, len(data), bpp, measurement.score(pixels)), pixels


def _save_crop(task: Task, point: int | None, pixels: Pixels) -> None:
    """Write the middle of a decoded picture as WebP of quality 95, which looks the same."""
    path = task.store.crop_path(task.picture.name, point)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot create the folder ({reason(error)})") from error
    with new_file(path, overwrite=True) as temporary:
        image = Image.fromarray(np.ascontiguousarray(centre_crop(pixels, CROP_SIDE, CROP_SIDE)))
        image.save(temporary, "WEBP", quality=95, method=4, use_sharp_yuv=True)
