"""Archives by name, and every kind of source."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import ddpm_codec
from ddpm_codec.codecs.lossless import decoder as lossless_decoder
from ddpm_codec.files.source import Source
from tests.api.conftest import photo
from tests.golden.regenerate import EXACT

Pixels = NDArray[np.uint8]


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as the base class has it
        return self._data.readinto(memoryview(buffer)[:7])


def sources(data: bytes, folder: Path) -> Iterator[Source]:
    path = folder / "x.ddpm"
    path.write_bytes(data)
    yield from (data, bytearray(data), memoryview(data), str(path), path, io.BytesIO(data))
    yield cast(BinaryIO, io.BufferedReader(Pipe(data)))
    with path.open("rb") as file:
        yield file
        assert not file.closed


def test_every_kind_of_source_is_read(small: Pixels, progressive: bytes, tmp_path: Path) -> None:
    archive = ddpm_codec.encode_archive({"a.png": small, "b.png": small[:9]}, model=EXACT)
    for source in sources(progressive, tmp_path):
        assert np.array_equal(ddpm_codec.decode(source, model=EXACT), small)
    for source in sources(archive, tmp_path):
        with ddpm_codec.open_archive(source, model=EXACT) as opened:
            assert opened.names == ("a.png", "b.png")
            assert np.array_equal(opened["b.png"], small[:9])
    for source in sources(archive, tmp_path):
        assert ddpm_codec.info(source).images == 2


def test_a_file_of_ten_thousand_decodes_one_block_for_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (10_000, 3), dtype=np.uint8)
    named = ((f"{index:05d}.png", np.full((2, 2, 3), colour, np.uint8)) for index, colour in enumerate(base))
    data = ddpm_codec.encode_archive(named, model="none", block_pixels=4000)
    archive = ddpm_codec.open_archive(data)
    assert ddpm_codec.info(data).blocks == 10
    decoded: list[int] = []
    decode = lossless_decoder.LosslessDecoder.decode

    def counted(self: lossless_decoder.LosslessDecoder, block: bytes) -> list[tuple[int, Any]]:
        decoded.append(len(block))
        return decode(self, block)

    monkeypatch.setattr(lossless_decoder.LosslessDecoder, "decode", counted)
    assert (archive["07003.png"] == base[7003]).all()
    assert len(decoded) == 1
    assert (archive["07004.png"] == base[7004]).all()
    assert len(decoded) == 1
    assert (archive["00001.png"] == base[1]).all()
    assert len(decoded) == 2
    assert len(archive) == 10_000


def test_pictures_in_several_blocks_and_beside_the_fallback_are_found() -> None:
    big = np.tile(photo(), (2, 2, 1))
    grey = photo()[:, :, 0]
    named = {"a.png": photo(), "grey.png": grey, "big.png": big, "b.png": photo()[::-1]}
    data = ddpm_codec.encode_archive(named, block_pixels=2 * 128 * 128, tile=64)
    archive = ddpm_codec.open_archive(data)
    assert list(archive) == list(named)
    for name in ("big.png", "grey.png", "b.png", "a.png"):
        assert np.array_equal(archive[name], named[name])
    assert archive.pil("grey.png").mode == "L"
    assert "none.png" not in archive
    with pytest.raises(KeyError):
        archive["none.png"]


def test_damage_in_one_block_costs_the_others_nothing(small: Pixels) -> None:
    data = bytearray(ddpm_codec.encode_archive({"a.png": small, "b.png": small[::-1]}, model=EXACT, block_pixels=1))
    at = data.rindex(b"BLCK") + 40
    data[at] ^= 1
    archive = ddpm_codec.open_archive(bytes(data), model=EXACT)
    assert np.array_equal(archive["a.png"], small)
    with pytest.raises(ddpm_codec.FormatError, match="block 1 is damaged"):
        archive["b.png"]


def test_a_damaged_header_of_a_block_does_not_cost_another_block() -> None:
    """Headers say which block holds a picture before their checksum is looked at."""
    named = {f"{index}.png": np.full((8, 8, 3), 9 * index, np.uint8) for index in range(4)}
    data = bytearray(ddpm_codec.encode_archive(named, model="none", block_pixels=1))
    at = data.index(b"BLCK") + 6
    assert data[at : at + 5] == bytes([0, 0, 1, 0, 1])  # kind, region, one run: from picture 0 on, one picture
    data[at + 3] = 3
    archive = ddpm_codec.open_archive(bytes(data))
    for name in ("1.png", "2.png", "3.png"):
        assert np.array_equal(archive[name], named[name])
    with pytest.raises(ddpm_codec.FormatError, match=r"no undamaged block holds 0\.png"):
        archive["0.png"]


def test_streams_that_unpack_are_read_as_they_are_unpacked(progressive: bytes, small: Pixels, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.gz", "wb") as packed:
        packed.write(progressive)
    with gzip.open(tmp_path / "x.gz", "rb") as source:
        assert np.array_equal(ddpm_codec.decode(cast(BinaryIO, source), model=EXACT), small)
    with pytest.raises(TypeError, match="gives str"):
        ddpm_codec.decode(cast(BinaryIO, io.StringIO("text")))


def test_a_closed_archive_says_so_and_archives_are_compared_by_identity(small: Pixels) -> None:
    data = ddpm_codec.encode_archive({"a.png": small}, model="none")
    archive, other = ddpm_codec.open_archive(data), ddpm_codec.open_archive(data)
    assert archive == archive
    assert archive != other
    assert len({archive, other}) == 2
    archive.close()
    with pytest.raises(ValueError, match="closed"):
        archive["a.png"]
