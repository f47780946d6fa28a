"""What encoding and decoding report. No torch."""

from dataclasses import dataclass, field
from typing import Any

from ddpm_codec.units import bytes_to_bpd


@dataclass
class EncodeReport:
    """Sizes and times of an encoding.

    Attributes:
        images: pictures.
        dims: samples of all of them.
        pixels: their pixels.
        file_bytes: every byte of the file.
        net_bits: bits that the model-coded sub-pixels added to their stacks, initial bits excluded.
        net_dims: those sub-pixels.
        fallback_images: pictures that went through the fallback.
        seconds: wall time, of which ``network_seconds`` in the network and ``coder_seconds`` in entropy coding, both
            together ``coding_seconds``.
        model: name of the model, None where none was used.
        device: where the network ran.
    """

    images: int = 0
    dims: int = 0
    pixels: int = 0
    file_bytes: int = 0
    net_bits: int = 0
    net_dims: int = 0
    fallback_images: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    coder_seconds: float = 0.0
    coding_seconds: float = 0.0
    model: str | None = None
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Return the common keys; ``net_bpd`` is None where the model coded nothing."""
        return {
            "images": self.images,
            "dims": self.dims,
            "pixels": self.pixels,
            "file_bytes": self.file_bytes,
            "file_bpd": bytes_to_bpd(self.file_bytes, self.dims) if self.dims else None,
            "net_bpd": self.net_bits / self.net_dims if self.net_dims else None,
            "fallback_images": self.fallback_images,
            "seconds": self.seconds,
            "network_seconds": self.network_seconds,
            "coder_seconds": self.coder_seconds,
            "model": self.model,
            "device": self.device,
        }


@dataclass
class DecodeReport:
    """Counts and times of a decoding.

    Attributes:
        images: pictures written.
        dims: samples of all of them.
        pixels: their pixels.
        file_bytes: every byte of the file.
        seconds: wall time, of which ``network_seconds`` in the network and ``coder_seconds`` in entropy coding.
        damaged: one line for each block that could not be decoded, and one for each picture lost with it.
        notes: what the picture files could not hold (metadata), one line each.
        model: name of the model, None where none was needed.
        device: where the network ran.
    """

    images: int = 0
    dims: int = 0
    pixels: int = 0
    file_bytes: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    coder_seconds: float = 0.0
    coding_seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    model: str | None = None
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Return the common keys, and what went wrong."""
        values = {key: value for key, value in vars(self).items() if key != "coding_seconds"}
        return values | {"file_bpd": bytes_to_bpd(self.file_bytes, self.dims) if self.dims else None}
