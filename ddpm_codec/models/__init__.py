"""The models that ship with the package, and the registry that names them. Importing this loads no torch."""

from ddpm_codec.models.registry import ModelInfo, find_model, list_models

__all__ = ["ModelInfo", "find_model", "list_models"]
