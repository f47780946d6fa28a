"""A small network with weights that are not zero, and a frozen model of it."""

import pytest

from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.nn.denoiser import CodecDenoiser
from tests.toy_models import toy_denoiser, toy_frozen


@pytest.fixture
def denoiser() -> CodecDenoiser:
    """Return a small denoiser in eval mode whose heads and blocks do something."""
    return toy_denoiser()


@pytest.fixture
def frozen(denoiser: CodecDenoiser) -> FrozenModel:
    """Return a frozen model with chains of one to three steps."""
    return toy_frozen(denoiser)
