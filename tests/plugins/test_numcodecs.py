"""The codec of numcodecs, alone and in zarr version 2."""

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs.registry import get_codec
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec import encode, info
from ddpm_codec.errors import FormatError, InputError, ModelError
from ddpm_codec.numcodecs_plugin import Ddpm
from tests.golden.regenerate import EXACT
from tests.helpers import PHOTO

TINY_MODEL = str(EXACT)


def random(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_model_coded_chunk_round_trips(noise: NDArray[np.uint8]) -> None:
    codec = Ddpm(model=TINY_MODEL)
    data = codec.encode(noise)
    assert info(data).codec == "bits-back lossless"
    np.testing.assert_array_equal(codec.decode(data), noise)


@pytest.mark.parametrize(
    "shape", [(7, 5), (7, 5, 3), (7, 5, 4), (1, 7, 5, 3), (1, 1, 7, 5), (1, 7, 5), (1, 1), (1, 2, 3)]
)
def test_shapes_that_are_one_picture_round_trip(shape: tuple[int, ...]) -> None:
    codec, chunk = Ddpm(model="none"), random(*shape)
    data = codec.encode(chunk)
    picture = codec.decode(data)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture.reshape(shape), chunk)
    out = np.zeros(shape, np.uint8)
    assert codec.decode(bytearray(data), out=out) is not None
    np.testing.assert_array_equal(out, chunk)


@pytest.mark.parametrize("shape", [(), (7,), (2, 7, 5), (7, 5, 2), (7, 5, 1), (2, 7, 5, 3), (1, 2, 7, 5, 3), (0, 5, 3)])
def test_other_shapes_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^chunk of shape [^\n]*must be \[H, W\][^\n]*$"):
        Ddpm(model="none").encode(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32, bool])
def test_other_types_are_refused(dtype: type) -> None:
    with pytest.raises(InputError, match="the ddpm codec stores uint8"):
        Ddpm(model="none").encode(np.zeros((7, 5, 3), dtype))


def test_a_view_with_gaps_is_copied() -> None:
    codec, chunk = Ddpm(model="none"), random(14, 10, 4)
    np.testing.assert_array_equal(codec.decode(codec.encode(chunk[::2, ::-2, :3])), chunk[::2, ::-2, :3])


def test_fortran_order_is_refused() -> None:
    with pytest.raises(InputError, match="chunk in Fortran order"):
        Ddpm(model="none").encode(np.asfortranarray(random(7, 5, 3)))
    array = zarr.create_array(
        {}, shape=(7, 5, 3), chunks=(7, 5, 3), dtype="uint8", zarr_format=2, order="F", compressors=Ddpm(model="none")
    )
    with pytest.raises(InputError, match="chunk in Fortran order"):
        array[...] = random(7, 5, 3)


def test_damaged_chunks_are_errors(noise: NDArray[np.uint8]) -> None:
    codec = Ddpm(model=TINY_MODEL)
    data = codec.encode(noise)
    for at in range(0, len(data), len(data) // 9):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(FormatError):
            codec.decode(damaged)
    for end in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            codec.decode(data[:end])


def test_out_of_another_size_is_refused_and_left_alone() -> None:
    codec, out = Ddpm(model="none"), np.zeros((8, 5, 3), np.uint8)
    with pytest.raises(FormatError, match="holds 105 bytes, out has 120"):
        codec.decode(codec.encode(np.ones((7, 5, 3), np.uint8)), out=out)
    assert not out.any()


@pytest.mark.parametrize(
    "codec", [Ddpm(), Ddpm(model="cifar10", steps=4, progressive=True, tile=64), Ddpm(model=TINY_MODEL)]
)
def test_the_configuration_is_json_and_comes_back(codec: Ddpm) -> None:
    config = codec.get_config()
    assert config["id"] == "ddpm"
    again = get_codec(json.loads(json.dumps(config)))
    assert isinstance(again, Ddpm)
    assert again == codec
    assert again.get_config() == config


@pytest.mark.parametrize(
    "config", [{"model": 3}, {"steps": "8"}, {"steps": True}, {"steps": 0}, {"tile": -8}, {"progressive": 1}]
)
def test_a_configuration_of_other_types_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{next(iter(config))} = "):
        get_codec({"id": "ddpm", **config})


def test_settings_reach_the_encoder(noise: NDArray[np.uint8]) -> None:
    chunk = noise[:8, :8]
    data = Ddpm(model=TINY_MODEL, progressive=True).encode(chunk)
    assert info(data).codec == "progressive"
    # What coded the data is known from the data; only a model that does not ship must be named.
    np.testing.assert_array_equal(Ddpm(model=TINY_MODEL).decode(data), chunk)
    with pytest.raises(ModelError, match="was coded with model"):
        Ddpm().decode(data)
    data = Ddpm(model=TINY_MODEL, steps=4, tile=128).encode(noise)
    assert data == encode(noise, model=TINY_MODEL, steps=4, tile=128)


def test_data_of_a_shipped_model_are_read_by_whatever_settings(photo_file: Path) -> None:
    data = photo_file.read_bytes()
    assert info(data).coded_by == ("model",)
    with Image.open(PHOTO) as photo:
        np.testing.assert_array_equal(Ddpm(model="none").decode(data), np.asarray(photo))


def test_zarr_2_arrays_round_trip(noise: NDArray[np.uint8], tmp_path: Path) -> None:
    pictures = np.stack([noise[:64, :96], noise[64:, 96:], noise[:64, 96:]])
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pictures.shape,
        chunks=(1, 64, 50, 3),
        dtype="uint8",
        zarr_format=2,
        compressors=Ddpm(model=TINY_MODEL),
    )
    array[:2] = pictures[:2]
    array[2, :, :60] = pictures[2, :, :60]
    array[2, :, 60:] = pictures[2, :, 60:]
    stored = json.loads((tmp_path / "a.zarr" / ".zarray").read_text(encoding="utf-8"))
    assert stored["compressor"] == {"id": "ddpm", "model": TINY_MODEL, "progressive": False}
    again = zarr.open_array(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(again[...], pictures)
    chunk = (tmp_path / "a.zarr" / "0.0.0.0").read_bytes()
    assert info(chunk).pixels == 64 * 50


def test_it_is_a_codec_of_numcodecs() -> None:
    assert isinstance(Ddpm(), numcodecs.abc.Codec)
    assert Ddpm.codec_id == "ddpm"
