"""Export of checkpoints as they are, in floating point: for further runs, and pixel decoders for bounds."""

from dataclasses import replace
from pathlib import Path

import torch

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.isolation import isolated
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel, pixel_decoder_bytes
from ddpm_codec.nn.pixel_decoder import decoder_config
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from ddpm_codec.training.config import Kind
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask

CPU = torch.device("cpu")


@isolated()
def export_checkpoint(checkpoint: Path, output: Path, *, overwrite: bool = False) -> None:
    """Reduce ``checkpoint`` to its averaged weights in float16, for ``init_from`` of another run.

    Paths of data and output are left out: they mean nothing on another machine.

    Raises:
        ModelError: the checkpoint cannot be read.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    config = replace(saved.config, data=(), data_weights=(), validation="", output="", init_from="", fork_from="")
    ema = {key: value.half() if value.ndim > 1 else value for key, value in saved.ema.items()}
    save_checkpoint(Checkpoint(config, saved.step, None, ema, None, saved.seconds), output)


def kind_of(checkpoint: Path) -> Kind:
    """Return the kind of network in a checkpoint: each is exported in its own way.

    Raises:
        ModelError: it cannot be read.
    """
    return load_checkpoint(checkpoint).config.kind


@isolated()
def export_pixel_decoder(
    checkpoint: Path, output: Path, *, name: str, description: str = "", overwrite: bool = False
) -> PixelDecoderModel:
    """Write the averaged weights of a pixel decoder, in floating point, to the file ``output``.

    Args:
        checkpoint: file, or the output folder of a run.
        output: file to write.
        name: of the decoder.
        description: one line.
        overwrite: replace ``output``.

    Raises:
        InputError: the run was trained with rounding.
        ModelError: the checkpoint cannot be read, or its weights do not fit.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    config = saved.config
    if config.kind != "pixel decoder":
        raise ModelError(f"{checkpoint}: is a {config.kind}, not a pixel decoder")
    if config.quantize:
        raise InputError(f"{checkpoint}: was trained with rounding, so it works in integers only")
    network = PixelDecoderTask(config).build(CPU)
    load_weights(network, saved.ema, str(checkpoint))
    decoder = PixelDecoderModel(
        name=name,
        description=description or f"{config.size}, {saved.step} steps",
        config=decoder_config(config.size, config.tail),
        crossings=tuple(sorted(config.crossings)),
        weights=network.state_dict(),
        training={**saved.facts(), "crop": config.crop},
    )
    with new_file(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(pixel_decoder_bytes(decoder))
    return decoder
