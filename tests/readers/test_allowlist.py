"""What each format may hold besides, and is refused because it would be lost, or kept because it can be."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_stored
from ddpm_codec.picture import Palette, Picture
from tests.readers.pngs import one
from tests.readers.samples import HEIGHT, SAMPLES, WIDTH, image, psd, saved


def read(data: bytes, name: str = "x", **options: Any) -> Picture:  # noqa: ANN401 - as read_stored takes
    return read_stored(data, name=name, **options).picture


def refused(data: bytes, line: str, name: str = "x", **options: Any) -> None:  # noqa: ANN401 - as read_stored takes
    with pytest.raises(InputError, match=f"^{name}: .*{line}"):
        read_stored(data, name=name, **options)


def bmp(
    bits: int, rows: bytes, *, compression: int = 0, masks: bytes = b"", palette: bytes = b"", down: bool = False
) -> bytes:
    """Return a bitmap of 3x2 pixels."""
    head = struct.pack("<IiiHHIIiiII", 40, 3, -2 if down else 2, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0)
    start = 14 + len(head) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + masks + palette + rows


def test_bmp_of_32_bits() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 4), np.uint8)
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    refused(bmp(32, pixels.tobytes()), "fourth channel")
    refused(bmp(32, pixels.tobytes(), compression=3, masks=masks), "fourth channel")
    pixels[:, :, 3] = 0
    for down in (False, True):
        for compression, extra in ((0, b""), (3, masks)):
            got = read(bmp(32, pixels.tobytes(), compression=compression, masks=extra, down=down))
            expected = pixels if down else pixels[::-1]
            np.testing.assert_array_equal(got.samples(), expected[:, :, 2::-1])


def test_bmp_with_a_mask_for_alpha() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 4), np.uint8)
    fields = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 3, 2, 1, 32, 3, 0, 0, 0, 0, 0) + fields + bytes(52)
    file = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + pixels.tobytes()
    got = read(file)
    assert got.mode == "RGBA"
    np.testing.assert_array_equal(got.samples(), pixels[::-1])


def test_bmp_of_less_than_eight_bits_a_colour_is_refused() -> None:
    refused(bmp(16, bytes(16)), "has 16 bits per pixel")
    refused(bmp(16, bytes(16), compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)), "has 16 bits per pixel")
    refused(
        bmp(32, bytes(24), compression=3, masks=struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)), "other than 8 bits"
    )
    refused(bmp(24, bytes(24), compression=4), "wraps a JPEG or PNG")


RUNS = [
    (1, 8, b"\3\1\0\0" + b"\0\3\2\3\4\0" + b"\0\1", [[2, 3, 4], [1, 1, 1]]),
    (2, 4, b"\3\x12\0\0" + b"\0\3\x34\x50" + b"\0\1", [[3, 4, 5], [1, 2, 1]]),
]


@pytest.mark.parametrize(("compression", "bits", "runs", "expected"), RUNS)
def test_bmp_with_run_lengths(compression: int, bits: int, runs: bytes, expected: list[list[int]]) -> None:
    palette = bytes(range(64))
    got = read(bmp(bits, runs, compression=compression, palette=palette))
    np.testing.assert_array_equal(got.samples(), expected)
    assert got.palette == Palette(3, bytes(value for at in range(0, 64, 4) for value in (at + 2, at + 1, at)))
    for end in range(len(runs) - 2):
        refused(bmp(bits, runs[:end], compression=compression, palette=palette), "damaged|leave pixels out")
    for hole in (b"\2\1\0\0", b"\1\1\0\2\1\0\1\1\0\0", b"\0\1"):
        refused(bmp(bits, hole + runs, compression=compression, palette=palette), "leave pixels out")
    refused(bmp(bits, b"\4\1\0\0" + runs, compression=compression, palette=palette), "too long")


def test_icons_have_sizes_and_the_largest_is_taken() -> None:
    small, large = one(8, 6), saved(image("RGBA").resize((24, 24)), "PNG")
    entries, at = b"", 6 + 32
    for size, data in ((13, small), (24, large)):
        entries += struct.pack("<BBBBHHII", size, size, 0, 0, 1, 32, len(data), at)
        at += len(data)
    icon = struct.pack("<HHH", 0, 1, 2) + entries + small + large
    refused(icon, r"has 2 sizes \(--first-frame takes the largest\)")
    got = read_stored(icon, name="x", first_frame=True)
    assert (got.picture.size, got.picture.pixels) == ((24, 24), read(large).pixels)
    assert got.notes == ("has 2 sizes; the largest is taken, the others are left out",)
    refused(icon[:-1], "ends inside one of its pictures")


def test_the_mask_of_an_icon_is_its_alpha() -> None:
    colours = np.random.default_rng(3).integers(0, 256, (2, 3, 3), np.uint8)
    rows = b"".join(row[:, ::-1].tobytes() + bytes(3) for row in colours[::-1])
    head = struct.pack("<IiiHHIIiiII", 40, 3, 4, 1, 24, 0, 0, 0, 0, 0, 0)
    mask = b"\x40\0\0\0" + b"\xa0\0\0\0"
    data = head + rows + mask
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 3, 2, 0, 0, 1, 24, len(data), 22) + data
    got = read(icon).samples()
    np.testing.assert_array_equal(got[:, :, :3], colours)
    np.testing.assert_array_equal(got[:, :, 3], [[0, 255, 0], [255, 0, 255]])
    refused(icon[:-4].replace(struct.pack("<I", len(data)), struct.pack("<I", len(data) - 4)), "another length")


PLANES = np.random.default_rng(5).integers(0, 256, (5, 6, 7), np.uint8)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "channels", "mode"), [(1, 1, "L"), (2, 1, "P"), (3, 3, "RGB"), (4, 4, "CMYK"), (9, 3, "LAB")]
)
def test_psd_of_eight_bits(kind: int, channels: int, mode: str, packed: bool) -> None:
    planes = PLANES[:channels]
    got = read(psd(kind, planes, packed=packed))
    expected = planes.transpose(1, 2, 0) ^ np.array({4: [255] * 4, 9: [0, 128, 128]}.get(kind, [0]), np.uint8)
    assert got.mode == mode
    np.testing.assert_array_equal(got.samples().reshape(expected.shape), expected)
    refused(psd(kind, planes, packed=packed)[:-1], "ends too early")


def test_what_psd_would_lose() -> None:
    refused(psd(3, PLANES[:4]), "has 4 channels; 1 beside RGB would be lost")
    refused(psd(3, PLANES), "has 5 channels; 2 beside RGB")
    refused(psd(1, PLANES[:2]), "has 2 channels; 1 beside L")
    refused(psd(3, PLANES[:3], depth=16), "has 16 bits per sample")
    refused(psd(0, PLANES[:1]), "is a bitmap picture")
    refused(psd(7, PLANES[:3]), "is a multichannel picture")
    refused(psd(8, PLANES[:1]), "is a duotone picture")
    refused(psd(3, PLANES[:3], layers=2), r"has 3 pictures \(the composite and its layers\)")
    placeholder = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + struct.pack(">IB", 1, 0) + b"\0"
    refused(psd(3, PLANES[:3], resources=placeholder), "saved without a composite")
    merged = read(psd(3, PLANES[:4], layers=-1), first_frame=True)
    np.testing.assert_array_equal(merged.samples(), PLANES[:4].transpose(1, 2, 0))
    assert merged.mode == "RGBA"


def tga(kind: int, depth: int, attributes: int, pixels: bytes, *, palette: bytes = b"", entry: int = 0) -> bytes:
    """Return a file of 3x2 pixels, from the top."""
    entries = len(palette) // (entry // 8) if entry else 0
    head = struct.pack("<BBBHHBHHHHBB", 0, bool(palette), kind, 0, entries, entry, 0, 0, 3, 2, depth, 0x20 | attributes)
    return head + palette + pixels


def with_attributes(file: bytes, kind: int) -> bytes:
    area = bytes(494) + bytes([kind])
    return file + area + struct.pack("<II", len(file), 0) + b"TRUEVISION-XFILE.\0"


def test_alpha_of_tga() -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (2, 3, 4), np.uint8)
    order = [2, 1, 0, 3]
    whole = tga(2, 32, 8, pixels.tobytes())
    np.testing.assert_array_equal(read(whole, "x.tga").samples(), pixels[:, :, order])
    for attributes, mode in ((3, "RGBA"), (4, "RGBa")):
        got = read(with_attributes(whole, attributes), "x.tga")
        assert got.mode == mode
        np.testing.assert_array_equal(got.samples(), pixels[:, :, order])
    refused(with_attributes(whole, 0), "means nothing", "x.tga")
    refused(tga(2, 32, 0, pixels.tobytes()), "means nothing", "x.tga")
    pixels[:, :, 3] = 255
    got = read(tga(2, 32, 0, pixels.tobytes()), "x.tga")
    np.testing.assert_array_equal(got.samples(), pixels[:, :, 2::-1])


def test_what_tga_refuses() -> None:
    refused(tga(2, 16, 1, bytes(12)), "has 16 bits per pixel", "x.tga")
    refused(tga(1, 8, 0, bytes(6), palette=bytes(8), entry=16), "palette of 16 bits", "x.tga")
    refused(tga(2, 24, 0, bytes(17)), "ends too early", "x.tga")
    refused(tga(10, 24, 0, b"\x85abc"), "longer than its header says", "x.tga")
    refused(b"These are words, and no picture at all.", "is not an image", "x.tga")
    assert read(tga(1, 8, 0, bytes(range(6)), palette=bytes(32), entry=32), "x.tga").palette == Palette(4, bytes(32))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("channels", "mode"), [(1, "I;16"), (3, "RGB;16"), (4, "RGBA;16")])
def test_sgi_of_sixteen_bits(channels: int, mode: str, compressed: bool) -> None:
    samples = np.random.default_rng(8).integers(0, 65536, (channels, 5, 7), np.uint16)
    samples[:, :, 4:] = 99
    head = struct.pack(">HBBHHHH", 474, compressed, 2, 2 if channels == 1 else 3, 7, 5, channels).ljust(512, b"\0")
    planes = samples[:, ::-1].astype(">u2")
    if compressed:
        rows = [
            struct.pack(">H", 0x84) + row[:4].tobytes() + struct.pack(">HHH", 3, 99, 0) for row in planes.reshape(-1, 7)
        ]
        start = 512 + 8 * len(rows)
        table = [start + len(rows[0]) * number for number in range(len(rows))] + [len(rows[0])] * len(rows)
        data = struct.pack(f">{len(table)}I", *table) + b"".join(rows)
    else:
        data = planes.tobytes()
    got = read(head + data)
    assert got.mode == mode
    np.testing.assert_array_equal(got.samples().reshape(5, 7, channels), samples.transpose(1, 2, 0))
    refused((head + data)[: -2 if not compressed else -4], "damaged")


def test_pcx_without_its_palette_is_damaged() -> None:
    file = saved(image("P50"), "PCX")
    refused(file[:-769], "no palette")
    broken = bytearray(file)
    broken[-769] = 0
    refused(bytes(broken), "no palette")


def test_animations_and_other_formats() -> None:
    frames = {"save_all": True, "append_images": [image("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM)]}
    for kind in ("GIF", "WEBP", "AVIF"):
        data = saved(image("P50" if kind == "GIF" else "RGB"), kind, **frames)
        refused(data, "has 2 ")
        got = read_stored(data, name="x", first_frame=True)
        assert got.picture.size == (WIDTH, HEIGHT)
        assert "the others are left out" in got.notes[0]
    exact = saved(image("RGB"), "WEBP", lossless=True, **frames)
    np.testing.assert_array_equal(read(exact, first_frame=True).samples()[:, :, :3], SAMPLES[:, :, :3])
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is a HEIC picture, a format that is not read")
    refused(b"\xff\x0a" + bytes(99), "is a JXL picture")
