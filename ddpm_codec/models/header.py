"""The header of a model file, read without torch.

A model file is a safetensors file: eight bytes of header length (little endian), a JSON header, tensors. Its
``__metadata__`` has one entry, ``ddpm_codec``, which is JSON again.
"""

import json
from pathlib import Path
from typing import Any

from ddpm_codec.errors import ModelError

KEY = "ddpm_codec"
FORMAT = 3
PRE_RELEASES = (1, 2)
"""Formats before the first release, which are not read."""

DECODER_KIND = "pixel decoder"
"""What the metadata of a pixel decoder have as ``kind``; those of a denoiser have none."""

MAX_HEADER_BYTES = 1 << 24


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a model file.

    Raises:
        ModelError: missing, damaged or foreign file, or of another format.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length) if length <= MAX_HEADER_BYTES else b""
        metadata: dict[str, Any] = json.loads(json.loads(header)["__metadata__"][KEY])
        found = metadata["format"]
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: not a model file") from error
    if found in PRE_RELEASES:
        raise ModelError(
            f"{path}: made by a pre-release of ddpm-codec (model format {found}); this version reads format {FORMAT}"
        )
    if found != FORMAT:
        raise ModelError(f"{path}: model format {found}, expected {FORMAT}")
    return metadata
