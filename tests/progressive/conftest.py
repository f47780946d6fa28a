"""Small progressive files, whole."""

import resource
from collections.abc import Iterator

import pytest

from tests.progressive.files import MEBIBYTES, SMALL, Coded, coded


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    return coded(tmp_path_factory.mktemp("small"), "small", SMALL)


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    return coded(tmp_path_factory.mktemp("middle"), "middle", (33, 17))


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    return coded(tmp_path_factory.mktemp("alpha"), "alpha", (40, 24), "RGBA", 8)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    """Of six tiles, two of them a single column of blocks."""
    return coded(tmp_path_factory.mktemp("tiled"), "tiled", (136, 128), tile=64)


@pytest.fixture(autouse=True)
def _in_bounds() -> Iterator[None]:
    """Whatever the file says, time and memory stay within bounds: those of a test are those of its dozens of decodings."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEBIBYTES << 10
