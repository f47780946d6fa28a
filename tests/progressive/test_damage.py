"""Progressive files that are cut or damaged: a picture of what is there, or one line; never a traceback."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.codecs.progressive.reader import ProgressiveReader
from ddpm_codec.files import encode_progressive_files
from tests.containers import read_progressive
from tests.helpers import PHOTO, Run, pixels
from tests.progressive.files import (
    Coded,
    check_prefix,
    check_refused,
    decode,
    payloads_of,
    remade,
)


def test_a_file_may_end_at_every_byte(small: Coded, run: Run, tmp_path: Path) -> None:
    for length in range(len(small.data)):
        check_prefix(run, tmp_path, small, length)


@pytest.mark.parametrize("name", ["alpha", "tiled"])
def test_large_files_may_end_anywhere(name: str, run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source: Coded = request.getfixturevalue(name)
    rng = np.random.default_rng(0)
    lengths = set(rng.integers(1, len(source.data), 30).tolist())
    # Half of them in the first tenth, where the sections are; and beside the ends of these.
    lengths |= set(rng.integers(1, len(source.data) // 10, 30).tolist())
    lengths |= {source.ends[0] - 1, source.ends[0], source.ends[-1] - 1}
    for length in sorted(lengths):
        check_prefix(run, tmp_path, source, length)


def test_prefixes_between_two_ends_are_the_same_picture(middle: Coded, run: Run, tmp_path: Path) -> None:
    for start, end in zip(middle.ends, middle.ends[1:], strict=False):
        shown = set()
        for length in (start, start + 1, end - 1):
            assert decode(run, tmp_path, middle.data[:length])[0] == 0
            shown.add(pixels(tmp_path / "x.png"))
        assert len(shown) == 1


def test_a_photo_never_gets_worse_as_its_file_grows(tmp_path: Path) -> None:
    """The mean reconstruction, at the end of every section, with the model that ships."""
    Image.open(PHOTO).save(tmp_path / "a.png")
    report = encode_progressive_files([tmp_path / "a.png"], tmp_path / "a.ddpm", register_bits=10)[0]
    assert report.lossless
    assert report.model == "photo"
    want = np.asarray(Image.open(tmp_path / "a.png"), np.float64)
    quality = []
    opened = ProgressiveReader(read_progressive(tmp_path / "a.ddpm"))
    while opened.remaining:
        opened.feed()
        shown = np.frombuffer(opened.decoder.picture("mean").pixels, np.uint8).reshape(want.shape)
        quality.append(10 * np.log10(255.0**2 / max(float(np.mean((shown - want) ** 2)), 1e-9)))
        assert opened.decoder.lossless is (opened.remaining == 0)
    assert len(quality) > 5
    assert np.diff(quality).min() > -0.1, quality
    assert quality[-1] > 100.0


def test_every_byte_may_be_damaged(small: Coded, run: Run, tmp_path: Path) -> None:
    """Also a length that then reaches beyond the end of the file: the head says how long that was."""
    rng = np.random.default_rng(1)
    start = read_progressive(small.file).start
    for at in range(len(small.data)):
        data = bytearray(small.data)
        data[at] ^= int(rng.integers(1, 256))
        result = decode(run, tmp_path, bytes(data))
        check_refused(result, tmp_path)
        if at >= start:
            behind = max((end for end in small.ends if end <= at), default=start)
            assert f"is damaged after byte {behind} " in result[2]
            assert "--keep-going" in result[2]


def test_a_length_that_is_damaged_in_a_cut_file_passes_for_the_cut(middle: Coded, run: Run, tmp_path: Path) -> None:
    """Nothing tells one from the other: what is shown is right, and the note says that it is truncated."""
    second = payloads_of(middle)[2][0]
    data = bytearray(middle.data[: middle.ends[1]])
    data[second : second + 2] = b"\xff\x7f"
    code, _, err = decode(run, tmp_path, bytes(data))
    assert code == 0
    assert f"used {middle.ends[0]:,} of" in err
    assert "(truncated, originally" in err


def test_bytes_behind_the_end_are_damage(small: Coded, run: Run, tmp_path: Path) -> None:
    for more in (b"\0", b"\x80", b"\3abcde", b"\xff" * 40, small.data):
        result = decode(run, tmp_path, small.data + more)
        check_refused(result, tmp_path, f"is damaged after byte {len(small.data)} ")
        code, out, err = decode(run, tmp_path, small.data + more, "--keep-going", "--json")
        assert (code, err.count("\n")) == (1, 1)
        assert json.loads(out)["lossless"] is True
        assert pixels(tmp_path / "x.png") == pixels(small.source)


def test_every_byte_may_be_damaged_where_one_keeps_going(small: Coded, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shown = set()
    for at in range(len(small.data)):
        data = bytearray(small.data)
        data[at] ^= int(rng.integers(1, 256))
        result = decode(run, tmp_path, bytes(data), "--keep-going", "--json")
        if at < small.ends[0]:
            check_refused(result, tmp_path)
            continue
        code, out, err = result
        assert (code, err.count("\n")) == (1, 1), err
        assert err.startswith("ddpm-codec: damaged: ")
        report = json.loads(out)
        assert (report["lossless"], report["used_bytes"]) == (False, small.ends[small.whole_sections(at) - 1])
        assert len(report["damaged"]) == 1
        shown.add(pixels(tmp_path / "x.png"))
    assert len(shown) == len(small.ends) - 1


@pytest.mark.parametrize(("name", "count"), [("small", 40), ("middle", 24), ("alpha", 30), ("tiled", 12)])
def test_damage_behind_right_checksums_is_no_traceback(
    name: str, count: int, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Coded = request.getfixturevalue(name)
    payloads = read_progressive(source.file).sections
    rng = np.random.default_rng(3)
    for number in range(count):
        changed = [bytearray(payload) for payload in payloads]
        section = changed[number % len(changed)]
        # Heads of messages and checksums of tiles stand at the start.
        at = int(rng.integers(0, min(len(section), 12) if number % 3 == 0 else len(section)))
        section[at] ^= int(rng.integers(1, 256))
        data = remade(source, tmp_path, payloads=[bytes(payload) for payload in changed])
        code, _, err = result = decode(run, tmp_path, data)
        if code:
            check_refused(result, tmp_path)
            continue
        assert err == ""
        assert pixels(tmp_path / "x.png")[:2] == pixels(source.source)[:2]
        # Alpha has no checksum beside that of the section.
        with Image.open(tmp_path / "x.png") as shown, Image.open(source.source) as image:
            assert shown.convert("RGB").tobytes() == image.convert("RGB").tobytes()


def test_what_was_made_up_is_shown_up_to_there_where_one_keeps_going(middle: Coded, run: Run, tmp_path: Path) -> None:
    payloads = list(read_progressive(middle.file).sections)
    payloads[1] = bytes(len(payloads[1]))
    data = remade(middle, tmp_path, payloads=payloads)
    check_refused(decode(run, tmp_path, data), tmp_path, "section 1 cannot be decoded")
    code, out, err = decode(run, tmp_path, data, "--keep-going", "--json")
    assert (code, err.count("\n")) == (1, 1)
    assert "damaged: " in err
    assert json.loads(out)["used_bytes"] == middle.ends[0]
    assert pixels(tmp_path / "x.png")[:2] == ("RGB", (33, 17))


def test_a_damaged_tile_costs_that_tile(tiled: Coded, run: Run, tmp_path: Path) -> None:
    """Its own section alone: the chain of checksums goes on behind it. What is lost shows the mean of p(x_0 | z_0)."""
    tiles = payloads_of(tiled)[-6:]
    assert tiles[1][2] - tiles[1][1] >= 1024 > tiles[2][2] - tiles[2][1]
    data = bytearray(tiled.data)
    data[tiles[1][1] + 100] ^= 1
    check_refused(decode(run, tmp_path, bytes(data)), tmp_path, f"is damaged after byte {tiles[1][0]} ")
    code, out, err = decode(run, tmp_path, bytes(data), "--keep-going", "--json")
    assert (code, err.count("\n")) == (1, 1)
    assert f"is damaged after byte {tiles[1][0]} (tiles lost: 1)" in err
    assert json.loads(out)["lossless"] is False
    with Image.open(tmp_path / "x.png") as shown, Image.open(tiled.source) as image:
        wrong = np.argwhere((np.asarray(shown) != np.asarray(image)).any(axis=2))
    assert wrong.min(axis=0).tolist() == [0, 64]
    assert wrong.max(axis=0)[0] < 64
    assert wrong.max(axis=0)[1] < 128


def test_tiles_that_are_wrong_behind_right_checksums_are_named(tiled: Coded, run: Run, tmp_path: Path) -> None:
    payloads = list(read_progressive(tiled.file).sections)
    for number in (-5, -3):
        payloads[number] = payloads[number][:9] + bytes([payloads[number][9] ^ 1]) + payloads[number][10:]
    data = remade(tiled, tmp_path, payloads=payloads)
    check_refused(decode(run, tmp_path, data), tmp_path, f"section {len(payloads) - 5} cannot be decoded")
    code, _, err = decode(run, tmp_path, data, "--keep-going")
    assert code == 1
    for number in (-5, -3):
        assert f"section {len(payloads) + number} cannot be decoded" in err
