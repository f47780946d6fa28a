"""Progressive files that are made up: one line, or a picture; never a traceback, never all memory."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_codec.container.layout import SHORT_ID_BYTES
from ddpm_codec.models import find_model
from ddpm_codec.models.registry import model_id
from tests.containers import read_progressive
from tests.golden.regenerate import EXACT
from tests.helpers import Run, pixels
from tests.progressive.files import SECONDS, Coded, chained, check_refused, decode, payloads_of, remade


def test_sections_out_of_order_are_damage(middle: Coded, run: Run, tmp_path: Path) -> None:
    data, ends = middle.data, middle.ends
    first, second = data[ends[0] : ends[1]], data[ends[1] : ends[2]]
    for changed in (
        data[: ends[0]] + second + first + data[ends[2] :],
        data[: ends[1]] + first + data[ends[1] :],
        data[: ends[0]] + data[ends[1] :],
    ):
        check_refused(decode(run, tmp_path, changed), tmp_path, "is damaged after byte")
        code, _, err = decode(run, tmp_path, changed, "--keep-going")
        assert (code, err.count("\n")) == (1, 1)
    assert pixels(tmp_path / "x.png")[:2] == ("RGB", (33, 17))


def test_sections_out_of_order_behind_right_checksums_are_one_line(middle: Coded, run: Run, tmp_path: Path) -> None:
    a, b, *rest = read_progressive(middle.file).sections
    end = rest[-1]
    cases: dict[str, list[bytes]] = {
        "swapped": [b, a, *rest],
        "repeated": [a, a, b, *rest],
        "left out": [b, *rest],
        "end first": [end, a, b, *rest],
        "empty": [a, b"", b, *rest],
        "joined": [a + b, *rest],
        "one too many": [a, b, *rest, end],
        "empty at the end": [a, b, *rest, b""],
        "many empty": [b""] * 5000,
    }
    for name, payloads in cases.items():
        code, out, err = decode(run, tmp_path, remade(middle, tmp_path, payloads=payloads))
        if name == "joined":
            # Where sections are cut is the encoder's choice.
            assert code == 0, err
            assert pixels(tmp_path / "x.png") == pixels(middle.source)
        else:
            check_refused((code, out, err), tmp_path, "cannot be decoded")


EXTREMES = [
    *({"steps": value} for value in (0, 1, 7, 33, 1 << 16, (1 << 16) + 1, 1 << 40)),
    *({"register_bits": value} for value in (0, 3, 4, 5, 12, 16, 17, 1 << 40)),
    *({"end": value} for value in (1, 5, 10, 11, 1 << 16, 1 << 40)),
    *({"tile": value} for value in (0, 8, 9, 1 << 16, 1 << 40)),
    *({"crossing": value} for value in (2, 1 << 40)),
]


@pytest.mark.parametrize("parameters", EXTREMES, ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()))
def test_extreme_parameters_are_one_line(parameters: dict[str, Any], middle: Coded, run: Run, tmp_path: Path) -> None:
    started = time.process_time()
    check_refused(decode(run, tmp_path, remade(middle, tmp_path, **parameters)), tmp_path)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (1, 1), (70, 90), (1024, 1024), (8192, 8192), (1, 1 << 20)])
def test_another_size_in_the_table_is_one_line(size: tuple[int, int], small: Coded, run: Run, tmp_path: Path) -> None:
    started = time.process_time()
    check_refused(decode(run, tmp_path, remade(small, tmp_path, size=size)), tmp_path, "cannot be decoded")
    assert time.process_time() - started < SECONDS


def test_a_picture_without_alpha_taken_for_one_with_it_is_one_line(small: Coded, run: Run, tmp_path: Path) -> None:
    check_refused(decode(run, tmp_path, remade(small, tmp_path, mode="RGBA")), tmp_path)


def test_alpha_taken_for_a_picture_is_one_line(alpha: Coded, run: Run, tmp_path: Path) -> None:
    check_refused(decode(run, tmp_path, remade(alpha, tmp_path, mode="RGB")), tmp_path, "section 0 cannot be decoded")
    payloads = read_progressive(alpha.file).sections
    for broken in (b"", b"\xff", b"\1" + bytes(30), payloads[0][:-1], payloads[1]):
        data = remade(alpha, tmp_path, payloads=[broken, *payloads[1:]])
        check_refused(decode(run, tmp_path, data), tmp_path)


def test_alpha_that_is_broken_behind_a_right_checksum_names_the_file(alpha: Coded, run: Run, tmp_path: Path) -> None:
    payloads = read_progressive(alpha.file).sections
    data = remade(alpha, tmp_path, payloads=[b"\xff", *payloads[1:]])
    check_refused(decode(run, tmp_path, data), tmp_path, f"{tmp_path / 'x.ddpm'}: ")


@pytest.mark.parametrize(("size", "limit"), [((100, 100), ("--max-pixels", "9999")), (((1 << 31) - 1,) * 2, ())])
def test_more_pixels_than_allowed_are_refused(
    size: tuple[int, int], limit: tuple[str, ...], small: Coded, run: Run, tmp_path: Path
) -> None:
    data = remade(small, tmp_path, size=size)
    check_refused(decode(run, tmp_path, data, *limit), tmp_path, "use --max-pixels to raise the limit")
    check_refused(decode(run, tmp_path, data, *limit, "--keep-going"), tmp_path, "use --max-pixels to raise the limit")
    assert run("info", tmp_path / "x.ddpm")[0] == 0


def test_more_pixels_than_allowed_are_those_of_the_table(small: Coded, run: Run, tmp_path: Path) -> None:
    assert decode(run, tmp_path, small.data, "--max-pixels", "15")[0] == 0
    check_refused(decode(run, tmp_path, small.data, "--max-pixels", "14"), tmp_path, "it declares 15 pixels")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from ddpm_codec_cli.main import main
from tests.containers import read_progressive
from tests.containers import read_progressive
sys.exit(main(sys.argv[1:]))
"""


def test_a_wide_picture_of_few_bytes_is_one_line(small: Coded, run: Run, tmp_path: Path) -> None:
    """Within the default --max-pixels, and a few hundred bytes long."""
    (tmp_path / "x.ddpm").write_bytes(remade(small, tmp_path, size=(1 << 24, 64)))
    words = [sys.executable, "-c", LIMITED, "decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png", "--model", EXACT]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=60, env=env)
    check_refused((done.returncode, done.stdout, done.stderr), tmp_path)


def test_files_of_other_models_are_refused(small: Coded, run: Run, tmp_path: Path) -> None:
    other = bytes.fromhex(model_id(find_model("photo")))[:SHORT_ID_BYTES]
    data = remade(small, tmp_path, identity=other)
    check_refused(decode(run, tmp_path, data), tmp_path, "another model")
    (tmp_path / "x.ddpm").write_bytes(data)
    result = run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png")
    check_refused(result, tmp_path, "cannot be decoded", "chain")
    unknown = remade(small, tmp_path, identity=bytes(SHORT_ID_BYTES))
    check_refused(decode(run, tmp_path, unknown), tmp_path, "another model")
    (tmp_path / "x.ddpm").write_bytes(unknown)
    check_refused(run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png"), tmp_path, "model")
    (tmp_path / "x.ddpm").write_bytes(small.data)
    result = run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png", "--model", "photo")
    check_refused(result, tmp_path, "photo is another model")
    check_refused(run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png"), tmp_path, "model")


def test_the_start_of_a_file_is_looked_at(small: Coded, run: Run, tmp_path: Path) -> None:
    data = small.data
    check_refused(decode(run, tmp_path, b""), tmp_path, "is not a .ddpm file")
    check_refused(decode(run, tmp_path, data[:8] + b"\3" + data[9:]), tmp_path, "newer version")
    check_refused(decode(run, tmp_path, data[:8] + b"\1" + data[9:]), tmp_path, "pre-release")
    for codec in (0, 1, 3, 255):
        check_refused(decode(run, tmp_path, data[:9] + bytes([codec]) + data[10:]), tmp_path)
    check_refused(decode(run, tmp_path, data[:10] + b"\xff" * 9 + data[10:]), tmp_path)


def test_heads_that_no_encoder_writes_are_one_line(small: Coded, run: Run, tmp_path: Path) -> None:
    """Every byte of the head, behind right checksums."""
    opened = read_progressive(small.file)
    (_, start, end), *_ = payloads_of(small)
    payload = small.data[start:end]
    rng = np.random.default_rng(4)
    for at in range(len(payload)):
        changed = bytearray(payload)
        changed[at] ^= int(rng.integers(1, 256))
        result = decode(run, tmp_path, chained([bytes(changed), *opened.sections]), "--max-pixels", "100000")
        if result[0]:
            check_refused(result, tmp_path)
        else:
            # Names are for messages alone, and a file that says it was longer passes for one that was cut.
            assert pixels(tmp_path / "x.png") == pixels(small.source) or "(truncated, originally" in result[2]
