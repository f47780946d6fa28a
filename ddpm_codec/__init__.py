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

if TYPE_CHECKING:
    from ddpm_codec.api import (
        Archive,
        FileInfo,
        Image,
        ModelInfo,
        PictureInfo,
        ProgressiveDecoder,
        Source,
        bound,
        decode,
        encode,
        encode_archive,
        info,
        list_models,
        open_archive,
        open_model,
        to_pil,
    )
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

__version__ = "0.1.0"

_ELSEWHERE = {"BoundTerms": "ddpm_codec.diffusion.bound", "Model": "ddpm_codec.codecs.session"}
"""Where a name comes from that is not one of :mod:`ddpm_codec.api`; errors come from :mod:`ddpm_codec.errors`."""

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
    usual = "ddpm_codec.errors" if name.endswith("Error") else "ddpm_codec.api"
    value = getattr(import_module(_ELSEWHERE.get(name, usual)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
