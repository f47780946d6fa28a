"""A network with weights that are not zero."""

import pytest

from ddpm_codec.nn.denoiser import CodecDenoiser
from tests.toy_models import toy_denoiser


@pytest.fixture
def denoiser() -> CodecDenoiser:
    """Return a small denoiser in eval mode whose heads and blocks do something."""
    return toy_denoiser()
