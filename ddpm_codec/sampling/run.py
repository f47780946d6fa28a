"""Samples from a model, written to a file: what ``ddpm-codec sample`` does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ddpm_codec.codecs.pixels.coder import PixelCoder
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.measurement import VarianceKind
from ddpm_codec.diffusion.pictures import Pixels
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import InputError
from ddpm_codec.image_sets import Change, change_lines, open_images, read_all
from ddpm_codec.isolation import isolated
from ddpm_codec.models import find_model
from ddpm_codec.models.ddpm_model import DdpmModel
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.protocol import BoundSetting, CodecModel, Schedule
from ddpm_codec.models.registry import DEFAULT
from ddpm_codec.padding import centre_crop
from ddpm_codec.sampling.figures import Canvas, Figure, Grid, Interpolation, Progressive, Shared
from ddpm_codec.sampling.output import check_output, check_sheet, write_frames
from ddpm_codec.sampling.places import find_places, spread_places
from ddpm_codec.sampling.sampler import CrossingEnd, Sampler
from ddpm_codec.sampling.steps import Ancestral, Ddim
from ddpm_codec.stopwatch import Stopwatch

FigureKind = Literal["grid", "progressive", "shared", "interpolation"]
"""``grid``: samples; ``progressive``: x0_mean on the way to them; ``shared``: samples that share an x_t; ``interpolation``:
mixtures of two pictures in x_t."""

SamplingMethod = Literal["ancestral", "ddim"]
"""Sampling rule, see :mod:`ddpm_codec.sampling.steps`."""

COUNTS: dict[FigureKind, int] = {"grid": 16, "progressive": 4, "shared": 4, "interpolation": 9}
SIDE_OF_CODECS = 32
"""Side of samples of codec models, which have learnt textures and not scenes: the side of their tiles means nothing here."""

FRAMES = 24
COLUMNS = 8
SHARED_AT = "100%,75%,50%,25%"
INTERPOLATION_AT = "50%"


@dataclass(frozen=True)
class SampleOptions:
    """What to draw, and how.

    Attributes:
        model: name, file or folder.
        figure: what to draw.
        method: sampling rule; it ends with a draw from a model's pixel decoder, or, ddim with eta = 0, with its mean m_0.
        eta: of DDIM, 0 to 1; None: 0.
        steps: K, of a DDPM the number of timesteps used; None: the model's own, of a DDPM all timesteps.
        schedule: how levels are chosen, ``dp`` or ``even``; None: the model's choice.
        variance: of ancestral steps; None: the model's choice.
        count: samples of a grid, rows of ``progressive``, draws from each x_t, or mixtures; None: see COUNTS.
        size: width and height in pixels; None: the side that the model was trained on, 32 for a codec model, or the size
            of the pair. Larger pictures of a pair are cropped to their middle.
        data: source of the pair, DATA of any kind (see :func:`~ddpm_codec.image_sets.open_images`); a CIFAR-10 folder gives
            its test batch.
        pair: indices of two pictures of DATA; None: the first two.
        first_frame: take the first frame of files of DATA that have several, instead of refusing them.
        at: levels to show (see :func:`~ddpm_codec.sampling.places.find_places`); None: a few even ones.
        frames: most frames of an animation; None: a still picture, or 24 frames for a ``.gif``.
        batch: 32x32 pictures (or as many pixels) that go through the network at once.
        seed: of all random numbers, 0 or more.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    model: str = DEFAULT
    figure: FigureKind = "grid"
    method: SamplingMethod = "ancestral"
    eta: float | None = None
    steps: int | None = None
    schedule: Schedule | None = None
    variance: VarianceKind | None = None
    count: int | None = None
    size: tuple[int, int] | None = None
    data: str | None = None
    pair: tuple[int, int] | None = None
    first_frame: bool = False
    at: str | None = None
    frames: int | None = None
    batch: int = 64
    seed: int = 0
    device: str = "auto"


@isolated()
def sample_pictures(
    output: Path,
    options: SampleOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Draw samples from a model and write them to a file.

    Equal options give equal files on the same machine, and the noise does not depend on the batch size. An exact network
    gives the same file for every batch size; a floating-point network may round differently in another batch.

    Args:
        output: ``.png`` or lossless ``.webp``; ``.npy`` or ``.npz`` of uint8 [N, H, W, 3]; for a grid also ``.gif``, or
            ``.webp`` with ``frames``, which show x0_mean during sampling.
        options: what to draw.
        overwrite: replace ``output``.
        progress: called with (network evaluations of a picture done, total).
        note: called with a line about each way in which pictures of DATA were changed into 8-bit RGB.

    Returns:
        A report, ready for JSON: output, figure, samples, steps, evaluations of the network by picture, seconds and
        the like; ``at``, the log-SNR of the rows, columns or frames; ``changed``, the pictures of DATA that are not shown
        as their files have them.

    Raises:
        InputError: options that do not fit each other or the model, or unusable DATA.
        ModelError: the model is unknown or unusable, or has no chain of that length.
        OutputExistsError: ``output`` exists.
        OutputError: it cannot be written.
    """
    moves = _check(output, options, overwrite)
    model = open_model(find_model(options.model))
    device = pick_device(options.device)
    steps = model.chain_steps(options.steps)
    setting = model.bound_setting(steps, options.schedule, options.variance)
    pair, changes = _read_pair(options) if options.figure == "interpolation" else (None, [])
    for line in change_lines(changes):
        note(line)
    width, height = _size(options, model, setting.transform, pair)
    figure = _figure(options, setting.chain, pair, moves=moves)
    check_sheet(output, figure.pictures, figure.columns, height, width)
    meter = _Meter(figure.evaluations(setting.chain.steps), progress)
    sampler = _sampler(options, model, setting, device, meter)
    batch = max(1, options.batch * 1024 // (height * width))
    with Stopwatch() as watch:
        frames = figure.draw(Canvas(sampler, height, width, options.seed, batch))
    write_frames(frames, figure.columns, output, overwrite=overwrite)
    return {
        "output": str(output),
        "samples": figure.samples,
        "size": [width, height],
        "columns": figure.columns,
        "frames": len(frames),
        "at": [setting.chain.log_snr[place] for place in figure.places],
        "evaluations": meter.done,
        "seconds": watch.seconds,
        "images_per_second": figure.samples / watch.seconds,
        "changed": [change._asdict() for change in changes],
    } | _facts(options, model, setting, device)


class _Meter:
    """Counts the pictures that the network has seen."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress = total, progress
        self.done = 0

    def advance(self, pictures: int) -> None:
        self.done += pictures
        if self._progress is not None:
            self._progress(self.done, self._total)


def _sampler(
    options: SampleOptions, model: CodecModel, setting: BoundSetting, device: torch.device, meter: _Meter
) -> Sampler:
    ddim = options.method == "ddim"
    rule = Ddim(options.eta or 0.0) if ddim else Ancestral(setting.transform, setting.variances)
    denoiser = model.bound_denoiser(device, model.bound_dtype(device))
    end = None
    if isinstance(model, FrozenModel) and (executor := model.pixel_decoder_executor(device)) is not None:
        end = CrossingEnd(PixelCoder(executor, model.default_crossing), draws=bool(not ddim or options.eta))
    return Sampler(
        denoiser, setting.chain, setting.transform, setting.prior, rule, device, model.name, meter.advance, end
    )


def _facts(options: SampleOptions, model: CodecModel, setting: BoundSetting, device: torch.device) -> dict[str, Any]:
    """Return how the pictures were drawn; eta and variance are None if the method has none."""
    ddim = options.method == "ddim"
    return {
        "figure": options.figure,
        "method": options.method,
        "eta": (options.eta or 0.0) if ddim else None,
        "steps": model.user_steps(setting.chain.steps),
        "schedule": setting.schedule,
        "variance": None if ddim else setting.variance,
        "model": model.name,
        "device": device.type,
        "dtype": model.bound_dtype(device),
        "seed": options.seed,
    }


def _check(output: Path, options: SampleOptions, overwrite: bool) -> bool:
    """Check all that can be checked without a model; return whether the output is an animation."""
    for key, kinds in (("figure", FigureKind), ("method", SamplingMethod)):
        if getattr(options, key) not in get_args(kinds):
            raise InputError(f"{key} = {getattr(options, key)!r}: use one of {', '.join(get_args(kinds))}")
    for key, least in (
        ("count", 2 if options.figure == "interpolation" else 1),
        ("frames", 1),
        ("batch", 1),
        ("seed", 0),
    ):
        value = getattr(options, key)
        if value is not None and value < least:
            raise InputError(f"{key} = {value}: must be {least} or more")
    if options.method == "ancestral" and options.eta is not None:
        raise InputError("eta is only for method ddim")
    if options.method == "ddim" and options.variance is not None:
        raise InputError("variance is only for method ancestral; ddim has eta")
    if options.figure == "shared" and options.method == "ddim" and not options.eta:
        raise InputError("figure shared needs noise: ddim with eta = 0 would draw the same picture every time")
    if options.figure == "interpolation" and options.data is None:
        raise InputError("figure interpolation needs data: the source of its two pictures")
    if options.figure != "interpolation" and (options.data, options.pair) != (None, None):
        raise InputError("data and pair are only for figure interpolation")
    if options.figure == "grid" and options.at is not None:
        raise InputError("at is not for figure grid, which shows level 0")
    if options.figure != "grid" and options.frames is not None:
        raise InputError("frames are only for figure grid")
    moves = options.frames is not None or (options.figure == "grid" and output.suffix.lower() == ".gif")
    sources = [source for source in (options.model, options.data) if source is not None]
    check_output(output, sources, moves=moves, overwrite=overwrite)
    return moves


def _size(options: SampleOptions, model: CodecModel, transform: BlockTransform, pair: Pixels | None) -> tuple[int, int]:
    """Return width and height, checked against the blocks of W."""
    if options.size is not None:
        width, height = options.size
    elif pair is not None:
        height, width = pair.shape[1:3]
    else:
        width = height = model.sample_size if isinstance(model, DdpmModel) else SIDE_OF_CODECS
    block = transform.block
    if min(width, height) < 1 or width % block or height % block:
        raise InputError(f"size {width}x{height}: both sides must be multiples of {block}")
    return width, height


def _figure(options: SampleOptions, chain: Chain, pair: Pixels | None, *, moves: bool) -> Figure:
    count = options.count or COUNTS[options.figure]
    if options.figure == "grid":
        return Grid(count, spread_places(chain, options.frames or FRAMES) if moves else (0,))
    if options.figure == "progressive":
        return Progressive(
            count, spread_places(chain, COLUMNS) if options.at is None else find_places(options.at, chain)
        )
    if pair is None:
        return Shared(count, find_places(options.at or SHARED_AT, chain))
    return Interpolation(count, find_places(options.at or INTERPOLATION_AT, chain), pair)


def _read_pair(options: SampleOptions) -> tuple[Pixels, list[Change]]:
    """Return the two pictures, cropped to the requested size, [2, H, W, 3], and what was changed in them."""
    images = open_images(str(options.data), test=True, first_frame=options.first_frame)
    indices = options.pair or (0, 1)
    if not 0 <= min(indices) <= max(indices) < len(images):
        raise InputError(f"{options.data}: has {len(images)} pictures, so there is no pair {indices[0]},{indices[1]}")
    changes = read_all(images.subset(indices))
    pictures = [images[index] for index in indices]
    if options.size is not None:
        pictures = [
            _centre(picture, options.size, images.names[index])
            for picture, index in zip(pictures, indices, strict=True)
        ]
    if pictures[0].shape != pictures[1].shape:
        sizes = " and ".join(f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures)
        raise InputError(f"{options.data}: the pictures of the pair are {sizes}; crop them with a size that both have")
    return np.stack(pictures), changes


def _centre(picture: Pixels, size: tuple[int, int], name: str) -> Pixels:
    width, height = size
    if picture.shape[0] < height or picture.shape[1] < width:
        raise InputError(f"{name}: {picture.shape[1]}x{picture.shape[0]} is smaller than {width}x{height}")
    return centre_crop(picture, height, width)
