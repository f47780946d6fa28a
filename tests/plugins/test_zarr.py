"""The codec of zarr version 3."""

import asyncio
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.codecs import TransposeCodec
from zarr.registry import get_codec_class

from ddpm_codec import encode, info
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.zarr_plugin import DdpmCodec
from tests.golden.regenerate import EXACT

TINY_MODEL = str(EXACT)


def array_of(store: Any, shape: tuple[int, ...], chunks: tuple[int, ...], **options: Any) -> zarr.Array[Any]:  # noqa: ANN401
    settings: dict[str, Any] = {"dtype": "uint8", "serializer": DdpmCodec(model="none"), "compressors": None} | options
    return zarr.create_array(store, shape=shape, chunks=chunks, **settings)


def random(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_arrays_round_trip(noise: NDArray[np.uint8], tmp_path: Path) -> None:
    pictures = np.stack([noise, noise[::-1]])
    array = array_of(
        tmp_path / "a.zarr", pictures.shape, (1, 128, 192, 3), serializer=DdpmCodec(model=TINY_MODEL, tile=64)
    )
    array[...] = pictures
    # Chunks are coded at the same time, as if each were alone.
    for index, picture in enumerate(pictures):
        chunk = (tmp_path / "a.zarr" / "c" / str(index) / "0" / "0" / "0").read_bytes()
        assert chunk == encode(picture, model=TINY_MODEL, tile=64)
    # A part of a chunk: read, changed and written again.
    pictures[1, 20:22, 90:110] = 7
    array[1, 20:22, 90:110] = 7
    stored = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text(encoding="utf-8"))
    configuration = {"model": TINY_MODEL, "progressive": False, "tile": 64}
    assert stored["codecs"] == [{"name": "ddpm", "configuration": configuration}]
    again = zarr.open_array(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(again[...], pictures)
    chunks = sorted(path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file())
    assert [info(path).codec for path in chunks] == ["bits-back lossless"] * 2


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((9, 14), (4, 8)), ((9, 14, 4), (4, 8, 4)), ((2, 9, 14), (1, 9, 7)), ((2, 1, 5, 6, 3), (1, 1, 4, 4, 3))],
)
def test_other_kinds_of_chunks_round_trip(shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    values = random(*shape)
    array = array_of({}, shape, chunks)
    array[...] = values
    np.testing.assert_array_equal(array[...], values)


def test_planes_round_trip_behind_a_transposition_and_in_shards() -> None:
    values = random(3, 20, 30)
    planar = array_of({}, values.shape, (3, 10, 16), filters=[TransposeCodec(order=(1, 2, 0))])
    planar[...] = values
    np.testing.assert_array_equal(planar[...], values)
    sharded = array_of({}, (20, 30, 3), (10, 10, 3), shards=(20, 20, 3))
    sharded[...] = values.transpose(1, 2, 0)
    np.testing.assert_array_equal(sharded[5:15, 3:25], values.transpose(1, 2, 0)[5:15, 3:25])


@pytest.mark.parametrize("chunks", [(16,), (2, 9, 14), (9, 14, 2), (2, 9, 14, 3)])
def test_chunks_that_are_no_pictures_are_refused_when_the_array_is_created(chunks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^chunk of shape [^\n]*$"):
        array_of({}, chunks, chunks)


def test_planes_without_a_transposition_are_refused_when_they_are_written() -> None:
    array = array_of({}, (3, 9, 14), (3, 9, 14))
    with pytest.raises(InputError, match=r"chunk of shape \[3, 9, 14\]: must be"):
        array[...] = random(3, 9, 14)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "float32", "bool"])
def test_other_types_are_refused_when_the_array_is_created(dtype: str) -> None:
    with pytest.raises(InputError, match="the ddpm codec stores uint8"):
        array_of({}, (9, 14, 3), (9, 14, 3), dtype=dtype)


def test_other_types_inside_shards_are_refused(tmp_path: Path) -> None:
    array = array_of(tmp_path / "a.zarr", (20, 10, 3), (10, 10, 3), shards=(20, 10, 3), dtype="int8")
    with pytest.raises(InputError, match="the ddpm codec stores uint8"):
        array[...] = 1
    array = array_of(tmp_path / "b.zarr", (20, 10, 3), (10, 10, 3), shards=(20, 10, 3))
    array[...] = 1
    metadata = tmp_path / "b.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace('"uint8"', '"int8"'), encoding="utf-8")
    with pytest.raises(InputError, match="the ddpm codec stores uint8"):
        zarr.open_array(tmp_path / "b.zarr", mode="r")[...]


def test_damaged_or_exchanged_chunks_are_errors(tmp_path: Path) -> None:
    array = array_of(tmp_path / "a.zarr", (16, 8, 3), (8, 8, 3))
    array[...] = random(16, 8, 3)
    path = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        array[:8]
    np.testing.assert_array_equal(array[8:], random(16, 8, 3)[8:])
    for shape, error in (((8, 9, 3), "pixels"), ((4, 16, 3), "not"), ((8, 8, 4), "not")):
        other = array_of(tmp_path / "b.zarr", shape, shape, overwrite=True)
        other[...] = random(*shape)
        path.write_bytes((tmp_path / "b.zarr" / "c" / "0" / "0" / "0").read_bytes())
        with pytest.raises(FormatError, match=error):
            array[:8]


@pytest.mark.parametrize("codec", [DdpmCodec(), DdpmCodec(model="cifar10", steps=4, progressive=True, tile=64)])
def test_the_configuration_is_json_and_comes_back(codec: DdpmCodec) -> None:
    written = codec.to_dict()
    again = DdpmCodec.from_dict(json.loads(json.dumps(written)))
    assert again == codec
    assert hash(again) == hash(codec)
    assert again.to_dict() == written
    assert codec == pickle.loads(pickle.dumps(codec))  # dask sends codecs between processes
    assert DdpmCodec.from_dict({"name": "ddpm"}) == DdpmCodec()
    with pytest.raises(AttributeError):
        codec.model = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "bytes"},
        {"name": "ddpm", "configuration": {"quality": 3}},
        {"name": "ddpm", "configuration": {"steps": "8"}},
        {"name": "ddpm", "configuration": []},
    ],
)
def test_other_configurations_are_refused_in_one_line(entry: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        DdpmCodec.from_dict(entry)


def test_coding_runs_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    encode, decode = DdpmCodec.encode_chunk, DdpmCodec.decode_chunk
    for name, function in (("encode_chunk", encode), ("decode_chunk", decode)):

        def seen(self: DdpmCodec, *arguments: Any, function: Any = function) -> Any:  # noqa: ANN401
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            threads.append(threading.current_thread())
            return function(self, *arguments)

        monkeypatch.setattr(DdpmCodec, name, seen)
    array = array_of({}, (16, 8, 3), (8, 8, 3))
    array[...] = random(16, 8, 3)
    np.testing.assert_array_equal(array[...], random(16, 8, 3))
    assert len(threads) == 4


def test_it_is_the_codec_that_the_interface_asks_for() -> None:
    codec = DdpmCodec()
    assert isinstance(codec, ArrayBytesCodec)
    assert codec.is_fixed_size is False
    assert get_codec_class("ddpm") is DdpmCodec
    array = array_of({}, (8, 8, 3), (8, 8, 3))
    assert array.serializer == DdpmCodec(model="none")
    with pytest.raises(NotImplementedError):
        codec.compute_encoded_size(192, None)  # type: ignore[arg-type]  # it looks at neither
