"""The library in memory: what comes back from every kind of image and source, what an archive decodes, what is refused."""

import doctest
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

import ddpm_codec
from ddpm_codec import api, picture
from ddpm_codec.codecs import description, session
from ddpm_codec.codecs.lossless import decoder as lossless_decoder
from ddpm_codec.codecs.progressive import parameters
from ddpm_codec.diffusion import bound as bound_module
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.files import encode_files, encode_progressive_files
from ddpm_codec.files.source import Source
from ddpm_codec.models import registry
from tests.golden.regenerate import EXACT, FLOAT, noisy_picture
from tests.helpers import PHOTO

Pixels = NDArray[np.uint8]

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (2,), (3,), (4,)]))


def photo() -> Pixels:
    return np.asarray(Image.open(PHOTO))


@pytest.fixture(scope="module", autouse=True)
def _quick_search() -> Iterator[None]:
    """Small pictures are searched in 2^6 states instead of 2^16: the same code, at a higher rate."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(parameters, "REGISTERS", ((1 << 20, 6),))
        yield


@pytest.fixture(scope="module")
def small() -> Pixels:
    return noisy_picture(21, 40, 56)


@pytest.fixture(scope="module")
def progressive(small: Pixels) -> bytes:
    return ddpm_codec.encode(small, progressive=True, model=EXACT, steps=8, device="cpu")


@settings(max_examples=40, deadline=None)
@given(SHAPES.flatmap(lambda s: hnp.arrays(np.uint8, (s[0], s[1], *s[2]))))
def test_arrays_come_back(image: Pixels) -> None:
    back = ddpm_codec.decode(ddpm_codec.encode(image, model=EXACT))
    assert back.dtype == np.uint8
    assert np.array_equal(back, image)


@pytest.mark.parametrize("view", ["reversed", "transposed", "read-only"])
def test_arrays_of_any_strides_come_back_and_stay_as_they_were(view: str, small: Pixels) -> None:
    image = {"reversed": small[::-1, ::2], "transposed": small.transpose(1, 0, 2), "read-only": small.copy()}[view]
    if view == "read-only":
        image.setflags(write=False)
    before = image.copy()
    back = ddpm_codec.decode(ddpm_codec.encode(image, model=EXACT), model=EXACT)
    assert np.array_equal(back, before)
    assert np.array_equal(image, before)
    assert back.flags.writeable


def test_a_photo_is_coded_by_the_model_and_is_what_the_files_hold(tmp_path: Path) -> None:
    """The same bytes as of a file on disk whose picture has the same name."""
    Image.fromarray(photo()).save(tmp_path / "picture.png")
    encode_files([tmp_path / "picture.png"], tmp_path / "picture.ddpm")
    data = ddpm_codec.encode(photo())
    assert data == (tmp_path / "picture.ddpm").read_bytes()
    assert ddpm_codec.info(data).model == "photo"
    assert np.array_equal(ddpm_codec.decode(data), photo())


def test_progressive_bytes_are_those_of_the_files(small: Pixels, progressive: bytes, tmp_path: Path) -> None:
    Image.fromarray(small).save(tmp_path / "picture.png")
    encode_progressive_files([tmp_path / "picture.png"], tmp_path / "picture.ddpm", steps=8, model=EXACT)
    assert progressive == (tmp_path / "picture.ddpm").read_bytes()
    assert np.array_equal(ddpm_codec.decode(progressive, model=EXACT), small)


def images() -> dict[str, Image.Image]:
    rng = np.random.default_rng(3)
    rgb = Image.fromarray(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8))
    found = {
        mode: rgb.convert(mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F")
    }
    found["LA"] = found["RGBA"].convert("LA")
    found["I;16"] = Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16))
    found["P"].info["transparency"] = 3
    exif = Image.Exif()
    exif[0x010E] = "a description"
    found["RGB"].info |= {"icc_profile": b"profile" * 9, "exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>"}
    return found


@pytest.mark.parametrize("mode", sorted(images()))
def test_pillow_images_of_every_mode_come_back(mode: str) -> None:
    image = images()[mode]
    data = ddpm_codec.encode(image, model="none")
    back = ddpm_codec.to_pil(data)
    assert (back.mode, back.size, back.tobytes()) == (image.mode, image.size, image.tobytes())
    assert back.getpalette() == image.getpalette()
    for key in ("transparency", "icc_profile", "xmp"):
        assert back.info.get(key) == image.info.get(key)
    assert back.info.get("exif", b"").removeprefix(b"Exif\0\0") == image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    expected = np.asarray(image)
    assert np.array_equal(ddpm_codec.decode(data), expected)
    assert ddpm_codec.decode(data).dtype == expected.dtype


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


def test_a_progressive_decoder_takes_any_pieces(small: Pixels, progressive: bytes) -> None:
    ends = set(ddpm_codec.info(progressive).section_ends[1:])
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    assert (decoder.info, decoder.level, decoder.lossless) == (None, None, False)
    with pytest.raises(ddpm_codec.FormatError, match="too short"):
        decoder.picture()
    better = [decoder.feed(progressive[at : at + 1]) for at in range(len(progressive))]
    assert {at + 1 for at, is_better in enumerate(better) if is_better} == ends
    assert (decoder.lossless, decoder.level, decoder.used_bytes) == (True, -1, len(progressive))
    assert np.array_equal(decoder.picture(), small)
    assert not decoder.feed(b"")


def test_half_a_file_is_the_picture_that_the_decoder_shows(small: Pixels, progressive: bytes) -> None:
    half = progressive[: len(progressive) // 2]
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    assert decoder.feed(half)
    assert not decoder.lossless
    assert np.array_equal(decoder.picture(), ddpm_codec.decode(half, model=EXACT))
    kinds = [decoder.picture(how) for how in ("mean", "sample", "flow")]
    errors = [float(np.mean((kind.astype(float) - small) ** 2)) for kind in kinds]
    assert errors[0] < errors[1]
    with pytest.raises(ddpm_codec.InputError, match="median"):
        decoder.picture("median")


def test_damage_stops_a_progressive_decoder_and_leaves_its_picture(small: Pixels, progressive: bytes) -> None:
    ends = ddpm_codec.info(progressive).section_ends
    damaged = bytearray(progressive)
    damaged[ends[1] + 5] ^= 64
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    with pytest.raises(ddpm_codec.FormatError, match=f"damaged after byte {ends[1]}"):
        decoder.feed(damaged)
    assert decoder.picture().shape == small.shape
    for foreign in (b"PNG", ddpm_codec.encode(small[:, :, 0])):
        with pytest.raises(ddpm_codec.FormatError, match=r"^<bytes>: is not a "):
            ddpm_codec.ProgressiveDecoder().feed(foreign)


def test_alpha_arrives_with_the_first_picture() -> None:
    image = np.dstack([noisy_picture(5, 24, 24), np.arange(576, dtype=np.uint16).reshape(24, 24).astype(np.uint8)])
    data = ddpm_codec.encode(image, progressive=True, model=EXACT, steps=8)
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    while not decoder.feed(data[(at := decoder._reader.file_bytes) : at + 16]):
        pass
    assert np.array_equal(decoder.picture()[:, :, 3], image[:, :, 3])
    assert decoder.pil().mode == "RGBA"


def test_limits_hold(small: Pixels) -> None:
    limited = ddpm_codec.encode(small, progressive=True, bpp=3.0, model=EXACT, steps=8)
    assert 8 * len(limited) <= 3.0 * small.shape[0] * small.shape[1]
    assert not np.array_equal(ddpm_codec.decode(limited, model=EXACT), small)
    good = ddpm_codec.encode(small, progressive=True, psnr=25.0, model=EXACT, steps=8)
    error = float(np.mean((ddpm_codec.decode(good, model=EXACT).astype(float) - small) ** 2))
    assert 10 * np.log10(255**2 / error) >= 25.0


def test_a_model_is_opened_once() -> None:
    model = ddpm_codec.open_model(EXACT, device="cpu")
    assert ddpm_codec.open_model(str(EXACT), device="cpu") is model
    image = noisy_picture(1, 100, 100)
    assert ddpm_codec.encode(image, model=model) == ddpm_codec.encode(image, model=EXACT)
    assert np.array_equal(ddpm_codec.decode(ddpm_codec.encode(image, model=model), model=model), image)
    with pytest.raises(ddpm_codec.InputError, match="opened on cpu"):
        ddpm_codec.encode(image, model=model, device="cuda")


def test_the_bound_is_that_of_the_command(tmp_path: Path) -> None:
    pictures = np.stack([noisy_picture(seed, 32, 32) for seed in range(3)])
    np.save(tmp_path / "x.npy", pictures)
    expected = evaluate_bpd(str(tmp_path / "x.npy"), model=str(EXACT), steps=8, device="cpu")
    for several in (pictures, list(pictures), [Image.fromarray(pixels) for pixels in pictures]):
        found = ddpm_codec.bound(several, model=EXACT, steps=8, device="cpu")
        assert found.to_dict() == expected.to_dict()
    assert ddpm_codec.bound(pictures[0], model=EXACT, steps=8).images == 1


@pytest.mark.parametrize("data", ["exact", "float"])
def test_threads_of_the_process_come_back(data: str) -> None:
    model = {"exact": EXACT, "float": FLOAT}[data]
    image, before = noisy_picture(2, 72, 80), torch.get_num_threads()
    coded = ddpm_codec.encode(image, model=model, threads=before + 1, device="cpu")
    assert torch.get_num_threads() == before
    archive = ddpm_codec.open_archive(coded, model=model)
    assert torch.get_num_threads() == before
    assert np.array_equal(archive["picture.png"], image)
    assert torch.get_num_threads() == before


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.zeros((4, 4), np.uint16), {}, TypeError, "uint16"),
    (np.zeros((4, 4)), {}, TypeError, "float64"),
    ([[1, 2]], {}, TypeError, "list"),
    (torch.zeros(3, 4, 4, dtype=torch.uint8), {}, TypeError, "Tensor"),
    (np.zeros((4, 4, 5), np.uint8), {}, ddpm_codec.InputError, r"\[4, 4, 5\]"),
    (np.zeros((0, 4), np.uint8), {}, ddpm_codec.InputError, "not empty"),
    (np.zeros((4, 4, 3), np.uint8), {"bpp": 1.0}, ddpm_codec.InputError, "progressive=True"),
    (np.zeros((4, 4, 3), np.uint8), {"progressive": True, "bpp": -1.0}, ddpm_codec.InputError, "positive"),
    (np.zeros((4, 4), np.uint8), {"progressive": True, "psnr": 30.0}, ddpm_codec.InputError, "mode L"),
    (np.zeros((4, 4, 3), np.uint8), {"tile": 9}, ddpm_codec.InputError, "multiple of 8"),
    (np.zeros((4, 4, 3), np.uint8), {"model": "no-such"}, ddpm_codec.ModelError, "no such model"),
    (np.zeros((4, 4, 3), np.uint8), {"steps": 999}, ddpm_codec.ModelError, "999"),
    (np.zeros((4, 4, 3), np.uint8), {"device": "tpu"}, ddpm_codec.InputError, "tpu"),
    (np.zeros((4, 4, 3), np.uint8), {"threads": 0}, ddpm_codec.InputError, "threads = 0"),
    (np.zeros((4, 4, 3), np.uint8), {"model": 5}, TypeError, "int"),
    (np.zeros((4, 4, 3), np.uint8), {"tile": 64.0}, ddpm_codec.InputError, r"tile = 64\.0"),
    (np.zeros((4, 4, 3), np.uint8), {"model": "none", "progressive": True}, ddpm_codec.InputError, "model none"),
]


@pytest.mark.parametrize(("image", "options", "kind", "message"), REFUSED)
def test_what_cannot_be_encoded_is_refused_in_one_line(
    image: Any,  # noqa: ANN401 - anything but an image
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message) as caught:
        ddpm_codec.encode(image, **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_decoded_is_refused_in_one_line(small: Pixels, tmp_path: Path) -> None:
    archive = ddpm_codec.encode_archive({"a.png": small, "b.png": small}, model="none")
    cases: list[tuple[Any, type[Exception], str]] = [
        (archive, ddpm_codec.InputError, "open_archive"),
        (archive[:-1], ddpm_codec.FormatError, "<bytes>"),
        (b"", ddpm_codec.FormatError, "<bytes>: is not a .ddpm file"),
        (tmp_path, ddpm_codec.InputError, "is a folder"),
        (str(tmp_path / "missing.ddpm"), ddpm_codec.InputError, r"missing\.ddpm: cannot be read"),
        ("nul\0byte", ddpm_codec.InputError, "cannot be read"),
        (7, TypeError, "int"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            ddpm_codec.decode(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(ddpm_codec.FormatError, match="pixels"):
        ddpm_codec.decode(ddpm_codec.encode(small, model="none"), max_pixels=99)
    for names in (["a.png", "a.png"], ["/a.png"], [""], []):
        with pytest.raises(ddpm_codec.InputError):
            ddpm_codec.encode_archive([(name, small) for name in names], model="none")


def test_names_load_what_they_need_and_no_more() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import ddpm_codec; took = time.perf_counter() - start\n"
        "heavy = {'torch', 'numpy', 'PIL', 'constriction'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(ddpm_codec.__all__) <= set(dir(ddpm_codec))\n"
        "import numpy as np; ddpm_codec.list_models()\n"
        "data = ddpm_codec.encode(np.zeros((9, 9, 3), np.uint8), model='none')\n"
        "assert ddpm_codec.info(data).images == 1 and not ddpm_codec.decode(data).any()\n"
        "assert 'torch' not in sys.modules\n"
        "print([type(getattr(ddpm_codec, name)).__name__ for name in ddpm_codec.__all__] and 'all there')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "all there"), done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddpm_codec.nothing


@pytest.mark.parametrize(
    "module",
    [ddpm_codec, api, session, description, bound_module, registry, picture],
    ids=lambda module: module.__name__,
)
def test_examples_in_docstrings_are_true(module: Any) -> None:  # noqa: ANN401 - modules
    result = doctest.testmod(module)
    assert result.attempted >= 3
    assert result.failed == 0


def test_every_public_name_has_an_example() -> None:
    bare = {"Image", "Source", "__version__", *(name for name in ddpm_codec.__all__ if name.endswith("Error"))}
    without = [n for n in ddpm_codec.__all__ if n not in bare and ">>>" not in (getattr(ddpm_codec, n).__doc__ or "")]
    assert without == []


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


def test_an_open_model_decodes_whatever_becomes_of_its_file(small: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(EXACT.read_bytes())
    model = ddpm_codec.open_model(path, device="cpu")
    data = ddpm_codec.encode(small, progressive=True, model=model, steps=8)
    path.unlink()
    assert np.array_equal(ddpm_codec.decode(data, model=model), small)
    decoder = ddpm_codec.ProgressiveDecoder(model=model)
    assert decoder.feed(data)
    with pytest.raises(ddpm_codec.InputError, match="opened on cpu"):
        ddpm_codec.decode(data, model=model, device="cuda")
    with pytest.raises(ddpm_codec.ModelError, match="is another model"):
        ddpm_codec.decode(data, model=ddpm_codec.open_model("cifar10", device="cpu"))


def test_streams_that_unpack_are_read_as_they_are_unpacked(progressive: bytes, small: Pixels, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.gz", "wb") as packed:
        packed.write(progressive)
    with gzip.open(tmp_path / "x.gz", "rb") as source:
        assert np.array_equal(ddpm_codec.decode(cast(BinaryIO, source), model=EXACT), small)
    with pytest.raises(TypeError, match="gives str"):
        ddpm_codec.decode(cast(BinaryIO, io.StringIO("text")))


def test_a_refused_file_stays_refused(progressive: bytes) -> None:
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT, max_pixels=10)
    for data in (progressive, b"", progressive[50:]):
        with pytest.raises(ddpm_codec.FormatError, match="pixels"):
            decoder.feed(data)


def test_a_closed_archive_says_so_and_archives_are_compared_by_identity(small: Pixels) -> None:
    data = ddpm_codec.encode_archive({"a.png": small}, model="none")
    archive, other = ddpm_codec.open_archive(data), ddpm_codec.open_archive(data)
    assert archive == archive
    assert archive != other
    assert len({archive, other}) == 2
    archive.close()
    with pytest.raises(ValueError, match="closed"):
        archive["a.png"]


def test_two_threads_share_a_model() -> None:
    pictures = [noisy_picture(seed, 72, 72) for seed in range(4)]
    expected = [ddpm_codec.encode(picture, model=EXACT) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda picture: ddpm_codec.encode(picture, model=EXACT), pictures))
        back = list(pool.map(lambda data: ddpm_codec.decode(data, model=EXACT), found))
    assert found == expected
    assert all(np.array_equal(*pair) for pair in zip(back, pictures, strict=True))
