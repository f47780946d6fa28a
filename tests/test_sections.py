"""Short heads, of progressive files and single pictures: what they say, and how few bytes they take."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.container import write_single
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, CODEC_SINGLE, ROUTE_FALLBACK, SINGLE_PARAMETERS, Head
from ddpm_codec.container.short_head import ShortHead, read_short_head, usual_name, write_short_head
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MODES, Palette, PictureInfo
from ddpm_codec.varint import Reader
from tests.containers import read_progressive, write_progressive

PARAMETERS = {"crossing": 0, "steps": 12, "register_bits": 16, "tile": 64, "end": 0}
HEAD = Head(CODEC_PROGRESSIVE, "", b"abcd", {}, dict(PARAMETERS))
INFO = PictureInfo("a.png", "RGB", (32, 32))
LIMIT = 1 << 30


def read(payload: bytes, codec: int = CODEC_PROGRESSIVE, limit: int = LIMIT) -> ShortHead:
    reader = Reader(payload)
    found = read_short_head(reader, codec, "a.png", limit)
    if reader.left:
        raise FormatError("extra bytes")
    return found


def there_and_back(short: ShortHead, usual: str = "a.png") -> ShortHead:
    return read(write_short_head(short, usual), short.head.codec)


@given(
    size=st.tuples(st.integers(1, 2**15), st.integers(1, 2**15)),
    mode=st.sampled_from(["RGB", "RGBA"]),
    name=st.sampled_from(["a.png", "b.png", "folder/ä.tiff"]),
    model=st.sampled_from(["", "mine"]),
    fingerprint=st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=5), max_size=3),
    metadata=st.dictionaries(st.sampled_from(["icc", "exif", "xmp"]), st.binary(min_size=1, max_size=40)),
    transparency=st.none() | st.just((1, 2, 65535)),
    end=st.integers(0, 16),
    body=st.integers(0, 2**40),
)
def test_everything_comes_back(size, mode, name, model, fingerprint, metadata, transparency, end, body) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    head = replace(HEAD, model_name=model, fingerprint=fingerprint, parameters=PARAMETERS | {"end": end})
    short = ShortHead(head, PictureInfo(name, mode, size, None, transparency, metadata), body)
    assert there_and_back(short) == short


def test_a_small_picture_takes_few_bytes() -> None:
    """Flags, identity, five parameters, two sides, the length of what follows."""
    payload = write_short_head(ShortHead(HEAD, INFO, 1500), "a.png")
    assert len(payload) == 1 + 4 + 5 + 2 + 2
    assert len(write_short_head(ShortHead(HEAD, INFO, 1500), "b.png")) == len(payload) + 1 + len("a.png")


@given(
    size=st.tuples(st.integers(1, 2**15), st.integers(1, 2**15)),
    mode=st.sampled_from([*MODES]),
    route=st.sampled_from([*SINGLE_PARAMETERS]),
    name=st.sampled_from(["a.png", "folder/ä.tiff"]),
    model=st.sampled_from(["", "mine"]),
    metadata=st.dictionaries(st.sampled_from(["icc", "exif", "xmp"]), st.binary(min_size=1, max_size=40)),
    value=st.integers(0, 2**20),
)
def test_single_pictures_come_back_in_every_mode(size, mode, route, name, model, metadata, value) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    head = Head(CODEC_SINGLE)
    if route != ROUTE_FALLBACK:
        mode = "RGBA" if "A" in mode else "RGB"
        head = replace(
            HEAD, codec=CODEC_SINGLE, model_name=model, parameters=dict.fromkeys(SINGLE_PARAMETERS[route], value)
        )
    short = ShortHead(head, PictureInfo(name, mode, size, None, None, metadata), 0, route)
    assert there_and_back(short) == short


def test_a_plain_single_file_takes_at_most_40_bytes_more_than_its_pixels() -> None:
    for route, keys in SINGLE_PARAMETERS.items():
        head = Head(CODEC_SINGLE)
        if route != ROUTE_FALLBACK:
            head = replace(HEAD, codec=CODEC_SINGLE, parameters=dict.fromkeys(keys, 1 << 12))
        largest = PictureInfo("a.png", "RGB", (1 << 14, 1 << 14))
        assert len(write_single(ShortHead(head, largest, 0, route), b"", file_name="a.ddpm")) <= 40


def test_what_no_encoder_of_single_pictures_writes_is_refused() -> None:
    fallback = write_short_head(ShortHead(Head(CODEC_SINGLE), replace(INFO, mode="L"), 0, ROUTE_FALLBACK), "a.png")
    assert fallback == bytes([32, MODES["L"].number, 32, 32])
    for flags, match in ((32 | 1, "damaged"), (32 | 4, "damaged"), (32 | 64, "damaged"), (3 << 6, "newer version")):
        with pytest.raises(FormatError, match=match):
            read(bytes([flags]) + fallback[1:], CODEC_SINGLE)
    for mode, match in ((MODES["RGB"].number, "damaged"), (0, "mode is unknown"), (99, "mode is unknown")):
        with pytest.raises(FormatError, match=match):
            read(bytes([32, mode, 32, 32]), CODEC_SINGLE)
    with pytest.raises(FormatError, match="newer version"):
        read(fallback)
    with pytest.raises(FormatError, match="--max-pixels"):
        read(fallback, CODEC_SINGLE, 1023)
    with pytest.raises(ValueError, match="no model codes mode L"):
        write_short_head(
            ShortHead(
                replace(HEAD, codec=CODEC_SINGLE, parameters=dict.fromkeys(SINGLE_PARAMETERS[1], 1)),
                replace(INFO, mode="L"),
            ),
            "a.png",
        )


def test_a_file_that_is_renamed_renames_its_picture(tmp_path: Path) -> None:
    path, moved = tmp_path / "a.ddpm", tmp_path / "b.v2.ddpm"
    ends = write_progressive(path, HEAD, INFO, [b"x" * 5, b"y" * 2000], named_after=path)
    assert (ends[-1], path.stat().st_size) == (path.stat().st_size, ends[-2] + 2 + 2000 + 4)
    path.rename(moved)
    assert read_progressive(moved).info.name == "b.v2.png"
    write_progressive(path, HEAD, replace(INFO, name="other.png"), [b"x"], named_after=path)
    path.replace(moved)
    assert read_progressive(moved).info.name == "other.png"
    assert usual_name("back\\slash.ddpm") == "picture.png"


def test_the_length_says_whether_a_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.ddpm"
    write_progressive(path, HEAD, INFO, [b"x" * 50, b"y" * 50], named_after=path)
    data, whole = path.read_bytes(), read_progressive(path)
    assert (whole.cut, whole.damaged, whole.whole_bytes, len(whole.sections)) == (False, False, len(data), 2)
    for length in (whole.start, whole.ends[0], len(data) - 1):
        path.write_bytes(data[:length])
        part = read_progressive(path)
        assert (part.cut, part.damaged, part.whole_bytes) == (True, False, len(data))
    path.write_bytes(data + b"z")
    assert read_progressive(path).damaged


def test_what_no_encoder_writes_is_refused() -> None:
    payload = write_short_head(ShortHead(HEAD, INFO, 9), "a.png")
    with pytest.raises(FormatError, match="newer version"):
        read(bytes([payload[0] | 32]) + payload[1:])
    for broken in (b"", payload[:-1], payload + b"\0", payload.replace(b"\x20\x20", b"\x00\x20")):
        with pytest.raises(FormatError):
            read(broken)
    with pytest.raises(FormatError, match="--max-pixels"):
        read(payload, limit=1023)
    thin = write_short_head(ShortHead(HEAD, replace(INFO, size=(1, 1 << 20)), 9), "a.png")
    assert read(thin, limit=1 << 23).info.size == (1, 1 << 20)
    with pytest.raises(FormatError, match="8388608 pixels"):
        read(thin, limit=1 << 21)
    coloured = write_short_head(ShortHead(HEAD, replace(INFO, palette=Palette(3, b"abc")), 9), "a.png")
    with pytest.raises(FormatError, match="head is damaged"):
        read(coloured)
    with pytest.raises(ValueError, match="wrong length for a short head"):
        write_short_head(ShortHead(replace(HEAD, model_id=b"abc"), INFO, 9), "a.png")
    with pytest.raises(ValueError, match="parameters"):
        write_short_head(ShortHead(replace(HEAD, parameters={}), INFO, 9), "a.png")
    with pytest.raises(InputError, match="cannot be stored"):
        write_short_head(ShortHead(HEAD, replace(INFO, size=(0, 4)), 9), "a.png")
    with pytest.raises(InputError, match="not a plain relative path"):
        write_short_head(ShortHead(HEAD, replace(INFO, name="../a.png"), 9), "a.png")
