"""Whether ``docs/FORMAT.md`` suffices: a decoder that was written from its section 11 agrees with the package."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.codecs import fallback
from ddpm_codec.codecs.lossless import colour_block, single
from ddpm_codec.codecs.progressive import encoder, message, parameters, steps
from ddpm_codec.codecs.progressive.message import cut_classes
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.files import decode_file, encode_progressive_files
from ddpm_codec.image_io import picture_from_image
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.model_file import load_model
from tests.containers import read_progressive
from tests.golden.regenerate import EXACT, EXPECTED, FOLDER, PREFIXES, noisy_picture
from tests.progressive import specification
from tests.progressive.specification import COSTS, UNSENT, Decoder, Pixels, messages
from tests.toy_exact import write_toy_exact

PATCH = {"whole_pixels": 1 << 10, "patch_side": 32}
"""So small that a small picture has many, and that the network does not see all of it with each."""


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    return load_model(EXACT)


def encoded(folder: Path, image: Image.Image, **metadata: Any) -> Path:  # noqa: ANN401
    """Encode a picture ``source.png`` down to level 0."""
    source, file = folder / "source.png", folder / "file.ddpm"
    image.save(source, **metadata)
    encode_progressive_files([source], file, steps=3, register_bits=6, tile=32, fallback=False, model=EXACT)
    return file


def test_tiles_of_a_pixel_decoder(tmp_path: Path) -> None:
    model = write_toy_exact(tmp_path)
    image = Image.fromarray(noisy_picture(6, 12, 19))
    image.save(tmp_path / "source.png")
    file = tmp_path / "file.ddpm"
    encode_progressive_files([tmp_path / "source.png"], file, register_bits=6, tile=8, fallback=False, model=model)
    decoder = Decoder(file.read_bytes(), load_model(model))
    assert decoder.head.crossing == 1
    assert decoder.pixels is not None
    assert np.array_equal(decoder.pixels, np.asarray(image))
    end = ends(file)[-7]
    decoder = Decoder(file.read_bytes()[:end], load_model(model))
    assert decoder.level == 0
    assert np.array_equal(decoder.mean_picture(), shown(file, tmp_path, end, model))


def ends(file: Path) -> list[int]:
    return list(read_progressive(file).ends)


def shown(file: Path, folder: Path, end: int, model: Path = EXACT) -> Pixels:
    """Return what the package shows of a file that is cut."""
    cut, output = folder / "cut.ddpm", folder / "cut.png"
    cut.write_bytes(file.read_bytes()[:end])
    decode_file(cut, output, model=model, device="cpu", reconstruction="mean")
    with Image.open(output) as image:
        return np.asarray(image)[..., :3]


@pytest.mark.parametrize("name", [pytest.param("indices.ddpm", marks=pytest.mark.slow), "drawn.ddpm"])
def test_golden_files_decode(name: str, model: FrozenModel) -> None:
    decoder = Decoder((FOLDER / name).read_bytes(), model)
    wanted = json.loads(PREFIXES.read_text(encoding="utf-8"))[name]["lossless"]
    assert decoder.pixels is not None
    assert decoder.head.name == b"noise.png"
    assert hashlib.sha256(decoder.pixels.tobytes()).hexdigest() == wanted["sha256"]


def test_the_golden_picture_without_sections_decodes(model: FrozenModel) -> None:
    decoder = Decoder((FOLDER / "small.ddpm").read_bytes(), model)
    wanted = json.loads(EXPECTED.read_text(encoding="utf-8"))["files"]["small.ddpm"]["small.png"]
    assert decoder.pixels is not None
    assert (decoder.head.name, decoder.head.model_name) == (b"", b"tiny")
    assert hashlib.sha256(decoder.pixels.tobytes()).hexdigest() == wanted["sha256"]


def test_a_transparent_picture_of_several_tiles_without_sections(
    model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(noisy_picture(6, 8, 261))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    session = CodingSession.for_encoding(str(EXACT), "cpu", 3)
    monkeypatch.setattr(single, "_suits_indices", lambda *_: True)
    monkeypatch.setattr(parameters, "register_for", lambda _: 6)
    monkeypatch.setattr(fallback, "encode_fallback", lambda _: bytes(1 << 16))
    monkeypatch.setattr(colour_block, "encode_colours", lambda *_: None)
    coded = single.encode_single(picture_from_image(image, "a.png"), session, CodingOptions(1 << 20, 512))
    decoder = Decoder(coded.to_bytes("a.ddpm"), model)
    assert decoder.head.single
    assert decoder.pixels is not None
    assert np.array_equal(decoder.pixels, np.asarray(image))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of six tiles, with levels of several messages: these are shorter here, for the picture is small."""
    folder = tmp_path_factory.mktemp("large")
    Image.fromarray(noisy_picture(400, 100, 150)).save(folder / "source.png")
    how: dict[str, Any] = {"steps": 3, "register_bits": 8, "tile": 64, "fallback": False, "model": EXACT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message, "MESSAGE_BITS", 1 << 12)
        patch.setattr(specification, "MESSAGE_SHIFT", 28)
        encode_progressive_files([folder / "source.png"], folder / "file.ddpm", **how)
        yield folder / "file.ddpm"


@pytest.mark.parametrize("place", ["a level", "within a step", "the last latents"])
def test_prefixes_show_the_same_mean(place: str, large: Path, model: FrozenModel, tmp_path: Path) -> None:
    file = large
    end = ends(file)[{"a level": 0, "within a step": -8, "the last latents": -7}[place]]
    decoder = Decoder(file.read_bytes()[: end + 10], model)
    assert (decoder.sent > 0) == (place == "within a step")
    assert (decoder.level == 0) == (place == "the last latents")
    assert decoder.pixels is None
    assert np.array_equal(decoder.mean_picture(), shown(file, tmp_path, end))


def test_transparent_picture_in_patches_with_name_and_metadata(
    model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "WHOLE_PIXELS", PATCH["whole_pixels"])
    monkeypatch.setattr(steps, "PATCH_SIDE", PATCH["patch_side"])
    monkeypatch.setattr(encoder, "LARGEST_SMALL_SECTION", 1)
    image = Image.fromarray(noisy_picture(5, 33, 98))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x010E] = "waves"
    file = encoded(tmp_path, image, exif=exif, icc_profile=b"profile")

    decoder = Decoder(file.read_bytes(), model, **PATCH)
    assert len(decoder.patches) == 8
    assert decoder.head.rgba
    assert decoder.head.name == b"source.png"
    assert decoder.head.metadata["icc"] == b"profile"
    assert b"waves" in decoder.head.metadata["exif"]
    assert decoder.pixels is not None
    assert np.array_equal(decoder.pixels, np.asarray(image))

    # The second patch of the first step is the last that is known: most of its dimensions were not sent.
    end = ends(file)[2]
    decoder = Decoder(file.read_bytes()[:end], model, **PATCH)
    assert decoder.level == decoder.head.steps + 1
    assert decoder.sent > 0
    assert np.array_equal(decoder.mean_picture(), shown(file, tmp_path, end))


def test_black_pixels_that_leave_nothing_on_the_stack(model: FrozenModel, tmp_path: Path) -> None:
    file = encoded(tmp_path, Image.new("RGB", (9, 7)))
    assert len(read_progressive(file).sections[-1]) == 2
    pixels = Decoder(file.read_bytes(), model).pixels
    assert pixels is not None
    assert not pixels.any()


@pytest.mark.parametrize("bits", [0, 1 << 15, 1 << 16, 100_000, 300_000])
@pytest.mark.parametrize("present", [(40,), (0, 1, 95), (41, 42, 43), tuple(range(20, 50))])
def test_messages_are_those_of_the_package(bits: int, present: tuple[int, ...]) -> None:
    cost = sum(COSTS[c] for c in present) / 65536
    classes = np.array([*present] * round(bits / cost) + [UNSENT], np.uint8)
    assert [(message.start, message.stop) for message in messages(classes)] == cut_classes(classes)
