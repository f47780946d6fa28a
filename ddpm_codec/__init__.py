"""ddpm-codec: diffusion models as lossless and progressive image codecs.

Importing this package loads neither torch nor a model; the names below load what they need when they are first used.

Examples:
    >>> import numpy as np
    >>> import ddpm_codec
    >>> image = np.zeros((32, 48, 3), np.uint8)
    >>> data = ddpm_codec.encode(image)
    >>> np.array_equal(ddpm_codec.decode(data), image)
    True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddpm_codec import forked as _forked  # noqa: F401 - which notes from now on that a process is forked

if TYPE_CHECKING:
    from ddpm_codec.api.archive import Archive, open_archive
    from ddpm_codec.api.arguments import Image
    from ddpm_codec.api.coding import decode, encode, encode_archive, to_pil
    from ddpm_codec.api.facts import bound, info, open_model
    from ddpm_codec.api.progressive import ProgressiveDecoder
    from ddpm_codec.codecs.description import FileInfo
    from ddpm_codec.codecs.session import Model
    from ddpm_codec.diffusion.bound import BoundTerms
    from ddpm_codec.errors import (
        DdpmCodecError,
        EnvironmentMismatchError,
        FormatError,
        InputError,
        MissingDependencyError,
        ModelError,
        OutputError,
        OutputExistsError,
    )
    from ddpm_codec.files.source import Source
    from ddpm_codec.models.registry import ModelInfo, list_models
    from ddpm_codec.picture import PictureInfo

__version__ = "0.1.0"

_HOMES = {
    "Archive": "ddpm_codec.api.archive",
    "BoundTerms": "ddpm_codec.diffusion.bound",
    "FileInfo": "ddpm_codec.codecs.description",
    "Image": "ddpm_codec.api.arguments",
    "Model": "ddpm_codec.codecs.session",
    "ModelInfo": "ddpm_codec.models.registry",
    "PictureInfo": "ddpm_codec.picture",
    "ProgressiveDecoder": "ddpm_codec.api.progressive",
    "Source": "ddpm_codec.files.source",
    "bound": "ddpm_codec.api.facts",
    "decode": "ddpm_codec.api.coding",
    "encode": "ddpm_codec.api.coding",
    "encode_archive": "ddpm_codec.api.coding",
    "info": "ddpm_codec.api.facts",
    "list_models": "ddpm_codec.models.registry",
    "open_archive": "ddpm_codec.api.archive",
    "open_model": "ddpm_codec.api.facts",
    "to_pil": "ddpm_codec.api.coding",
}
"""Where a public name comes from; errors come from :mod:`ddpm_codec.errors`."""

__all__ = [
    "Archive",
    "BoundTerms",
    "DdpmCodecError",
    "EnvironmentMismatchError",
    "FileInfo",
    "FormatError",
    "Image",
    "InputError",
    "MissingDependencyError",
    "Model",
    "ModelError",
    "ModelInfo",
    "OutputError",
    "OutputExistsError",
    "PictureInfo",
    "ProgressiveDecoder",
    "Source",
    "__version__",
    "bound",
    "decode",
    "encode",
    "encode_archive",
    "info",
    "list_models",
    "open_archive",
    "open_model",
    "to_pil",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name (PEP 562)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "ddpm_codec.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
