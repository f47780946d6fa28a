"""The ``.ddpm`` file: signature, head, image table, blocks, end. Specified byte by byte in docs/FORMAT.md.

This package does not interpret the contents of blocks, and imports neither torch nor Pillow.
"""

from ddpm_codec.container.layout import (
    CODEC_BITS_BACK,
    CODEC_FALLBACK,
    CODEC_PROGRESSIVE,
    CODEC_SINGLE,
    DEFAULT_MAX_PIXELS,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ROUTE_MODEL,
    VERSION,
    Head,
    ImageEntry,
)
from ddpm_codec.container.reader import BlockInfo, Container, read_container
from ddpm_codec.container.section_reader import SectionFile, SectionReader, file_codec, read_sections
from ddpm_codec.container.section_writer import write_sections
from ddpm_codec.container.short_head import ShortHead
from ddpm_codec.container.source import ByteSource
from ddpm_codec.container.writer import ContainerWriter, write_single

__all__ = [
    "CODEC_BITS_BACK",
    "CODEC_FALLBACK",
    "CODEC_PROGRESSIVE",
    "CODEC_SINGLE",
    "DEFAULT_MAX_PIXELS",
    "ROUTE_FALLBACK",
    "ROUTE_INDEXED",
    "ROUTE_MODEL",
    "VERSION",
    "BlockInfo",
    "ByteSource",
    "Container",
    "ContainerWriter",
    "Head",
    "ImageEntry",
    "SectionFile",
    "SectionReader",
    "ShortHead",
    "file_codec",
    "read_container",
    "read_sections",
    "write_sections",
    "write_single",
]
