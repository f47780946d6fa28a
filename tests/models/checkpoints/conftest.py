"""The library that folders of published checkpoints come from."""

from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def library() -> Iterator[ModuleType]:
    """Return diffusers, kept from the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("diffusers")
