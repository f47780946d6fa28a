"""What the TIFF reader gives is what tifffile wrote, what Pillow sees, or an error of one line."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_codec.image_io.exact import colours, palette_of, pixels_of
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.picture import MODES
from tests.image_io.tiffs import COMPRESSIONS, Order, by_pillow, directory, raw, read, refused, samples, smooth, tiff

MODES_OF_ARRAYS = {
    "u1": ("L", "LA", "RGB", "RGBA"),
    "u2": ("I;16", "LA;16", "RGB;16", "RGBA;16"),
    "u4": ("L;32", "LA;32", "RGB;32", "RGBA;32"),
    "f4": ("F", "LA;F", "RGB;F", "RGBA;F"),
}


def colour_options(channels: int, *, associated: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {"photometric": "rgb" if channels > 2 else "minisblack"}
    if channels > 1:
        options["planarconfig"] = "contig"
    if channels in (2, 4):
        options["extrasamples"] = [1 if associated else 2]
    return options


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_samples_are_those_that_were_written(dtype: str, channels: int, order: Order) -> None:
    array = samples(37, 53, channels, dtype=dtype) if channels > 1 else samples(37, 53, dtype=dtype)
    mode = MODES_OF_ARRAYS[dtype][channels - 1]
    for index, compression in enumerate(COMPRESSIONS):
        for tile in (None, (16, 32)):
            options: dict[str, Any] = {**colour_options(channels), "compression": compression, "tile": tile}
            options["predictor"] = bool(index % 2) and compression != "packbits"
            options["rowsperstrip"] = None if tile else (1, 7, None)[index % 3]
            written = array
            if channels > 1 and index % 2:
                options["planarconfig"], written = "separate", np.ascontiguousarray(np.moveaxis(array, -1, 0))
            got = read(tiff(written, big=index % 3 == 0, order=order, **options))
            big_endian_grey = mode == "I;16" and order == ">"
            assert (got.mode, got.size, got.info.white) == ("I;16B" if big_endian_grey else mode, (53, 37), None)
            assert got.samples().tobytes() == array.tobytes(), options


@pytest.mark.parametrize(
    ("dtype", "channels", "mode"),
    [
        ("u1", 2, "La"),
        ("u1", 4, "RGBa"),
        ("u2", 2, "La;16"),
        ("u2", 4, "RGBa;16"),
        ("f4", 2, "La;F"),
        ("f4", 4, "RGBa;F"),
    ],
)
def test_premultiplied_alpha_is_kept_as_it_is(dtype: str, channels: int, mode: str) -> None:
    array = samples(9, 14, channels, dtype=dtype)
    got = read(tiff(array, **colour_options(channels, associated=True)))
    assert (got.mode, got.samples().tobytes()) == (mode, array.tobytes())


@pytest.mark.parametrize("bits", [3, 5, 6, 7, *range(9, 16), *range(17, 24), *range(25, 32)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_widths_keep_their_numbers(bits: int, channels: int) -> None:
    dtype = "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    array = samples(9, 13, channels, dtype=dtype, below=1 << bits)[..., slice(None) if channels > 1 else 0]
    got = read(tiff(array, bitspersample=bits, **colour_options(channels)))
    assert got.mode == MODES_OF_ARRAYS[dtype][channels - 1]
    assert got.info.white == (1 << bits) - 1
    assert np.array_equal(got.samples(), array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 3, 5, 7, 9, 10, 12, 15, 17, 20, 31])
def test_bits_are_packed_alike_in_both_byte_orders(bits: int, order: str) -> None:
    array = samples(9, 13, dtype="u4", below=1 << bits)
    rows = [np.array([list(f"{value:0{bits}b}") for value in row], np.uint8).reshape(-1) for row in array]
    packed = b"".join(np.packbits(row).tobytes() for row in rows)
    assert np.array_equal(read(raw(packed, (13, 9), order=order, bits=(bits,))).samples(), array)
    deflate = [(259, 3, 1, struct.pack(order + "H", 8))]
    data = raw(zlib.compress(packed), (13, 9), order=order, bits=(bits,), more=deflate)
    assert np.array_equal(read(data).samples(), array)


def test_24_bits_are_refused() -> None:
    refused(raw(bytes(378), (14, 9), bits=(24,)), "24 bits, which some readers take in the byte order")


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17)])
def test_grey_of_two_and_four_bits_becomes_eight(bits: int, factor: int) -> None:
    array = samples(9, 13, below=1 << bits)
    data = tiff(array, bitspersample=bits, photometric="minisblack")
    got = read(data)
    assert (got.mode, got.info.white) == ("L", None)
    assert np.array_equal(got.samples(), array * factor)
    with Image.open(io.BytesIO(data)) as image:
        assert image.tobytes() == got.pixels
    colour = samples(9, 13, 3, below=1 << bits)
    got = read(tiff(colour, bitspersample=bits, photometric="rgb"))
    assert (got.mode, got.info.white, got.pixels) == ("RGB", (1 << bits) - 1, colour.tobytes())


def test_other_meanings_of_samples() -> None:
    four, three = samples(9, 14, 4), samples(9, 14, 3)
    assert read(tiff(four, photometric="separated")).mode == "CMYK"
    wide = samples(9, 14, 4, dtype="u2")
    got = read(tiff(wide, photometric="separated", compression="lzw", predictor=True))
    assert (got.mode, got.samples().tobytes()) == ("CMYK;16", wide.tobytes())
    for photometric, mode in (("ycbcr", "YCbCr"), ("cielab", "LAB")):
        for compression in (None, "adobe_deflate"):
            options: dict[str, Any] = {"subsampling": (1, 1)} if photometric == "ycbcr" else {}
            got = read(tiff(three, photometric=photometric, compression=compression, **options))
            assert (got.mode, got.pixels) == (mode, three.tobytes())
    signed = samples(9, 14, dtype="i4")
    assert read(tiff(signed, photometric="minisblack")).samples().tobytes() == signed.tobytes()


def test_floats_that_are_no_numbers() -> None:
    array = samples(9, 14, dtype="f4")
    array[0, :4] = np.nan, np.inf, -np.inf, -0.0
    for compression in COMPRESSIONS:
        assert read(tiff(array, photometric="minisblack", compression=compression)).pixels == array.tobytes()


def pillow_images() -> dict[str, Image.Image]:
    size, rng = (41, 30), np.random.default_rng(3)
    images = {}
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"):
        images[mode] = Image.frombytes(
            mode, size, rng.integers(0, 256, MODES[mode].byte_count(size), np.uint8).tobytes()
        )
    for mode in ("P", "PA"):
        images[mode].putpalette(bytes(range(256)) * 3)
    images["few"] = images["RGB"].quantize(5)
    images["jpeg"] = Image.fromarray(smooth())
    return images


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4", "tiff_ccitt"]
)
def test_what_pillow_read_right_stays(compression: str | None) -> None:
    compared = 0
    for mode, image in pillow_images().items():
        fax = compression in ("group3", "group4", "tiff_ccitt")
        lossy = compression == "jpeg" and mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "jpeg")
        if lossy or (fax and mode != "1") or (mode == "YCbCr" and compression):
            continue  # libtiff refuses, or gives RGB for YCbCr
        data = by_pillow(image, compression=compression)
        got = read(data)
        with Image.open(io.BytesIO(data)) as seen:
            seen.load()
            assert (got.mode, got.size, got.pixels) == (seen.mode, seen.size, pixels_of(seen)), mode
            if got.palette is not None:
                assert colours(got.palette, None) == colours(palette_of(seen), None)
        compared += 1
    assert compared


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bit_order", [1, 2])
def test_white_as_zero_and_reversed_bits_are_as_in_pillow(bits: int, order: str, bit_order: int) -> None:
    pixels = samples(6, 2).tobytes()
    size = (16, 6) if bits == 1 else (2, 6)
    for photometric in (0, 1):
        more = [(266, 3, 1, struct.pack(order + "H", bit_order))]
        data = raw(pixels, size, order=order, bits=(bits,), photometric=photometric, more=more)
        got = read(data)
        stored = np.frombuffer(pixels, np.uint8)
        if bit_order == 2:
            stored = np.packbits(np.unpackbits(stored.reshape(-1, 1), axis=1)[:, ::-1], axis=1)[:, 0]
        meant = stored if photometric else 255 - stored
        assert (got.mode, got.pixels) == ("1" if bits == 1 else "L", meant.tobytes())
        if (bits, photometric, bit_order) != (8, 0, 2):  # which Pillow does not read
            with Image.open(io.BytesIO(data)) as image:
                assert (got.mode, got.pixels) == (image.mode, image.tobytes())


def test_jpeg_is_as_in_pillow_and_in_tifffile() -> None:
    for options in (
        {"photometric": "rgb", "compression": "jpeg"},
        {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)},
        {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 1), "tile": (32, 32)},
    ):
        data = tiff(smooth(), **options)
        got = read(data)
        assert got.mode == "RGB"
        assert np.array_equal(got.samples(), tifffile.imread(io.BytesIO(data)))
        with Image.open(io.BytesIO(data)) as image:
            assert image.tobytes() == got.pixels


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_compressed_pictures_in_tiles(compression: str) -> None:
    options: dict[str, Any] = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    data = tiff(smooth(), photometric="rgb", compression=compression, tile=(32, 32), **options)
    assert np.array_equal(read(data).samples(), smooth())


def palette_file(scale: int, odd: int = 0) -> bytes:
    colour_map = (np.arange(768) % 256 * scale).astype("<u2")
    colour_map[5] += odd
    return raw(samples(9, 14).tobytes(), (14, 9), photometric=3, more=[(320, 3, 768, colour_map.tobytes())])


def test_palettes() -> None:
    for scale in (256, 257):
        got = read(palette_file(scale))
        assert got.mode == "P"
        assert got.palette is not None
        assert got.palette.colours == bytes(value for value in range(256) for _ in range(3))
        assert got.pixels == samples(9, 14).tobytes()
    refused(palette_file(257, odd=1), "more than 8 bits per colour, which would be lost")
    refused(raw(bytes(126), (14, 9), photometric=3), "palette has 0 of 768")


def test_every_page_counts_and_the_first_of_full_size_is_read() -> None:
    def pages(*kinds: tuple[int, int]) -> bytes:
        out = io.BytesIO()
        with tifffile.TiffWriter(out) as file:
            for size, subfile in kinds:
                array = samples(size, size, below=size)
                array = array > 3 if subfile == 4 else array  # masks have one bit
                file.write(array, metadata=None, photometric="minisblack", subfiletype=subfile)
        return out.getvalue()

    cases = [
        (pages((9, 0)), 1, 9),
        (pages((9, 0), (9, 0), (9, 0)), 3, 9),
        (pages((9, 0), (5, 1), (3, 1)), 3, 9),  # nobody can tell that overviews hold nothing new
        (pages((5, 1), (9, 0)), 2, 9),
        (pages((9, 1)), 1, 9),
        (pages((9, 0), (9, 1)), 2, 9),  # not reduced, whatever it says
        (pages((9, 0), (9, 4)), 2, 9),  # a mask would be lost
    ]
    for data, count, side in cases:
        header = reader.header(io.BytesIO(data))
        assert (header.pictures, header.size) == (count, (side, side))
        assert read(data).pixels == samples(side, side, below=side).tobytes()


def test_pictures_below_a_page_count() -> None:
    for subfile, count in ((0, 2), (1, 2)):
        out = io.BytesIO()
        with tifffile.TiffWriter(out) as file:
            file.write(samples(9, 14), subifds=1, metadata=None, photometric="minisblack")
            file.write(samples(5, 7), subfiletype=subfile, metadata=None, photometric="minisblack")
        assert reader.header(io.BytesIO(out.getvalue())).pictures == count


def test_a_thumbnail_of_exif_is_no_picture() -> None:
    data = bytearray(raw(samples(9, 14).tobytes(), (14, 9)))
    at = len(data) + len(data) % 2
    start = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, start + 2 + 12 * 9, at)
    data += b"\0" * (len(data) % 2) + directory([(259, 3, 1, b"\x06\0"), (513, 4, 1, b"\x08\0\0\0")], at, "<")
    assert reader.header(io.BytesIO(bytes(data))).pictures == 1


def test_directories_in_a_circle_or_outside() -> None:
    data = bytearray(raw(samples(9, 14).tobytes(), (14, 9)))
    start = struct.unpack_from("<I", data, 4)[0]
    for following, message in ((start, "circle"), (1 << 30, "does not lie inside")):
        struct.pack_into("<I", data, start + 2 + 12 * 9, following)
        refused(bytes(data), message)
    refused(b"II*\0\0\0\0\0" + bytes(9), "no directory")
    refused(b"II*\0", "header")


def test_a_long_chain_of_directories_below_each_other() -> None:
    data, at = b"II*\0\x08\0\0\0", 8
    for _ in range(3000):
        data += directory([(330, 4, 1, struct.pack("<I", at + 18))], at, "<")
        at = len(data)
    refused(data + directory([(330, 4, 1, bytes(4))], at, "<"), "circle, or without end")


def test_the_error_state_of_numpy_changes_nothing() -> None:
    with np.errstate(all="raise"):
        for options in (
            {"photometric": "miniswhite"},
            {"photometric": "minisblack", "compression": "lzw", "predictor": True},
        ):
            assert read(tiff(samples(9, 14), **options)).size == (14, 9)
        array = samples(9, 14, dtype="f4")
        array[0, 0] = np.nan
        floats = tiff(array, photometric="minisblack", compression="zlib", predictor=True)
        assert read(floats).pixels == array.tobytes()
