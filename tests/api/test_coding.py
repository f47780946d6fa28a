"""Images to bytes and back in memory: what comes back of every kind of image, what is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

import ddpm_codec
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.files import encode_files, encode_progressive_files
from tests.api.conftest import photo
from tests.golden.regenerate import EXACT, FLOAT, noisy_picture

Pixels = NDArray[np.uint8]

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (2,), (3,), (4,)]))


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
    (np.zeros((4, 4), np.uint64), {}, TypeError, "uint64"),
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


def test_two_threads_share_a_model() -> None:
    pictures = [noisy_picture(seed, 72, 72) for seed in range(4)]
    expected = [ddpm_codec.encode(picture, model=EXACT) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda picture: ddpm_codec.encode(picture, model=EXACT), pictures))
        back = list(pool.map(lambda data: ddpm_codec.decode(data, model=EXACT), found))
    assert found == expected
    assert all(np.array_equal(*pair) for pair in zip(back, pictures, strict=True))
