"""What Pillow users see of damaged, cut, foreign and closed .ddpm files."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

from ddpm_codec import encode_archive
from tests.golden.regenerate import FOLDER
from tests.helpers import SMALL, TINY
from tests.plugins.streams import opened, photo, saved


def test_without_its_model_a_picture_opens_but_does_not_load() -> None:
    with Image.open(FOLDER / "noise.ddpm") as image:
        assert image.size == (192, 128)
        with pytest.raises(OSError, match="was coded with model"):
            image.load()


@pytest.mark.parametrize("cut", [8, 9, 20])
def test_a_file_cut_in_its_table_is_not_identified(cut: int) -> None:
    data = (FOLDER / "noise.ddpm").read_bytes()
    with pytest.raises(UnidentifiedImageError, match=r"too short|cut short|damaged"):
        opened(data[:cut])


def test_other_files_are_left_to_other_plugins(tmp_path: Path) -> None:
    with Image.open(TINY) as image:
        assert image.format == "PNG"
    path = tmp_path / "x.ddpm"
    path.write_bytes(b"something else" * 9)
    with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
        Image.open(path)


def test_a_newer_version_is_said_to_be_one() -> None:
    data = bytearray((FOLDER / "noise.ddpm").read_bytes())
    data[8] = 99
    with pytest.raises(UnidentifiedImageError, match="newer version"):
        opened(bytes(data))


@pytest.mark.parametrize("name", ["noise.ddpm", "indices.ddpm", "drawn.ddpm"])
def test_a_damaged_byte_never_gives_wrong_pixels(name: str, tiny: str) -> None:
    data = (FOLDER / name).read_bytes()
    for at in range(len(data) // 7, len(data), len(data) // 7):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(OSError, match=r"damaged|cut short"), opened(bytes(damaged)) as image:
            image.load()


@pytest.mark.parametrize("name", ["noise.ddpm", "set.ddpm"])
def test_a_cut_lossless_file_is_an_os_error(name: str, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (FOLDER / name).read_bytes()
    for truncated_images in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", truncated_images)
        for end in (len(data) // 2, len(data) - 1):
            with pytest.raises(OSError, match=r"cut short|damaged"), opened(data[:end]) as image:
                image.load()


def test_damage_in_one_frame_leaves_the_others(tiny: str) -> None:
    pictures = {f"{index}.png": photo(SMALL).rotate(90 * index) for index in range(3)}
    data = bytearray(encode_archive(pictures, model="none", block_pixels=1))
    data[-40] ^= 1
    with opened(bytes(data)) as image:
        for frame, picture in enumerate(list(pictures.values())[:2]):
            image.seek(frame)
            assert image.tobytes() == picture.tobytes()
        image.seek(2)
        for _ in range(2):
            with pytest.raises(OSError, match="damaged"):
                image.load()
        image.seek(0)
        assert image.tobytes() == pictures["0.png"].tobytes()


def test_a_cut_progressive_file_loads_only_where_pillow_is_told_to(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (FOLDER / "indices.ddpm").read_bytes()
    with opened(data) as image:
        whole = np.asarray(image).astype(int)
    with opened(data[: len(data) // 2]) as image:
        assert image.size == (90, 60)
        with pytest.raises(OSError, match="image file is truncated"):
            image.load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with opened(data[: len(data) // 2]) as image:
        part = np.asarray(image).astype(int)
    assert 0 < np.abs(part - whole).mean() < 20
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    with opened(bytes(damaged)) as image, pytest.raises(OSError, match="damaged"):
        image.load()


def test_pillow_limits_the_pixels_of_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = Image.new("L", (8, 8)), Image.new("L", (64, 64))
    data = encode_archive({"a": small, "b": large}, model="none")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with opened(data) as image:
        with pytest.raises(Image.DecompressionBombError):
            image.seek(1)
        assert image.tell() == 0
        assert image.tobytes() == small.tobytes()
    with pytest.raises(Image.DecompressionBombError):
        opened(saved(large, model="none"))


def test_loading_one_picture_lets_go_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    photo(TINY).save(path, model="none")
    image = Image.open(path)
    file = image.fp
    assert file is not None
    image.load()
    assert file.closed
    assert image.tobytes() == photo(TINY).tobytes()
    stream = io.BytesIO(path.read_bytes())
    opened_stream = Image.open(stream)
    opened_stream.load()
    assert not stream.closed


@pytest.mark.parametrize("kind", ["path", "stream"])
def test_a_closed_image_does_not_load(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    photo(TINY).save(path, model="none", save_all=True, append_images=[photo(SMALL)])
    with Image.open(path if kind == "path" else io.BytesIO(path.read_bytes())) as image:
        pass
    with pytest.raises(ValueError, match="closed image"):
        image.load()
    image = Image.open(path)
    image.close()
    with pytest.raises(ValueError, match="closed image"):
        image.load()
