"""Progressive files to be cut, damaged and made up."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddpm_codec.codecs.fallback import RAW
from ddpm_codec.codecs.progressive import file
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, PREAMBLE_BYTES, SIGNATURE, VERSION, Values
from ddpm_codec.container.section_writer import crc_bytes, framed_section, stored_crc
from ddpm_codec.files import encode_progressive_files
from ddpm_codec.varint import Reader
from tests.containers import read_progressive, write_progressive
from tests.golden.regenerate import EXACT, noisy_picture
from tests.helpers import Run, leftovers, pixels

SECONDS = 5.0
"""More of a processor than that nothing here may take, whatever else the machine does."""

SMALL = (5, 3)
"""Of the picture whose file is damaged at every byte."""

MEBIBYTES = 512
"""More memory than that no small file may ask for."""


@dataclass(frozen=True)
class Coded:
    """A picture and its lossless file."""

    source: Path
    file: Path
    ends: list[int]

    @property
    def data(self) -> bytes:
        return self.file.read_bytes()

    def whole_sections(self, length: int) -> int:
        """Return how many sections of a prefix are whole, alpha's not counted."""
        return sum(end <= length for end in self.ends)


def coded(
    folder: Path, name: str, size: tuple[int, int], mode: str = "RGB", register_bits: int = 6, tile: int = 256
) -> Coded:
    image = Image.fromarray(noisy_picture(size[0], size[1], size[0]))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    source, file = folder / f"{name}.png", folder / f"{name}.ddpm"
    image.save(source)
    how: dict[str, Any] = {"steps": 8, "register_bits": register_bits, "tile": tile, "fallback": False}
    report = encode_progressive_files([source], file, model=EXACT, **how)[0]
    assert report.lossless
    return Coded(source, file, [section["end"] for section in report.sections])


def raw_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fallback of progressive files store pixels as they are, so that the tiny model serves noisy pictures better."""
    monkeypatch.setattr(file, "encode_array", lambda pixels: bytes([RAW]) + pixels.tobytes())


def decode(run: Run, folder: Path, data: bytes, *words: str) -> tuple[int, str, str]:
    """Decode bytes to ``x.png``, which was not there before."""
    path = folder / "x.ddpm"
    path.write_bytes(data)
    (folder / "x.png").unlink(missing_ok=True)
    return run("decode", path, "-o", folder / "x.png", "--model", EXACT, *words)


def check_refused(result: tuple[int, str, str], folder: Path, *causes: str) -> None:
    """One line on standard error that names a cause, nothing on standard output, nothing written, exit code 1."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert not causes or any(cause in err for cause in causes), err
    assert not (folder / "x.png").exists()
    assert leftovers(folder) == []


def remade(
    source: Coded,
    folder: Path,
    *,
    payloads: Sequence[bytes] | None = None,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    identity: bytes | None = None,
    **parameters: int | str,
) -> bytes:
    """Return a file with something else in it and all its checksums right."""
    opened = read_progressive(source.file)
    values: Values = opened.head.parameters | parameters
    head = replace(opened.head, model_id=identity or opened.head.model_id, parameters=values)
    info = replace(opened.info, size=size or opened.info.size, mode=mode or opened.info.mode)
    path = folder / "remade.ddpm"
    sections = opened.sections if payloads is None else payloads
    write_progressive(path, head, info, sections, named_after=source.file)
    return path.read_bytes()


def chained(payloads: Sequence[bytes]) -> bytes:
    """Return a file of these sections, the head included, with right checksums."""
    data = SIGNATURE + bytes([VERSION, CODEC_PROGRESSIVE])
    crc = zlib.crc32(data)
    for payload in payloads:
        framed = framed_section(payload)
        crc = zlib.crc32(framed, crc)
        data += framed + stored_crc(crc, len(payload))
    return data


def check_prefix(run: Run, folder: Path, source: Coded, length: int) -> None:
    """A cut file shows what its whole sections say, or is too short for a picture."""
    result = decode(run, folder, source.data[:length], "--json")
    count = source.whole_sections(length)
    if not count:
        cause = "is not a .ddpm file" if not length else "too short for a first picture"
        check_refused(result, folder, cause)
        return
    code, out, err = result
    assert (code, err.count("\n")) == (0, 1), err
    report = json.loads(out)
    used = source.ends[count - 1]
    assert (report["used_bytes"], report["lossless"], report["file_bytes"]) == (used, False, length)
    assert f"used {used:,} of {length:,} bytes (truncated, originally {len(source.data):,})" in err
    assert "not lossless" in err
    mode, size, _ = pixels(source.source)
    assert pixels(folder / "x.png")[:2] == (mode, size)


def payloads_of(source: Coded) -> list[tuple[int, int, int]]:
    """Return where each section starts, its payload starts, and this ends; the head included."""
    found, at = [], PREAMBLE_BYTES
    while at < len(source.data):
        reader = Reader(source.data[at:])
        length = reader.varint()
        start = len(source.data) - reader.left
        found.append((at, start, start + length))
        at = start + length + crc_bytes(length)
    assert at == source.ends[-1]
    return found
