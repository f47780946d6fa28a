"""Files in, files out: what the command line and most users call. Importing this loads no torch."""

from pathlib import Path
from typing import Any

from ddpm_codec.codecs.decoding import decode_file
from ddpm_codec.codecs.encoding import encode_files
from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS
from ddpm_codec.codecs.progressive.decoding import describe_progressive
from ddpm_codec.codecs.progressive.encoding import encode_progressive
from ddpm_codec.codecs.progressive.options import ProgressiveOptions
from ddpm_codec.codecs.reports import DecodeReport, EncodeReport, ProgressiveReport, progressive_summary
from ddpm_codec.container import (
    CODEC_FALLBACK,
    CODEC_PROGRESSIVE,
    DEFAULT_MAX_PIXELS,
    ROUTE_MODEL,
    file_codec,
    read_container,
)

__all__ = [
    "DEFAULT_BLOCK_PIXELS",
    "DEFAULT_MAX_PIXELS",
    "DecodeReport",
    "EncodeReport",
    "ProgressiveOptions",
    "ProgressiveReport",
    "decode_file",
    "describe_file",
    "encode_files",
    "encode_progressive",
    "progressive_summary",
]


def describe_file(path: Path) -> dict[str, Any]:
    """Return what a file holds, without decoding it: facts, and ``pictures``, a list of rows.

    Raises:
        FormatError: the file is damaged.
        InputError: it cannot be read.
    """
    if file_codec(path) == CODEC_PROGRESSIVE:
        return describe_progressive(path)
    opened = read_container(path, max_pixels=1 << 62)
    head = opened.head
    rows = [
        {
            "name": entry.info.name,
            "width": entry.info.size[0],
            "height": entry.info.size[1],
            "mode": entry.info.mode,
            "coded_by": "model" if entry.route == ROUTE_MODEL else "fallback",
            "metadata": ", ".join(entry.info.metadata) or None,
        }
        for entry in opened.images
    ]
    dims = sum(entry.info.pixel_count * entry.info.layout.channels for entry in opened.images)
    return {
        "file": str(path),
        "codec": "fallback only" if head.codec == CODEC_FALLBACK else "bits-back lossless",
        "file_bytes": opened.file_bytes,
        "file_bpd": 8 * opened.file_bytes / dims if dims else None,
        "images": len(rows),
        "pixels": opened.pixel_count,
        "blocks": len(opened.blocks),
        "model": head.model_name or None,
        "model_id": head.model_id.hex() or None,
        "arithmetic": ("float" if head.fingerprint else "exact") if head.model_name else None,
        **{f"coding_{key}": value for key, value in head.parameters.items()},
        **{f"environment_{key}": value for key, value in head.fingerprint.items()},
        "pictures": rows,
    }
