"""Shipped models and the registry that names them. Importing this does not import torch."""

from ddpm_codec.models.registry import ModelInfo, find_model, list_models

__all__ = ["ModelInfo", "find_model", "list_models"]
