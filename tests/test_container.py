"""The file format: round trips, sizes, and damage of every kind at every byte."""

import contextlib
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.container import CODEC_BITS_BACK, ROUTE_MODEL, Container, Head, ImageEntry
from ddpm_codec.container.layout import MAX_TABLE_BYTES, SIGNATURE
from ddpm_codec.container.names import successor
from ddpm_codec.container.packing import DEFLATE, LZMA2, pack, unpack
from ddpm_codec.container.table import read_table, write_table
from ddpm_codec.errors import DdpmCodecError, FormatError, InputError
from ddpm_codec.files.source import open_source
from ddpm_codec.picture import METADATA_KEYS, MODES, Palette, PictureInfo, check_name
from tests.containers import archive_writer, read_archive

HEAD = Head(CODEC_BITS_BACK, "photo", bytes(range(32)), {"torch": "2.13.0", "threads": 2}, {"tile": 256})
IMAGES = [
    ImageEntry(PictureInfo("a/x.png", "RGB", (32, 16)), ROUTE_MODEL),
    ImageEntry(
        PictureInfo("a/y.png", "P", (3, 5), Palette(3, bytes(range(12))), b"\0\x80", {"icc": b"profile"}),
    ),
    ImageEntry(PictureInfo("b.png", "L", (1, 1), None, 7, {"icc": b"profile", "xmp": b"<x/>"})),
]
PAYLOADS = [b"first block", b"", b"third" * 9]


def write(path: Path, head: Head = HEAD, images: list[ImageEntry] = IMAGES, **options: bool) -> Path:
    with archive_writer(path, **options) as writer:
        for payload in PAYLOADS:
            writer.add_block(payload)
        length = writer.finish(head, images)
    assert length == path.stat().st_size
    return path


def read_all(path: Path) -> tuple[Container, list[bytes]]:
    container = read_archive(path)
    return container, [container.read_block(index) for index in range(len(container.blocks))]


@pytest.mark.parametrize("head", [HEAD, Head()], ids=["model", "fallback"])
def test_round_trip(tmp_path: Path, head: Head) -> None:
    container, payloads = read_all(write(tmp_path / "x.ddpm", head))
    assert container.head == head
    assert container.images == IMAGES
    assert payloads == PAYLOADS
    assert [block.index for block in container.blocks if block] == [0, 1, 2]
    assert container.pixel_count == 32 * 16 + 15 + 1
    assert os.listdir(tmp_path) == ["x.ddpm"]


def test_golden_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    with archive_writer(path) as writer:
        writer.add_block(b"\x00\x00\x01\x00\x01\x04abc")
        writer.finish(Head(), [ImageEntry(PictureInfo("a.png", "RGB", (1, 1)))])
    assert path.read_bytes().hex(" ") == (
        "89 44 44 50 4d 0d 0a 1a 02 00 "
        "54 41 42 4c 10 00 01 01 01 00 05 61 2e 70 6e 67 01 01 07 00 00 f7 38 d4 09 "
        "42 4c 43 4b 0a 00 00 00 01 00 01 04 61 62 63 a5 09 4e 1c "
        "45 4e 44 20"
    )


def test_a_tiny_picture_costs_at_most_64_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    payload = b"\x04abc"
    with archive_writer(path) as writer:
        writer.add_block(payload)
        size = writer.finish(Head(), [ImageEntry(PictureInfo("some-name-12.png", "RGB", (1, 1)))])
    assert size - len(payload) <= 64


def test_ten_thousand_numbered_names_take_under_4_kb() -> None:
    rows = [ImageEntry(PictureInfo(f"{index:06d}.png", "RGB", (32, 32)), ROUTE_MODEL) for index in range(10_000)]
    payload = write_table(rows, 3)
    assert len(payload) < 256
    assert read_table(payload, 1 << 30) == (rows, 3)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    good = write(tmp_path / "x.ddpm").read_bytes()
    bad = tmp_path / "bad.ddpm"
    for at in range(len(good)):
        for bit in (at % 8, (at + 3) % 8, 7):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            bad.write_bytes(damaged)
            with pytest.raises(FormatError, match=r"^[^\n]*bad\.ddpm[^\n]*$"):
                read_all(bad)


@pytest.mark.parametrize("head", [HEAD, Head()], ids=["model", "fallback"])
def test_every_cut_is_found_and_so_is_anything_behind_the_end(tmp_path: Path, head: Head) -> None:
    good = write(tmp_path / "x.ddpm", head).read_bytes()
    bad = tmp_path / "bad.ddpm"
    for data in [*(good[:length] for length in range(len(good))), good + b"\0", good + good]:
        bad.write_bytes(data)
        with pytest.raises(FormatError, match="bad"):
            read_all(bad)


def test_blocks_of_another_file_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ddpm").read_bytes()
    two = write(tmp_path / "two.ddpm", images=[*IMAGES[:2], ImageEntry(PictureInfo("c.png", "L", (1, 1)))]).read_bytes()
    (tmp_path / "bad.ddpm").write_bytes(one[: one.index(b"BLCK")] + two[two.index(b"BLCK") :])
    with pytest.raises(FormatError, match="block 0 is damaged"):
        read_all(tmp_path / "bad.ddpm")


def test_tolerant_reading_keeps_what_is_whole_wherever_the_damage_is(tmp_path: Path) -> None:
    good = write(tmp_path / "x.ddpm").read_bytes()
    bad = tmp_path / "bad.ddpm"
    starts = [at for at in range(len(good)) if good[at : at + 4] in (b"BLCK", b"END ")]
    for at in range(starts[0], len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0x41
        bad.write_bytes(damaged)
        container = read_archive(bad, tolerant=True)
        hit = sum(start <= at for start in starts) - 1
        assert len(container.damaged) == 1
        for index, payload in enumerate(PAYLOADS):
            if index == hit:
                with pytest.raises(FormatError, match=f"block {index} is damaged"):
                    container.read_block(index)
            else:
                assert container.read_block(index) == payload
    for length in range(starts[0], len(good)):
        bad.write_bytes(good[:length])
        container = read_archive(bad, tolerant=True)
        whole = sum(start <= length for start in starts) - 1
        assert [block is not None for block in container.blocks] == [index < whole for index in range(3)]
    bad.write_bytes(good)
    assert read_archive(bad, tolerant=True).damaged == ()


def with_preamble(version: int, codec: int, sections: list[tuple[bytes, bytes]]) -> bytes:
    """Build a file whose checksums are right, whatever it says."""
    out = SIGNATURE + bytes([version, codec])
    crc = zlib.crc32(out)
    for tag, payload in sections:
        length = bytearray()
        value = len(payload)
        while value >= 0x80:
            length.append(value & 0x7F | 0x80)
            value >>= 7
        length.append(value)
        body = tag + bytes(length) + payload
        crc = zlib.crc32(body, crc)
        out += body + struct.pack("<I", crc)
    return out + b"END "


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "not a .ddpm file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a .ddpm file"),
        (with_preamble(1, 0, []), r"pre-release of ddpm-codec \(format version 1\); this version reads version 2"),
        (with_preamble(3, 0, []), "newer version"),
        (with_preamble(2, 9, []), "codec 9 is unknown"),
        (with_preamble(2, 0, [(b"NEWS", b"")]), "section TABL not found"),
        (with_preamble(2, 0, [(b"TABL", b"\0\0")]), "ends too early"),
        (with_preamble(2, 0, [(b"TABL", b"\0\0\0\0\0")]), "no images"),
        (with_preamble(2, 0, [(b"TABL", b"\7\1")]), "packing method is unknown"),
        (with_preamble(2, 1, [(b"HEAD", bytes(5))]), "head is damaged"),
    ],
)
def test_foreign_files_are_refused_with_the_cause(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "x.ddpm"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=cause):
        read_archive(path)


def test_a_length_beyond_the_file_is_refused_before_allocation(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    path.write_bytes(SIGNATURE + b"\2\0TABL" + b"\xff" * 8 + b"\x7f" + bytes(20))
    with pytest.raises(FormatError, match="cut short"):
        read_archive(path)


def test_a_claim_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ddpm", images=[ImageEntry(PictureInfo("x", "RGB", (1 << 16, 1 << 15)))])
    with pytest.raises(FormatError, match=r"2147483648 pixels.*--max-pixels"):
        read_archive(path)
    assert read_archive(path, max_pixels=1 << 31).pixel_count == 1 << 31


@pytest.mark.parametrize("method", [DEFLATE, LZMA2])
def test_a_bomb_unpacks_to_no_more_than_it_declares(method: int) -> None:
    packed = pack(bytes(1 << 20) if method == LZMA2 else bytes(600))
    assert unpack(packed, 1 << 20) in (bytes(1 << 20), bytes(600))
    with pytest.raises(FormatError, match="at most"):
        unpack(packed, 599)
    body = pack(bytes(1 << 20))[4:] if method == LZMA2 else zlib.compress(bytes(1 << 20), 9, -15)
    with pytest.raises(FormatError, match="does not unpack"):
        unpack(bytes([method, 16]) + body, MAX_TABLE_BYTES)


@given(st.binary(max_size=300))
def test_packing_round_trip(data: bytes) -> None:
    assert unpack(pack(data), 300) == data


@given(st.binary(max_size=60), st.integers(0, 2))
def test_damaged_packing_gives_a_format_error_or_bytes(data: bytes, method: int) -> None:
    with contextlib.suppress(FormatError):
        assert len(unpack(bytes([method]) + data, 1 << 16)) <= 1 << 16


NAMES = st.one_of(
    st.integers(0, 3000).map(lambda number: f"dir/{number:04d}.png"),
    st.text(st.characters(exclude_characters="\\\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.binary(min_size=1, max_size=5).map(lambda data: data.decode("utf-8", "surrogateescape")),
).filter(lambda name: not refused(name))
BLOBS = st.sampled_from([b"", b"a", b"profile" * 20, bytes(range(256))])


def refused(name: str) -> bool:
    try:
        check_name(name)
    except InputError:
        return True
    return False


@st.composite
def entries(draw: st.DrawFn) -> ImageEntry:
    mode = draw(st.sampled_from(sorted(MODES)))
    palette = None
    if MODES[mode].has_palette:
        channels = draw(st.sampled_from([3, 4]))
        palette = Palette(channels, bytes(channels * draw(st.integers(0, 256))))
    transparency = draw(
        st.one_of(
            st.none(),
            st.integers(0, 65535),
            st.binary(max_size=256),
            st.tuples(*[st.integers(0, 65535)] * 3),
        )
    )
    metadata = {key: blob for key in METADATA_KEYS if (blob := draw(BLOBS))}
    size = draw(st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 20)))
    layout = MODES[mode]
    white = draw(st.none() | st.integers(1, (1 << layout.sample_bits) - 1)) if layout.has_white else None
    info = PictureInfo(draw(NAMES), mode, size, palette, transparency, metadata, white)
    return ImageEntry(info, draw(st.integers(0, 1)))


@given(st.lists(entries(), min_size=1, max_size=12, unique_by=lambda entry: entry.info.name), st.integers(0, 99))
def test_table_round_trip(images: list[ImageEntry], blocks: int) -> None:
    assert read_table(write_table(images, blocks), 1 << 60) == (images, blocks)


@given(st.binary(max_size=80))
def test_any_bytes_as_a_table_give_a_format_error_or_a_table(data: bytes) -> None:
    try:
        images, _ = read_table(b"\0" + data, 1 << 30)
    except FormatError:
        return
    assert images


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "a/../b", "a//b", "a\\b", "./a", "a/", "x\0y", "x" * 5000]
)
def test_names_that_leave_the_folder_are_refused_on_both_sides(name: str) -> None:
    with pytest.raises(InputError):
        write_table([ImageEntry(PictureInfo(name, "L", (1, 1)))], 0)
    raw = name.encode()
    length = bytes([len(raw) & 0x7F | 0x80, len(raw) >> 7])
    with pytest.raises(FormatError):
        read_table(b"\0\1\0\1\0" + length + raw + b"\1\1\2\0\0", 1)


def test_equal_names_are_refused() -> None:
    with pytest.raises(InputError, match="same name"):
        write_table([IMAGES[0], IMAGES[0]], 0)
    twice = b"\0\2\0" + b"\1\2" + b"\0\1\0\0" + b"x" + b"\1\1" * 2 + b"\2\2\0\0\0"
    with pytest.raises(FormatError, match="same name"):
        read_table(twice, 9)


@pytest.mark.parametrize(
    ("name", "following"), [(b"9.png", b"10.png"), (b"a09b", b"a10b"), (b"1x099", b"1x100"), (b"abc", b""), (b"", b"")]
)
def test_successor(name: bytes, following: bytes) -> None:
    assert successor(name) == following


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.ddpm", Path("/dev/null")):
        with pytest.raises(InputError), open_source(path):
            pass


@given(data=st.data())
def test_random_damage_is_always_a_library_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    good = write(folder / "fuzz.ddpm", overwrite=True).read_bytes()
    at = data.draw(st.integers(0, len(good)))
    piece = data.draw(st.binary(min_size=0, max_size=8))
    skip = data.draw(st.integers(0, 8))
    changed = good[:at] + piece + good[at + skip :]
    (folder / "fuzzed.ddpm").write_bytes(changed)
    if changed == good:
        return
    with pytest.raises(DdpmCodecError):
        read_all(folder / "fuzzed.ddpm")
