"""The bound of a model on images: what ``ddpm-codec bpd`` reports.

Images larger than a tile are cut into the tiles that the codec would code, and each tile is padded to whole blocks of W as
the codec pads it. All bits, including those of the padding, are divided by the sub-pixels of the image itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.measurement import VarianceKind
from ddpm_codec.errors import InputError
from ddpm_codec.evaluation.report import BoundReport
from ddpm_codec.evaluation.tiles import PLACES, Ending, Pixels, TileEvaluator
from ddpm_codec.image_sets import change_lines, left_out_lines, open_images, read_all
from ddpm_codec.isolation import isolated
from ddpm_codec.models import find_model
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel, load_pixel_decoder
from ddpm_codec.models.protocol import CodecModel, Schedule
from ddpm_codec.stopwatch import Stopwatch

STRIDE = 8
"""Sides of tiles are multiples of this."""


class BoundSettings(TypedDict, total=False):
    """Keywords of :func:`bound_of` that :func:`evaluate_bpd` takes as well."""

    crossing: float | None
    steps: int | None
    schedule: Schedule | None
    variance: VarianceKind | None
    batch: int
    tile: int | None
    seed: int
    device: str
    progress: Callable[[int, int], None] | None


@isolated()
def evaluate_bpd(
    data: str,
    *,
    model: str = "photo",
    decoder: str | None = None,
    limit: int | None = None,
    first_frame: bool = False,
    note: Callable[[str], None] = lambda line: None,
    **settings: Unpack[BoundSettings],
) -> BoundReport:
    """Bound the bits per dimension of a model on DATA.

    Models take 8-bit RGB. Images that have anything else in their files (alpha, a palette, one grey channel) are taken as
    RGB, and the report names them; images with more than 8 bits a sample are refused. All are read before the work begins.

    Args:
        data: DATA of any kind (see :func:`ddpm_codec.image_sets.open_images`); a CIFAR-10 folder gives its test batch.
        model: name, file or folder.
        decoder: file of a pixel decoder; see :func:`bound_of`.
        limit: use the first ``limit`` images.
        first_frame: take the first frame of files that have several, instead of refusing them.
        note: called with a line about each way in which images were changed.
        **settings: see :func:`bound_of`.

    Raises:
        InputError: DATA or a setting is unusable; of images that cannot be read, all are counted and the first named.
        ModelError: the model or the decoder is unknown or unusable, or has no chain of that length.
    """
    opened = open_model(find_model(model))
    images = open_images(data, test=True, first_frame=first_frame)
    frozen = None if decoder is None else load_pixel_decoder(Path(decoder))
    used = images if limit is None else images.subset(range(min(limit, len(images))))
    changes = read_all(used)
    for line in (*left_out_lines(images), *change_lines(changes)):
        note(line)
    report = bound_of(used, opened, decoder=frozen, **settings)
    left_out = [one.to_json() for one in images.left_out]
    changed = [change._asdict() for change in changes]
    return replace(report, facts=report.facts | {"changed": changed, "left_out": left_out})


@isolated()
def bound_of(
    images: Sequence[Pixels] | Pixels,
    model: CodecModel,
    *,
    decoder: PixelDecoderModel | None = None,
    crossing: float | None = None,
    steps: int | None = None,
    schedule: Schedule | None = None,
    variance: VarianceKind | None = None,
    batch: int = 64,
    tile: int | None = None,
    seed: int = 0,
    places: Sequence[int] | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> BoundReport:
    """Bound the bits per dimension of ``model`` on ``images``: L_T + sum_k L_k + L_0 of each.

    The noise of a tile depends on ``seed``, the place of its image and its own place in the image, and on nothing else. So
    images [a, b) of a set with ``places=range(a, b)`` have the rows that they have in the whole set, whatever the batch, and
    :meth:`BoundReport.merged` puts parts together. Rows of an exact model are the same up to the order in which float64
    numbers are added; a network in floating point rounds otherwise in a batch of another size, in its own arithmetic.

    Args:
        images: uint8 arrays [H, W, 3], which may differ in size, or one array [N, H, W, 3].
        model: an open model.
        decoder: pixel decoder that replaces the model's own L_0; the chain then ends at its crossing.
        crossing: which crossing of the decoder, or of the model's own, in grey levels of noise; None: its lowest, or that of
            the model's default chain.
        steps: K, of a DDPM the number of timesteps used. None: the model's own, of a DDPM all timesteps.
        schedule: ``dp`` for the chain of the lowest bound; ``even`` for even steps over the same range, in log-SNR (an exact
            model takes the nearest levels that it has tables for), of a DDPM in timesteps. None: ``dp``, or ``even`` for a
            DDPM without calibration.
        variance: of the steps: the model's own (``predicted``), calibrated per ``class`` or ``level``, or fixed. None: the
            model's own; ``class``, as in coding, for a calibrated DDPM that leaves timesteps out.
        batch: 32x32 images (or as many pixels) at a time.
        tile: side of the tiles that larger images are cut into, a multiple of 8; None: the model's own.
        seed: of the noise.
        places: of the images in the set that they are a part of, distinct, below 2^32; None: 0, 1, 2, and so on.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called with (network evaluations of images done, total), those of a pixel decoder among them: with 0 at the
            start, then after every network evaluation of a batch.

    Raises:
        InputError: no images, an image that is not uint8 [H, W, 3], places that are not one for each image, a tile side that
            does not fit, or a crossing that the decoder does not have.
        ModelError: there is no chain of that length, or a term is not finite.

    Source: Ho et al. 2020, eq. 5.
    """
    if not len(images):
        raise InputError("the bound needs at least one image")
    numbered = _checked_places(places, len(images))
    side = model.tile if tile is None else tile
    if side < STRIDE or side % STRIDE:
        raise InputError(f"tile = {side}: must be a multiple of {STRIDE}")
    target = pick_device(device)
    ending = Ending.of(model, decoder, crossing, target)
    setting = model.bound_setting(
        model.chain_steps(steps), schedule, variance, ending.own, crossing_log_snr=ending.foreign_log_snr
    )
    dtype = model.bound_dtype(target)
    denoiser = model.bound_denoiser(target, dtype)
    evaluator = TileEvaluator(denoiser, ending, setting, target, seed, batch * 1024, progress)
    with Stopwatch() as watch:
        table, dims = evaluator.run(images, numbered, side)
    facts: dict[str, Any] = {
        "steps": model.user_steps(setting.chain.steps),
        "evaluations": setting.chain.steps + (ending.likelihood is None),
        "schedule": setting.schedule,
        "variance": setting.variance,
        "tile": side,
        "seed": seed,
        "seconds": watch.seconds,
        "images_per_second": len(images) / watch.seconds,
        "model": model.name,
        "device": target.type,
        "dtype": dtype,
        "changed": [],
        "left_out": [],
    }
    facts |= ending.facts
    bpd, rmse = table[:, :-1], table[:, -1]
    of_images = np.array(numbered, dtype=np.int64)
    return BoundReport(setting.chain, bpd[:, 0], bpd[:, 1:-1], bpd[:, -1], dims, rmse, of_images, facts)


def _checked_places(places: Sequence[int] | None, images: int) -> list[int]:
    """Return the places of images in their set."""
    if places is None:
        return list(range(images))
    given = [int(place) for place in places]
    if len(given) != images:
        raise InputError(f"{len(given)} places for {images} images")
    if len(set(given)) != images or not 0 <= min(given) <= max(given) < PLACES:
        raise InputError(
            f"places of images must be distinct, at least 0 and below 2^32; got {min(given)} to {max(given)}"
        )
    return given
