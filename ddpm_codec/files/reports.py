"""Reports of encoding and decoding. Importing this module does not load torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ddpm_codec.errors import Untaken
from ddpm_codec.picture import PictureInfo
from ddpm_codec.units import bytes_to_bpd

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.file import EncodedPicture

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def untaken_to_json(refused: Sequence[Untaken], left_out: Sequence[Untaken]) -> dict[str, list[dict[str, str]]]:
    """Return what was not taken, as lists of paths with reasons."""
    return {"refused": [one.to_json() for one in refused], "left_out": [one.to_json() for one in left_out]}


@dataclass
class EncodeReport:
    """Sizes and times of an encoding.

    Attributes:
        images: number of pictures.
        dims: total number of samples.
        pixels: total number of pixels.
        file_bytes: size of the file, header included.
        net_bits: bits that model-coded sub-pixels added to their stacks, excluding initial bits.
        net_dims: number of these sub-pixels.
        fallback_images: number of pictures coded by the fallback.
        seconds: wall time, of which ``network_seconds`` in the networks (the denoiser and the whole pixel decoder) and
            ``coder_seconds`` in the rest of coding, most of it entropy coding; together ``coding_seconds``.
        model: name of the model; None if none was used.
        device: device of the network.
        refused: inputs that could not be used.
        left_out: contents of the given folders that are not pictures.
        notes: one line for everything in a picture's file that is left out, such as damaged metadata.
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
    coding_seconds: float = 0.0
    model: str | None = None
    device: str = "cpu"
    refused: list[Untaken] = field(default_factory=list)
    left_out: list[Untaken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def coder_seconds(self) -> float:
        """Time spent in coding, but not in a network."""
        return max(0.0, self.coding_seconds - self.network_seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the common keys; ``net_bpd`` is None if the model coded nothing."""
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
            "notes": self.notes,
            **untaken_to_json(self.refused, self.left_out),
        }


@dataclass
class DecodeReport:
    """Counts and times of a decoding.

    Attributes:
        images: number of pictures written.
        dims: total number of samples.
        pixels: total number of pixels.
        file_bytes: size of the file, header included.
        seconds: wall time, of which ``network_seconds`` in the networks (the denoiser and the pixel decoder's trunk) and
            ``coder_seconds`` in the rest of decoding: entropy coding, and the loop over pixels, in which the pixel decoder's
            masked network, tables and entropy coder are one.
        damaged: one line for each block that could not be decoded, and one for each picture lost with it.
        notes: one line for each kind of metadata that a picture file does not support, and other remarks.
        model: name of the model; None if none was needed.
        device: device of the network.
        lossless: whether all pictures are there and identical to the originals; False for an incomplete progressive file.
        pictures: name of each picture that was written, and its path.
        level: progressive files: level reached; -1 is the picture itself.
        used_bytes: progressive files: bytes used.
    """

    images: int = 0
    dims: int = 0
    pixels: int = 0
    file_bytes: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    coding_seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    model: str | None = None
    device: str = "cpu"
    lossless: bool = True
    pictures: list[tuple[str, str]] = field(default_factory=list)
    level: int | None = None
    used_bytes: int | None = None

    @property
    def coder_seconds(self) -> float:
        """Time spent in decoding, but in none of the networks that are timed; that of the loop over pixels counts here."""
        return max(0.0, self.coding_seconds - self.network_seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the common keys, damage and notes."""
        values = {key: value for key, value in vars(self).items() if key != "coding_seconds"}
        values["coder_seconds"] = self.coder_seconds
        values["pictures"] = [{"name": name, "path": path} for name, path in self.pictures]
        return values | {"file_bpd": bytes_to_bpd(self.file_bytes, self.dims) if self.dims else None}


@dataclass
class ProgressiveReport:
    """Sizes and times of one progressive file.

    Attributes:
        file: the file.
        dims: number of samples.
        pixels: number of pixels.
        file_bytes: size of the file, header included.
        header_bytes: signature, head, and the framing of all sections.
        index_bytes: size of the sections of messages.
        end_bytes: size of the lossless end: tiles, or the fallback.
        alpha_bytes: size of the alpha plane.
        index_ideal_bits: KL of the contents of the indices, before any overhead.
        lossless: whether the file holds the whole picture.
        end: what the lossless end is made of: ``tiles`` or ``fallback``.
        end_level: level at which the messages end.
        crossing: index of the crossing that the chain ends at.
        steps: K of the chain.
        seconds: wall time, of which ``network_seconds`` in the networks (the denoiser and the pixel decoder).
        model: name of the model.
        device: device of the network.
        sections: level of each section, and the offset of its end in bytes.
        notes: other remarks, one line each.
    """

    file: str
    dims: int
    pixels: int
    file_bytes: int = 0
    header_bytes: int = 0
    index_bytes: int = 0
    end_bytes: int = 0
    alpha_bytes: int = 0
    index_ideal_bits: float = 0.0
    lossless: bool = False
    end: str = "tiles"
    end_level: int = 0
    crossing: int = 0
    steps: int | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    model: str | None = None
    device: str = "cpu"
    sections: list[dict[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, encoded: "EncodedPicture", info: PictureInfo, network_seconds: float) -> Self:
        """Create the report of an encoded picture; the caller sets the file name and total time."""
        file, dims = encoded.file, info.pixel_count * info.layout.channels
        report = cls("", dims, info.pixel_count, len(file.data), alpha_bytes=encoded.alpha_bytes)
        report.lossless, report.network_seconds = encoded.lossless, network_seconds
        parameters = encoded.parameters
        report.end, report.end_level = "fallback" if parameters.end else "tiles", parameters.last
        report.crossing, report.steps = parameters.crossing, parameters.steps
        ends = file.ends[len(file.ends) - len(encoded.sections) :]
        for section, end in zip(encoded.sections, ends, strict=True):
            report.sections.append({"level": section.level, "end": end})
            report.index_ideal_bits += section.ideal_bits
            if section.level < 0:
                report.end_bytes += len(section.payload)
            else:
                report.index_bytes += len(section.payload)
        report.header_bytes = len(file.data) - report.alpha_bytes - report.index_bytes - report.end_bytes
        return report

    @classmethod
    def of_whole(cls, info: PictureInfo, file_bytes: int, note: str) -> Self:
        """Create the report of a picture coded by the fallback."""
        dims = info.pixel_count * info.layout.channels
        return cls("", dims, info.pixel_count, file_bytes, lossless=True, notes=[note])

    def to_json(self) -> dict[str, Any]:
        """Return the common keys and those of a progressive file."""
        payload = self.index_bytes + self.end_bytes + self.alpha_bytes
        return (
            {"images": 1}
            | vars(self)
            | {
                "file_bpd": bytes_to_bpd(self.file_bytes, self.dims),
                "file_bpp": 8 * self.file_bytes / self.pixels,
                "payload_bpd": bytes_to_bpd(payload, self.dims) if payload else None,
            }
        )


class ProgressiveReports(list[ProgressiveReport]):
    """The reports of several files, in order.

    Args:
        refused: inputs that could not be used.
        left_out: contents of the given folders that are not pictures.
    """

    def __init__(self, refused: list[Untaken], left_out: list[Untaken]) -> None:
        super().__init__()
        self.refused, self.left_out = refused, left_out

    def to_json(self) -> dict[str, Any]:
        """Return the report of a single file, or the summary of several, and what was not taken."""
        facts = self[0].to_json() if len(self) == 1 else progressive_summary(self)
        return facts | untaken_to_json(self.refused, self.left_out)


def progressive_summary(reports: Sequence[ProgressiveReport]) -> dict[str, Any]:
    """Return the common keys for several progressive files in total, and per file under ``files``."""
    dims, pixels = sum(report.dims for report in reports), sum(report.pixels for report in reports)
    file_bytes = sum(report.file_bytes for report in reports)
    return {
        "images": len(reports),
        "dims": dims,
        "pixels": pixels,
        "file_bytes": file_bytes,
        "file_bpd": bytes_to_bpd(file_bytes, dims),
        "file_bpp": 8 * file_bytes / pixels,
        "seconds": sum(report.seconds for report in reports),
        "model": reports[0].model,
        "device": reports[0].device,
        "files": [report.to_json() for report in reports],
    }
