"""PNG: all kinds are kept, damage is refused, ancillary chunks never cost the pixels."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

import ddpm_codec
from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_stored
from ddpm_codec.image_io.stored import ReadPicture
from tests.helpers import Run
from tests.readers.pngs import KINDS, SIGNATURE, Chunk, chunk, noise, one, palette, png

SCALES = {2: 85, 4: 17}
"""Factors by which grey samples of so many bits become bytes."""


def read(data: bytes) -> ReadPicture:
    return read_stored(data, name="x.png")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_every_kind_is_read_exactly(colour: int, depth: int, interlaced: bool) -> None:
    got = read(one(depth, colour, interlaced=interlaced))
    samples = noise(depth, colour)
    expected = samples * (SCALES.get(depth, 1) if colour == 0 else 1)
    np.testing.assert_array_equal(got.picture.samples().reshape(samples.shape), expected)
    assert got.notes == ()
    assert got.picture.info.layout.sample_bits == (1 if (colour, depth) == (0, 1) else max(8, depth))


@pytest.mark.parametrize(("colour", "depth"), [(2, 8), (2, 16), (4, 16), (6, 8), (6, 16), (0, 16)])
def test_libpng_reads_the_same(colour: int, depth: int) -> None:
    data = one(depth, colour)
    np.testing.assert_array_equal(read(data).picture.samples(), imagecodecs.png_decode(data), strict=True)


@pytest.mark.parametrize(("colour", "depth"), [kind for kind in KINDS if kind[0] != 3 and kind[1] >= 8])
def test_arrays_of_every_kind_go_through_the_api(colour: int, depth: int) -> None:
    samples = read(one(depth, colour, interlaced=True)).picture.samples()
    np.testing.assert_array_equal(ddpm_codec.decode(ddpm_codec.encode(samples, model="none")), samples, strict=True)


def test_all_kinds_through_the_command_line(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for colour, depth in KINDS:
        for interlaced in (False, True):
            data = one(depth, colour, interlaced=interlaced)
            (folder / f"{colour}-{depth}-{interlaced}.png").write_bytes(data)
    archive, back = tmp_path / "x.ddpm", tmp_path / "out"
    assert run("encode", folder, "-o", archive, "--model", "none", "--verify")[0] == 0
    assert run("decode", archive, "-o", back)[0] == 0
    for path in sorted(folder.iterdir()):
        original, got = read(path.read_bytes()).picture, read((back / path.name).read_bytes()).picture
        assert (got.mode, got.size, got.pixels) == (original.mode, original.size, original.pixels)
        assert (got.palette, got.transparency) == (original.palette, original.transparency)


@pytest.mark.parametrize("interlaced", [False, True])
def test_rows_that_are_missing_are_not_made_up(run: Run, tmp_path: Path, interlaced: bool) -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, interlaced)
    data = zlib.compress(bytes(25 * 7))
    short = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(short)
    code, _, error = run("encode", tmp_path / "x.png", "-o", tmp_path / "x.ddpm", "--model", "none", "--verify")
    assert (code, "is damaged (its data hold 175 of the" in error) == (1, True)
    assert not (tmp_path / "x.ddpm").exists()


def test_too_many_rows_and_filters_that_do_not_exist_are_refused() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0)
    for rows, line in ((bytes(4), "data hold"), (b"\5ab", "damaged|cannot be read")):
        file = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        with pytest.raises(InputError, match=line):
            read(file)


@pytest.mark.parametrize(("colour", "depth"), [(0, 16), (2, 8), (2, 16)])
def test_the_transparent_colour_is_in_units_of_the_samples(colour: int, depth: int) -> None:
    samples = noise(depth, colour)
    value = samples[3, 2].tolist()
    got = read(png(samples, depth, colour, before=[(b"tRNS", struct.pack(f">{len(value)}H", *value))])).picture
    np.testing.assert_array_equal(got.samples().reshape(samples.shape), samples)
    assert got.transparency == (tuple(value) if colour == 2 else value[0])


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_what_pixels_depend_on_is_refused(kind: bytes) -> None:
    file = bytearray(png(noise(4, 3), 4, 3, before=[palette(4), (b"tRNS", b"\0\1\2")]))
    at = file.index(kind)
    (length,) = struct.unpack_from(">I", file, at - 4)
    file[at + 4 + length] ^= 1
    with pytest.raises(InputError, match=rf"^x.png: is damaged \(the checksum of .*{kind.decode()}"):
        read(bytes(file))


@pytest.mark.parametrize(("colour", "depth"), [(0, 2), (2, 8), (2, 16), (6, 16), (3, 4)])
def test_ancillary_chunks_never_cost_the_pixels(colour: int, depth: int) -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(3 << 20))
    profile = b"name\0\0" + zlib.compress(bytes(2 << 20))
    more: list[Chunk] = [(b"zTXt", text), (b"iCCP", profile), (b"gAMA", b"\0"), (b"sBIT", b""), (b"eXIf", b"junk")]
    before = [palette(depth)] if colour == 3 else []
    samples = noise(depth, colour)
    file = png(samples, depth, colour, before=[*before, *more], after=[(b"tEXt", b"x" * 99)])
    damaged = bytearray(file)
    damaged[damaged.index(b"tEXt") + 8] ^= 255
    plain = read(png(samples, depth, colour, before=before)).picture
    for data in (file, bytes(damaged)):
        got = read(data).picture
        assert (got.mode, got.pixels, got.palette) == (plain.mode, plain.pixels, plain.palette)


def test_bytes_behind_the_end_are_named() -> None:
    assert read(one(8, 2) + b"hello").notes == ("5 bytes behind the end of the PNG data are left out",)


def animated(frames: int, *, default_is_frame: bool) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 13, 11, 0, 0, 1, 1, 0, 0)
    before: list[Chunk] = [(b"acTL", struct.pack(">II", frames, 0))]
    after: list[Chunk] = []
    for number in range(frames):
        if number == 0 and default_is_frame:
            before.append((b"fcTL", control))
        else:
            after += [(b"fcTL", control), (b"fdAT", bytes(4) + zlib.compress(bytes(11 * 14)))]
    return png(noise(8, 0), 8, 0, before=before, after=after)


@pytest.mark.parametrize(("default_is_frame", "pictures"), [(True, 2), (False, 3)])
def test_animations_are_counted_and_the_default_image_is_taken(default_is_frame: bool, pictures: int) -> None:
    file = animated(2, default_is_frame=default_is_frame)
    with pytest.raises(InputError, match=f"has {pictures} frames"):
        read(file)
    got = read_stored(file, name="x", first_frame=True)
    np.testing.assert_array_equal(got.picture.samples(), noise(8, 0)[:, :, 0])
    assert "the others are left out" in got.notes[0]
    assert read(animated(1, default_is_frame=True)).notes == ()


def test_chunks_out_of_place_and_unknown_critical_ones_are_refused() -> None:
    samples = noise(8, 2)
    cases: list[tuple[bytes, str]] = [
        (png(samples, 8, 2, before=[(b"ABCD", b"")]), "critical chunk ABCD"),
        (png(samples, 8, 2, before=[(b"tRNS", bytes(5))]), "tRNS chunk has 5 bytes"),
        (png(noise(8, 6), 8, 6, before=[(b"tRNS", bytes(6))]), "tRNS chunk is out of place"),
        (png(samples, 8, 2, after=[(b"gAMA", bytes(4)), (b"IDAT", b"")]), "IDAT chunks do not follow"),
        (png(noise(8, 3), 8, 3), "no palette"),
        (png(samples, 8, 2).replace(b"IHDR", b"CgBI"), "Apple"),
    ]
    for data, line in cases:
        with pytest.raises(InputError, match=line):
            read(data)


def test_a_transparent_value_of_one_bit_comes_back_as_one_bit(run: Run, tmp_path: Path) -> None:
    source, back = tmp_path / "x.png", tmp_path / "back.png"
    for value in (0, 1):
        source.write_bytes(png(noise(1, 0), 1, 0, before=[(b"tRNS", struct.pack(">H", value))]))
        options = ["--model", "none", "--verify", "--overwrite"]
        assert run("encode", source, "-o", tmp_path / "x.ddpm", *options)[0] == 0
        assert run("decode", tmp_path / "x.ddpm", "-o", back, "--overwrite")[0] == 0
        assert chunk(b"tRNS", struct.pack(">H", value)) in back.read_bytes()
