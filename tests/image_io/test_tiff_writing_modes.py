"""TIFF files of modes whose pixels are packed: metadata stay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.helpers import Run


@pytest.mark.parametrize("seed", range(4))
def test_bilevel_pictures_keep_their_tags(run: Run, tmp_path: Path, seed: int) -> None:
    source, archive, back = tmp_path / "a.tif", tmp_path / "a.ddpm", tmp_path / "b.tif"
    bits = np.random.default_rng(seed).random((7, 9)) < 0.5
    tags: dict[str, Any] = {
        "description": "a drawing",
        "software": "pen",
        "resolution": (300, 150),
        "resolutionunit": 2,
    }
    tifffile.imwrite(source, bits, metadata=None, **tags)
    assert run("encode", source, "-o", archive, "--model", "none", "--verify")[::2] == (0, "")
    assert run("decode", archive, "-o", back)[::2] == (0, "")
    with tifffile.TiffFile(source) as first, tifffile.TiffFile(back) as second:
        one, two = first.pages.first, second.pages.first
        assert [two.tags[tag].value for tag in (270, 305, 282, 283, 296)] == [
            one.tags[tag].value for tag in (270, 305, 282, 283, 296)
        ]
        white = bits if one.photometric == two.photometric else ~bits
        np.testing.assert_array_equal(second.asarray(), white)
