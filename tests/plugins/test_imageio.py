"""imageio reads and writes .ddpm files through Pillow; only the plugin must have been imported."""

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec import encode_archive, info, pillow_plugin
from tests.golden.regenerate import FOLDER
from tests.helpers import SMALL

EVERY: Any = ...
"""All pictures of a file; imageio's annotation of ``index`` lacks it."""


@pytest.mark.parametrize("how", [{"plugin": "pillow"}, {}])
def test_a_picture_round_trips(noise: NDArray[np.uint8], tiny: str, tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / f"x{pillow_plugin.EXTENSION}"
    iio.imwrite(path, noise, model=tiny, **how)
    assert info(path).codec == "bits-back lossless"
    np.testing.assert_array_equal(iio.imread(path, **how), noise)
    properties = iio.improps(path, **how)
    assert properties.shape == noise.shape
    assert properties.dtype == np.dtype(np.uint8)
    assert iio.immeta(path, **how)["mode"] == "RGB"


def test_an_archive_is_a_batch(noise: NDArray[np.uint8], tmp_path: Path) -> None:
    batch = np.stack([noise[:16, :20], noise[16:32, :20], noise[:16, 20:40]])
    path = tmp_path / "x.ddpm"
    iio.imwrite(path, batch, plugin="pillow", model="none")
    np.testing.assert_array_equal(iio.imread(path, plugin="pillow", index=EVERY), batch)
    np.testing.assert_array_equal(iio.imread(path, plugin="pillow", index=2), batch[2])
    np.testing.assert_array_equal(np.stack(list(iio.imiter(path, plugin="pillow"))), batch)


def test_palettes_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    with Image.open(SMALL) as photo:
        picture = photo.convert("P", palette=Image.Palette.ADAPTIVE, colors=17)
    picture.save(path)
    assert iio.improps(path, plugin="pillow").shape == (80, 96, 3)
    np.testing.assert_array_equal(iio.imread(path, plugin="pillow"), np.asarray(picture.convert("RGB")))


def test_bytes_round_trip(noise: NDArray[np.uint8]) -> None:
    data = iio.imwrite("<bytes>", noise[:16, :20], extension=".ddpm", plugin="pillow", model="none")
    assert isinstance(data, bytes)
    np.testing.assert_array_equal(iio.imread(data, plugin="pillow"), noise[:16, :20])


def test_a_damaged_file_is_an_os_error(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.ddpm", np.random.default_rng(0)
    data = bytearray(encode_archive({name: rng.integers(0, 256, (20, 20), np.uint8) for name in "ab"}, model="none"))
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged"):
        iio.imread(path, plugin="pillow")
    # The one checksum of a single picture is looked at when it is opened; imageio has its own text for that.
    data = bytearray((FOLDER / "photo.ddpm").read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="can not handle"):
        iio.imread(path, plugin="pillow")
