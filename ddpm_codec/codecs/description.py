"""Describes a ``.ddpm`` file without decoding it. Importing this module does not load torch."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ddpm_codec.container import (
    CODEC_PROGRESSIVE,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ByteSource,
    Container,
    SectionFile,
    file_codec,
    read_container,
    read_sections,
)
from ddpm_codec.container.layout import Values
from ddpm_codec.models.registry import shipped_name
from ddpm_codec.picture import PictureInfo

UNLIMITED = 1 << 62


@dataclass(frozen=True)
class FileInfo:
    """Facts about a ``.ddpm`` file.

    Attributes:
        file: file name.
        codec: ``fallback only``, ``bits-back lossless``, ``indexed lossless`` (small single pictures) or ``progressive``.
        file_bytes: size of the file.
        pictures: its pictures without pixels, in order.
        coded_by: ``model`` or ``fallback`` for each picture of an archive; empty for a progressive file.
        blocks: number of blocks of an archive; None for a progressive file.
        model: name of the model; None if there is none or it is unknown here.
        model_id: SHA-256 of the model, hexadecimal; only its first digits for a progressive file or a single picture.
        parameters: coding parameters.
        environment: where the file was coded, if in floating point; empty if any environment can decode it.
        section_ends: offsets at which the head and each complete section of a progressive file end, in bytes.
        damaged: whether invalid data follows the last complete section of a progressive file.
        cut: whether the end of a progressive file is missing.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> facts = ddpm_codec.info(ddpm_codec.encode(np.zeros((4, 6), np.uint8)))
        >>> facts.images, facts.pixels, facts.to_json()["pictures"][0]["mode"]
        (1, 24, 'L')
    """

    file: str
    codec: str
    file_bytes: int
    pictures: tuple[PictureInfo, ...]
    coded_by: tuple[str, ...] = ()
    blocks: int | None = None
    model: str | None = None
    model_id: str | None = None
    parameters: Values = field(default_factory=dict)
    environment: Values = field(default_factory=dict)
    section_ends: tuple[int, ...] = ()
    damaged: bool = False
    cut: bool = False

    @property
    def images(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    @property
    def pixels(self) -> int:
        """Total number of pixels."""
        return sum(info.pixel_count for info in self.pictures)

    @property
    def file_bpd(self) -> float | None:
        """Bits per dimension: the size of the file, header included, over the samples of all pictures."""
        dims = sum(info.pixel_count * info.layout.channels for info in self.pictures)
        return 8 * self.file_bytes / dims if dims else None

    @property
    def arithmetic(self) -> str | None:
        """``exact`` or ``float``; None if no model is needed."""
        if self.model_id is None:
            return None
        return "float" if self.environment else "exact"

    def to_json(self) -> dict[str, Any]:
        """Return all fields; ``pictures`` and ``sections`` are lists of rows."""
        facts: dict[str, Any] = {"file": self.file, "codec": self.codec, "file_bytes": self.file_bytes}
        facts |= {"file_bpd": self.file_bpd, "images": self.images, "pixels": self.pixels}
        if self.blocks is not None:
            facts["blocks"] = self.blocks
        facts |= {"model": self.model, "model_id": self.model_id, "arithmetic": self.arithmetic}
        if self.section_ends:
            facts |= {"whole_sections": len(self.section_ends) - 1, "whole_bytes": self.section_ends[-1]}
            facts |= {"damaged": self.damaged, "cut": self.cut}
        facts |= {f"coding_{key}": value for key, value in self.parameters.items()}
        facts |= {f"environment_{key}": value for key, value in self.environment.items()}
        facts["pictures"] = [self._row(index) for index in range(self.images)]
        if self.section_ends:
            facts["sections"] = [
                {"bytes": end - start, "end": end, "bits_per_pixel": 8 * end / self.pixels}
                for start, end in pairwise(self.section_ends)
            ]
        return facts

    def _row(self, index: int) -> dict[str, Any]:
        info = self.pictures[index]
        row: dict[str, Any] = {"name": info.name, "width": info.size[0], "height": info.size[1], "mode": info.mode}
        if self.coded_by:
            row["coded_by"] = self.coded_by[index]
        return row | {"metadata": ", ".join(info.metadata) or None}


def describe(source: ByteSource) -> FileInfo:
    """Describe a file.

    Raises:
        FormatError: the file is damaged; for a progressive file, its head is damaged or incomplete.
        InputError: the file cannot be read.
    """
    if file_codec(source) == CODEC_PROGRESSIVE:
        return _of_sections(read_sections(source, max_pixels=UNLIMITED))
    return _of_archive(read_container(source, max_pixels=UNLIMITED))


def _of_archive(opened: Container) -> FileInfo:
    head = opened.head
    indexed = any(entry.route == ROUTE_INDEXED for entry in opened.images)
    by_model = "indexed lossless" if indexed else "bits-back lossless"
    return FileInfo(
        file=opened.label,
        codec=by_model if head.needs_model else "fallback only",
        file_bytes=opened.file_bytes,
        pictures=tuple(entry.info for entry in opened.images),
        coded_by=tuple("fallback" if entry.route == ROUTE_FALLBACK else "model" for entry in opened.images),
        blocks=len(opened.blocks),
        model=head.model_name or (shipped_name(head.model_id.hex()) if head.needs_model else None),
        model_id=head.model_id.hex() or None,
        parameters=head.parameters,
        environment=head.fingerprint,
    )


def _of_sections(opened: SectionFile) -> FileInfo:
    head = opened.head
    return FileInfo(
        file=opened.label,
        codec="progressive",
        file_bytes=opened.file_bytes,
        pictures=(opened.info,),
        model=head.model_name or shipped_name(head.model_id.hex()),
        model_id=head.model_id.hex(),
        parameters=head.parameters,
        environment=head.fingerprint,
        section_ends=(opened.start, *opened.ends),
        damaged=opened.damaged,
        cut=opened.cut,
    )
