"""Pillow opens and saves .ddpm files as it does its own formats."""

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageSequence, UnidentifiedImageError

import ddpm_codec
from ddpm_codec import encode, encode_archive, info, open_archive, pillow_plugin
from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_picture
from ddpm_codec.picture import MODES
from tests.golden.regenerate import EXACT, FOLDER
from tests.helpers import SMALL, TINY
from tests.plugins.streams import opened, photo, saved

ICC, XMP = b"a profile", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


@pytest.fixture
def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[270] = "a description"
    return tags


def test_a_model_coded_picture_round_trips(noise: NDArray[np.uint8], tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "noise.ddpm"
    Image.fromarray(noise).save(path, model=tiny, tile=64)
    assert info(path).codec == "bits-back lossless"
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("DDPM", "RGB", (192, 128))
        assert image.get_format_mimetype() == "image/x-ddpm"
        np.testing.assert_array_equal(np.asarray(image), noise)


def test_golden_files_open_with_the_pixels_that_they_were_made_from(noise: NDArray[np.uint8], tiny: str) -> None:
    with Image.open(FOLDER / "noise.ddpm") as image:
        np.testing.assert_array_equal(np.asarray(image), noise)


def test_steps_and_tile_reach_the_encoder(noise: NDArray[np.uint8], tiny: str) -> None:
    picture = Image.fromarray(noise)
    data = saved(picture, model=tiny, steps=4, tile=64)
    assert data == encode(picture, model=tiny, steps=4, tile=64)
    assert data != saved(picture, model=tiny, steps=8, tile=64)
    assert data != saved(picture, model=tiny, steps=4, tile=128)


def test_a_progressive_picture_round_trips(noise: NDArray[np.uint8], tiny: str) -> None:
    data = saved(Image.fromarray(noise[:8, :8]), model=tiny, progressive=True)
    assert info(data).codec == "progressive"
    with opened(data) as image:
        np.testing.assert_array_equal(np.asarray(image), noise[:8, :8])


def test_a_rate_makes_a_lossy_file_that_is_whole(noise: NDArray[np.uint8], tiny: str) -> None:
    data = saved(Image.fromarray(noise[:8, :16]), model=tiny, progressive=True, steps=4, tile=8, bpp=20)
    assert len(data) <= 20 * 8 * 16 / 8
    with opened(data) as image:
        error = np.asarray(image).astype(int) - noise[:8, :16]
    assert 0 < np.abs(error).mean() < 2


@pytest.mark.parametrize("mode", sorted(mode for mode in MODES if MODES[mode].in_pillow))
def test_every_mode_round_trips(mode: str) -> None:
    channels = photo(SMALL)
    if mode in ("RGBa", "La"):
        picture = channels.convert(mode[:-1] + "A").convert(mode)
    elif mode == "PA":
        picture = Image.merge("LA", [channels.getchannel(0), channels.getchannel(1)]).convert("PA")
    elif mode in ("LAB", "I;16L"):
        layout = MODES[mode]
        random = np.random.default_rng(0).integers(0, 256, layout.byte_count((96, 80)), np.uint8)
        picture = Image.frombytes(mode, (96, 80), random.tobytes())
    else:
        picture = channels.convert("L").convert(mode) if mode.startswith("I;16") else channels.convert(mode)
    with opened(saved(picture, model="none")) as image:
        assert image.mode == mode
        assert image.size == (96, 80)
        assert image.tobytes() == picture.tobytes()
        assert image.getpalette() == picture.getpalette()


def test_palette_and_transparency_round_trip() -> None:
    picture = photo(SMALL).convert("P", palette=Image.Palette.ADAPTIVE, colors=17)
    for transparency in (3, bytes(range(17))):
        picture.info["transparency"] = transparency
        with opened(saved(picture)) as image:
            assert image.info["transparency"] == transparency
            assert image.palette is not None
            assert image.palette.mode == "RGB"
            assert image.convert("RGBA").tobytes() == picture.convert("RGBA").tobytes()


def test_metadata_is_kept_replaced_or_left_out(exif: Image.Exif) -> None:
    picture = photo(TINY)
    picture.info |= {"icc_profile": ICC, "xmp": XMP, "exif": exif.tobytes()}
    data = saved(picture, model="none")
    with opened(data) as image:
        assert (image.info["icc_profile"], image.info["xmp"]) == (ICC, XMP)
        assert dict(image.getexif()) == {270: "a description"}
        # The bytes are what the other formats of Pillow give and take.
        assert image.info["exif"] == exif.tobytes()
        again = saved(image, model="none", icc_profile=None, xmp=b"other")
    with opened(again) as image:
        assert image.info.keys() == {"xmp", "exif"}
        assert image.info["xmp"] == b"other"
    exif[270] = "another"
    with opened(saved(picture, model="none", exif=exif)) as image:
        assert dict(image.getexif()) == {270: "another"}
    assert picture.info["exif"] != exif.tobytes()


def test_exif_survives_the_way_to_jpeg(exif: Image.Exif, tmp_path: Path) -> None:
    picture = photo(TINY).convert("RGB")
    picture.info["exif"] = exif.tobytes()
    with opened(saved(picture, model="none")) as image:
        image.save(tmp_path / "x.jpg", exif=image.info["exif"])
    with Image.open(tmp_path / "x.jpg") as image:
        assert dict(image.getexif()) == {270: "a description"}


def test_opening_and_seeking_load_no_torch_and_decode_nothing() -> None:
    code = f"""
import sys
import ddpm_codec.pillow_plugin
from PIL import Image
with Image.open({str(FOLDER / "set.ddpm")!r}) as image:
    found = []
    for frame in range(image.n_frames):
        image.seek(frame)
        found.append((image.mode, image.size, image.info))
    assert found[0][:2] == ("RGBA", (80, 96)), found
    heavy = {{"torch", "numba", "constriction"}} & set(sys.modules)
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_archive_has_frames(tiny: str) -> None:
    with open_archive(FOLDER / "set.ddpm", model=tiny) as archive, Image.open(FOLDER / "set.ddpm") as image:
        assert isinstance(image, pillow_plugin.DdpmImageFile)
        assert (image.n_frames, image.is_animated, image.names) == (8, True, tuple(archive.names))
        for frame in (7, 0, 3, 3, 1):
            image.seek(frame)
            assert image.tell() == frame
            wanted = archive.pil(archive.names[frame])
            assert (image.mode, image.size) == (wanted.mode, wanted.size)
            assert image.tobytes() == wanted.tobytes()
            assert image.getpalette() == wanted.getpalette()
        sizes = [frame.size for frame in ImageSequence.Iterator(image)]
        assert sizes == [info.size for info in archive.infos]
        for frame in (8, -1):
            with pytest.raises(EOFError):
                image.seek(frame)


def test_save_all_writes_an_archive(exif: Image.Exif, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = photo(SMALL), photo(TINY).convert("L")
    second.info["exif"] = exif.tobytes()
    path = tmp_path / "set.ddpm"
    first.save(path, save_all=True, append_images=[second], names=["a.png", "b/c.png"], model="none")
    with Image.open(path) as image:
        assert isinstance(image, pillow_plugin.DdpmImageFile)
        assert image.names == ("a.png", "b/c.png")
        assert image.tobytes() == first.tobytes()
        image.seek(1)
        assert image.tobytes() == second.tobytes()
        assert dict(image.getexif()) == {270: "a description"}
        image.seek(0)
        assert dict(image.getexif()) == {}
        # All frames of it, and what comes behind them, even if they are gathered first; the image stays where it was.
        monkeypatch.setattr(pillow_plugin, "encode_archive", lambda images, **how: encode_archive(dict(images), **how))
        data = saved(image, save_all=True, append_images=[first], model="none")
        assert image.tell() == 0
    with open_archive(data) as archive:
        assert [archive.pil(name).tobytes() for name in archive.names] == [
            first.tobytes(),
            second.tobytes(),
            first.tobytes(),
        ]


def test_save_all_of_one_picture_is_a_plain_file() -> None:
    picture = photo(TINY)
    assert saved(picture, save_all=True, model="none") == saved(picture, model="none")


def test_save_without_save_all_takes_the_frame(tiny: str) -> None:
    with Image.open(FOLDER / "set.ddpm") as image:
        image.seek(2)
        with opened(saved(image, model="none")) as frame:
            assert getattr(frame, "n_frames", None) == 1
            assert frame.tobytes() == image.tobytes()


def test_options_that_cannot_be_used_are_value_errors(tmp_path: Path) -> None:
    picture = photo(TINY).convert("RGB")
    bad: list[dict[str, Any]] = [
        {"bpp": 1.0},
        {"model": "nothing-of-this-name"},
        {"tile": 7},
        {"save_all": True, "append_images": [picture], "progressive": True},
        {"save_all": True, "append_images": [picture], "names": ["one"]},
        {"save_all": True, "append_images": [picture], "names": ["same", "same"]},
    ]
    for options in bad:
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            picture.save(tmp_path / "x.ddpm", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_mode_that_the_format_lacks_is_an_os_error() -> None:
    with pytest.raises(OSError, match="cannot write mode BGR;16 as DDPM"):
        pillow_plugin._save(FakeMode("BGR;16"), io.BytesIO(), "")


class FakeMode(Image.Image):
    """An image of a mode that Pillow no longer makes."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode, self.encoderinfo = mode, {}


def test_images_can_be_copied_and_parsed_piece_by_piece() -> None:
    picture = photo(TINY)
    data = saved(picture, model="none")
    with opened(data) as image:
        for twin in (copy.copy(image), copy.deepcopy(image), image.copy()):
            assert twin.tobytes() == picture.tobytes()
            np.asarray(twin)
        assert image.tobytes() == picture.tobytes()
    parser = ImageFile.Parser()
    for at in range(0, len(data), 100):
        parser.feed(data[at : at + 100])
    assert parser.close().tobytes() == picture.tobytes()


def test_loaded_images_can_be_written_to() -> None:
    with opened(saved(photo(TINY).convert("RGB"), model="none")) as image:
        pixels = image.load()
        assert pixels is not None
        pixels[0, 0] = (1, 2, 3)
        assert image.getpixel((0, 0)) == (1, 2, 3)


def test_registering_again_changes_nothing_but_the_model(tiny: str) -> None:
    formats = list(Image.ID)
    pillow_plugin.register(model=tiny)
    pillow_plugin.register(model=str(EXACT))
    assert formats == Image.ID
    assert Image.registered_extensions()[".ddpm"] == "DDPM"


def test_a_coded_file_is_no_input_of_the_library(tmp_path: Path) -> None:
    """Whether or not the plugin is registered."""
    (tmp_path / "x.ddpm").write_bytes(encode(np.zeros((4, 4, 3), np.uint8), model="none"))
    with pytest.raises(InputError, match="is not an image"):
        read_picture(tmp_path / "x.ddpm")


def test_an_archive_shows_the_frames_that_pillow_has_a_mode_for(tmp_path: Path) -> None:
    images: dict[str, NDArray[Any]] = {
        "a": np.zeros((4, 5, 3), np.uint16),
        "b": np.full((4, 5), 7, np.uint8),
        "c": np.ones((4, 5, 3), np.float32),
    }
    (tmp_path / "x.ddpm").write_bytes(ddpm_codec.encode_archive(images, model="none"))
    with Image.open(tmp_path / "x.ddpm") as image:
        assert isinstance(image, pillow_plugin.DdpmImageFile)
        assert (image.n_frames, image.tell(), image.getpixel((0, 0))) == (3, 1, 7)
        for frame in (0, 2):
            with pytest.raises(OSError, match="Pillow has no mode for samples of mode RGB;"):
                image.seek(frame)
    (tmp_path / "x.ddpm").write_bytes(ddpm_codec.encode(images["a"], model="none"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "x.ddpm")


def test_what_pillow_gives_in_part_is_refused_when_it_is_loaded_too(tmp_path: Path) -> None:
    wide = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 999
    (tmp_path / "wide.png").write_bytes(imagecodecs.png_encode(wide))
    tifffile.imwrite(
        tmp_path / "nir.tif", np.zeros((4, 5, 4), np.uint8), photometric="rgb", extrasamples=["unspecified"]
    )
    Image.fromarray(np.uint8(wide >> 8)).save(tmp_path / "plain.png")
    for name, reason in (("wide.png", "more than 8 bits"), ("nir.tif", "only a part of its file")):
        with Image.open(tmp_path / name) as image:
            image.load()
            with pytest.raises(ddpm_codec.InputError, match=reason):
                ddpm_codec.encode(image, model="none")
            with pytest.raises((OSError, ddpm_codec.InputError), match=reason):
                image.save(tmp_path / "x.ddpm", model="none")
            # A copy is no file any more.
            assert ddpm_codec.decode(ddpm_codec.encode(image.copy(), model="none")).dtype == np.uint8
    with Image.open(tmp_path / "plain.png") as image:
        image.load()
        assert np.array_equal(ddpm_codec.decode(ddpm_codec.encode(image, model="none")), np.uint8(wide >> 8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_through_pillow_images_is_upright_or_refused(
    orientation: int, compression: str | None, tmp_path: Path
) -> None:
    artist = "M\u00fcller".encode() + b"\0"
    pixels = np.arange(60, dtype=np.uint8).reshape(5, 12)
    tags: list[Any] = [(315, 2, len(artist), artist, True), (274, 3, 1, orientation, True)]
    how = "lzw" if compression else None
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=tags, compression=how)
    turns: dict[int, Any] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
    }
    turns |= {7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    refused = ""
    with Image.open(tmp_path / "a.tif") as image:
        try:
            coded = open_archive(encode(image, model="none"))
        except InputError as error:
            refused = str(error)
    if refused:
        # Pillow 13 decodes uncompressed ones of other sides as if they were turned already.
        assert orientation >= 5
        assert "other pixels than Pillow reads" in refused
        return
    found = Image.Exif()
    found.load(b"Exif\0\0" + coded.infos[0].metadata["exif"])
    # What Pillow has turned must not be turned once more.
    assert found.get(274, 1) == 1
    assert np.array_equal(coded[coded.names[0]], turns.get(orientation, np.asarray)(pixels))
    assert orientation > 1 or artist in coded.infos[0].metadata["exif"]
