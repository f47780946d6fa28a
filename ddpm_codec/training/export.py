"""Export of models: chains by dynamic programming, calibration and prior, frozen with the networks into one file."""

from collections.abc import Callable
from pathlib import Path

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.isolation import isolated
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.model_file import model_bytes
from ddpm_codec.training.assembly import Assembly
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint
from ddpm_codec.training.export_options import ExportOptions


@isolated()
def export_model(
    checkpoint: Path,
    output: Path,
    options: ExportOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> FrozenModel:
    """Freeze the averaged weights of ``checkpoint``, and those of a pixel decoder, into the model file ``output``.

    An exact model consists of integers. The quantiser steps of a run with ``quantize`` are kept; for other runs they are
    calibrated here on training crops. Chains are chosen on the validation images of the run (or ``data``), the prior is
    fitted to its training images.

    With a pixel decoder the denoiser gets tables for levels above the lowest crossing alone, and the model a chain of 1 to
    16 steps above every crossing. Files use the chain of the smallest bound of at most four steps; progressive ones that of
    the smallest L_0 + 1.1 (L_T + sum L_t), since indices spend so much, or a shorter one that costs hardly more.

    Args:
        checkpoint: file, or the output folder of a run.
        output: model file to write.
        options: how.
        overwrite: replace ``output``.
        progress: called with (network evaluations done, all of them).
        note: called with lines about images that are left out, replaced because they are damaged, or changed into 8-bit RGB.

    Raises:
        InputError: data or options unusable.
        ModelError: a checkpoint cannot be read, or does not fit into integers.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    decoder = None if options.decoder is None else load_checkpoint(options.decoder)
    _check_checkpoints(checkpoint, saved, decoder, options)
    model = Assembly(saved, decoder, options, note).model(progress)
    with new_file(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(model_bytes(model))
    return model


def _check_checkpoints(path: Path, saved: Checkpoint, decoder: Checkpoint | None, options: ExportOptions) -> None:
    """Refuse checkpoints that are not what they are given as.

    Raises:
        InputError: they do not fit the options.
        ModelError: they are of other networks.
    """
    if saved.config.kind != "codec network":
        raise ModelError(f"{path}: is a {saved.config.kind}, not a denoiser of a codec")
    if decoder is not None and decoder.config.kind != "pixel decoder":
        raise ModelError(f"{options.decoder}: is a {decoder.config.kind}, not a pixel decoder")
    if saved.config.quantize and not options.exact:
        raise InputError(f"{path}: was trained with rounding, so it works in integers only")
    if not (saved.config.data or options.data):
        raise InputError(f"{path}: does not name its training images; name images to calibrate on with --data")
