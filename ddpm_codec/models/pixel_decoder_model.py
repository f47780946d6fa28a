"""A trained pixel decoder as one safetensors file: floating-point weights and the crossings it was trained at."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddpm_codec.diffusion.crossing import crossing_index
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.errors import ModelError, one_line
from ddpm_codec.models.header import DECODER_KIND, FORMAT, KEY, read_metadata
from ddpm_codec.nn.pixel_decoder import (
    PixelDecoder,
    PixelDecoderConfig,
    checked_crossings,
    completed,
    decoder_macs_per_pixel,
    parameter_count,
)


@dataclass(frozen=True)
class PixelDecoderModel:
    """A pixel decoder with everything that a bound needs beside it.

    Attributes:
        name: short name.
        description: one line.
        config: of the network.
        crossings: noise that it was trained to decode from, standard deviations in grey levels, increasing.
        weights: kernels in float16.
        training: how it was made; free-form, informative.
    """

    name: str
    description: str
    config: PixelDecoderConfig
    crossings: tuple[float, ...]
    weights: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)

    def crossing(self, grey_levels: float | None) -> float:
        """Return one of the decoder's crossings in grey levels; None: the lowest.

        Raises:
            InputError: it was not trained at that one.
        """
        if grey_levels is None:
            return self.crossings[0]
        return self.crossings[crossing_index(self.crossings, grey_levels, f"pixel decoder {self.name}")]

    def network(self, device: torch.device) -> PixelDecoder:
        """Return the network in eval mode on ``device``.

        Raises:
            ModelError: the weights do not fit it.
        """
        self.check_weights()
        # The caller's random numbers are left alone.
        with torch.random.fork_rng(devices=[]):
            network = PixelDecoder(self.config)
        network.load_state_dict({key: value.float() for key, value in completed(network, self.weights).items()})
        return network.place(device).eval().requires_grad_(False)

    def check_weights(self) -> None:
        """Check names, shapes and values of the weights, before anything of their size is allocated.

        Raises:
            ModelError: naming the first that does not fit.
        """
        with torch.device("meta"):
            network = PixelDecoder(self.config)
            expected = {key: value.shape for key, value in network.state_dict().items()}
            missing = completed(network, self.weights).keys() - self.weights.keys()
        for key in sorted((expected.keys() | self.weights.keys()) - missing):
            if key not in self.weights or key not in expected or self.weights[key].shape != expected[key]:
                raise ModelError(f"pixel decoder {self.name}: weights do not match the network (see {key!r})")
            value = self.weights[key]
            if not value.is_floating_point() or not torch.isfinite(value).all():
                raise ModelError(f"pixel decoder {self.name}: weight {key!r} must hold finite floating-point values")

    def likelihood(self, device: torch.device, dtype: str) -> "MixedPrecisionPixelDecoder":
        """Return p(x_0 | z_0) for bounds, computed in ``bf16`` or ``float32``."""
        return MixedPrecisionPixelDecoder(self.network(device), dtype)


class MixedPrecisionPixelDecoder:
    """A :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood` without gradients, under autocast.

    Args:
        network: in eval mode.
        dtype: ``bf16`` for the convolutions, or ``float32`` for no autocast. Residuals, sums and distributions are float32
            either way, but in bfloat16 what they are made from has eight bits: m_0 is then off by hundredths of a grey level.
    """

    def __init__(self, network: PixelDecoder, dtype: str) -> None:
        self._network, self._dtype = network, dtype
        self._device = next(network.parameters()).device

    @torch.no_grad()
    def trunk(self, z_0: Tensor, log_snr: Tensor) -> TrunkMaps:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`."""
        with self._autocast():
            return self._network.trunk(z_0.float(), log_snr.float())

    @torch.no_grad()
    def parameters_given(self, z_0: Tensor, log_snr: Tensor, x_0: Tensor) -> tuple[PixelParameters, TrunkMaps]:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`."""
        with self._autocast():
            return self._network.parameters_given(z_0.float(), log_snr.float(), x_0.float())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == "bf16")


def pixel_decoder_bytes(decoder: PixelDecoderModel) -> bytes:
    """Serialise ``decoder``; the same decoder gives the same bytes."""
    trunk, masked = decoder_macs_per_pixel(decoder.config)
    metadata = {
        "format": FORMAT,
        "kind": DECODER_KIND,
        "name": decoder.name,
        "description": decoder.description,
        "config": decoder.config.to_dict(),
        "crossings": list(decoder.crossings),
        "parameters": parameter_count(decoder.config),
        "trunk_macs_per_pixel": trunk,
        "masked_macs_per_pixel": masked,
        "training": decoder.training,
    }
    tensors = {
        f"weights.{key}": (value.half() if value.ndim == 4 else value.float()).contiguous()
        for key, value in decoder.weights.items()
    }
    return save(tensors, {KEY: json.dumps(metadata, sort_keys=True)})


def load_pixel_decoder(path: Path) -> PixelDecoderModel:
    """Read the file of a pixel decoder.

    Raises:
        ModelError: missing, damaged or foreign file, or that of a denoiser.
    """
    if path.is_dir() or path.suffix == ".pt":
        raise ModelError(f"{path}: is a run or a checkpoint; convert it with `ddpm-codec export --float`")
    metadata = read_metadata(path)
    if metadata.get("kind") != DECODER_KIND:
        raise ModelError(f"{path}: is a denoiser, not a pixel decoder; pass it as --model")
    try:
        tensors = load(path.read_bytes())
        decoder = PixelDecoderModel(
            name=str(metadata["name"]),
            description=str(metadata["description"]),
            config=PixelDecoderConfig.from_dict(metadata["config"]),
            crossings=checked_crossings(tuple(float(value) for value in metadata["crossings"])),
            weights={k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")},
            training=dict(metadata["training"]),
        )
        decoder.check_weights()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the pixel decoder ({error.strerror})") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{path}: not a usable pixel decoder ({one_line(error)})") from error
    return decoder


def pixel_decoder_facts(path: Path) -> dict[str, Any]:
    """Return what the header of a pixel decoder file records.

    Raises:
        ModelError: missing or foreign file.
    """
    metadata = read_metadata(path)
    keys = ("name", "crossings", "parameters", "trunk_macs_per_pixel", "masked_macs_per_pixel", "description")
    try:
        return {key: metadata[key] for key in keys} | {
            "id": hashlib.sha256(path.read_bytes()).hexdigest(),
            "path": str(path),
            "bytes": path.stat().st_size,
        }
    except KeyError as error:
        raise ModelError(f"{path}: the metadata of the pixel decoder is incomplete ({error})") from error
