"""Files in, files out, with the model that ships: what comes back, what is refused, and what is left behind."""

import errno
import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ddpm_codec
from ddpm_codec.codecs import session
from ddpm_codec.codecs.lossless import decoder, single
from ddpm_codec.container import ContainerWriter
from ddpm_codec.errors import (
    FormatError,
    InputError,
    OutputError,
    OutputExistsError,
)
from ddpm_codec.files import decode_file, describe_file, encode_files, encode_progressive_files
from ddpm_codec.files.output import plan_names
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.protocol import CodecModel
from ddpm_codec.picture import Picture, PictureInfo
from tests.containers import read_archive
from tests.golden.regenerate import EXACT, FLOAT, noisy_picture
from tests.helpers import PHOTO, SMALL, leftovers, same


def test_a_photo_comes_back_and_is_smaller_than_the_fallback(photo_file: Path, tmp_path: Path) -> None:
    report = decode_file(photo_file, tmp_path / "x.png")
    assert same(PHOTO, tmp_path / "x.png")
    assert report.model == "photo"
    plain = encode_files([PHOTO], tmp_path / "plain.ddpm", model="none")
    assert photo_file.stat().st_size < plain.file_bytes


def test_the_same_input_gives_the_same_bytes(photo_file: Path, tmp_path: Path) -> None:
    encode_files([PHOTO], tmp_path / "again.ddpm", verify=True)
    assert (tmp_path / "again.ddpm").read_bytes() == photo_file.read_bytes()
    assert leftovers(tmp_path) == []


def test_an_archive_comes_back_whole(blocks_file: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = blocks_file
    rows = {row["name"]: row["coded_by"] for row in describe_file(path).to_json()["pictures"]}
    assert rows["grey.png"] == "fallback"
    assert rows["big.png"] == rows["turn0.png"] == "model"
    assert describe_file(path).blocks == 5
    decode_file(path, tmp_path / "out")
    assert all(same(folder / name, tmp_path / "out" / name) for name in rows)


def odd_pictures() -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    rgb = Image.fromarray(noise[:, :, :3].copy())
    rgba = Image.fromarray(noise)
    return {
        "rgb.png": (rgb, {}),
        "rgba.png": (rgba, {}),
        "grey.png": (rgb.convert("L"), {}),
        "greyalpha.png": (rgba.convert("LA"), {}),
        "bits.png": (rgb.convert("1"), {}),
        "palette.png": (rgb.quantize(16), {"transparency": 3}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16)), {}),
        "cmyk.tiff": (rgb.convert("CMYK"), {}),
        "float.tiff": (Image.fromarray(rng.normal(size=(5, 6)).astype(np.float32)), {}),
        "one.png": (rgb.crop((0, 0, 1, 1)), {}),
        "row.png": (rgb.resize((3000, 1)), {}),
        "column.png": (rgb.resize((1, 2000)), {}),
        "clear.png": (Image.fromarray(np.dstack([noise[:, :, :3], np.zeros((20, 30), np.uint8)])), {}),
    }


@pytest.mark.parametrize("model", ["none", "photo"])
def test_every_kind_of_picture_comes_back(model: str, tmp_path: Path) -> None:
    pictures = odd_pictures()
    source = tmp_path / "in"
    source.mkdir()
    for name, (image, options) in pictures.items():
        image.save(source / name, **options)
    encode_files([source], tmp_path / "x.ddpm", model=model)
    decode_file(tmp_path / "x.ddpm", tmp_path / "out")
    assert all(same(source / name, tmp_path / "out" / name) for name in pictures)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (65, 64), (1500, 1), (110, 100)])
def test_a_file_is_hardly_larger_than_its_fallback(size: tuple[int, int], tmp_path: Path) -> None:
    for kind in ("photo", "noise", "flat"):
        image = Image.open(PHOTO).resize(size)
        if kind == "noise":
            image = Image.effect_noise(size, 90).convert("RGB")
        if kind == "flat":
            image = Image.new("RGB", size, (9, 9, 9))
        image.save(tmp_path / "x.png")
        coded = encode_files([tmp_path / "x.png"], tmp_path / "m.ddpm", overwrite=True)
        plain = encode_files([tmp_path / "x.png"], tmp_path / "p.ddpm", model="none", overwrite=True)
        assert coded.file_bytes <= plain.file_bytes
        decode_file(tmp_path / "m.ddpm", tmp_path / "y.png", overwrite=True)
        assert same(tmp_path / "x.png", tmp_path / "y.png")


def test_mixed_pictures_that_the_model_does_not_serve_cost_no_more(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(1)
    for index in range(30):
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels if index % 2 else pixels[:, :, 0]).save(source / f"{index:02d}.png")
    coded = encode_files([source], tmp_path / "m.ddpm")
    assert coded.file_bytes <= encode_files([source], tmp_path / "p.ddpm", model="none").file_bytes


def test_metadata_comes_back_unless_stripped(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.open(SMALL).save(tmp_path / "a.png", icc_profile=b"profile" * 30, exif=exif.tobytes())
    encode_files([tmp_path / "a.png"], tmp_path / "a.ddpm")
    decode_file(tmp_path / "a.ddpm", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        assert after.info["icc_profile"] == before.info["icc_profile"]
        assert after.info["exif"] == before.info["exif"]
    report = decode_file(tmp_path / "a.ddpm", tmp_path / "b.bmp")
    assert len(report.notes) == 2
    encode_files([tmp_path / "a.png"], tmp_path / "s.ddpm", strip=True)
    decode_file(tmp_path / "s.ddpm", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as bare:
        assert "icc_profile" not in bare.info


def test_metadata_that_no_writer_takes_does_not_cost_the_pixels(tmp_path: Path) -> None:
    image = Image.open(SMALL).convert("CMYK")
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage")
    encode_files([tmp_path / "a.jpg"], tmp_path / "a.ddpm")
    report = decode_file(tmp_path / "a.ddpm", tmp_path / "a.tiff")
    assert report.notes
    assert Image.open(tmp_path / "a.tiff").tobytes() == Image.open(tmp_path / "a.jpg").tobytes()


def test_outputs_are_not_overwritten_or_mistaken(photo_file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        decode_file(photo_file, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == b"mine"
    with pytest.raises(InputError, match="lose"):
        decode_file(photo_file, tmp_path / "x.jpg")
    (tmp_path / "x.ddpm").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        encode_files([PHOTO], tmp_path / "x.ddpm")
    assert (tmp_path / "x.ddpm").read_bytes() == b"mine"
    with pytest.raises(OutputError):
        encode_files([PHOTO], tmp_path / "no" / "x.ddpm")
    copy = tmp_path / "copy"
    copy.write_bytes(PHOTO.read_bytes())
    with pytest.raises(InputError, match="one of the inputs"):
        encode_files([copy], copy, overwrite=True)
    assert copy.read_bytes() == PHOTO.read_bytes()
    decode_file(photo_file, tmp_path / "x.png", overwrite=True)
    assert same(PHOTO, tmp_path / "x.png")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["x.jpg", "x.PNG", "x.webp", "x.tiff"])
def test_a_file_is_not_given_the_name_of_a_picture(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"{name}: {Path(name).suffix} is an image extension; name the output \*\.ddpm"
    ):
        encode_files([PHOTO], tmp_path / name, model="none", overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x", "x.bin", "x.png.ddpm"])
def test_any_other_name_will_do(name: str, tmp_path: Path) -> None:
    encode_files([SMALL], tmp_path / name, model="none")
    assert describe_file(tmp_path / name).images == 1


def test_the_network_is_timed_where_the_fallback_wins(tmp_path: Path) -> None:
    Image.merge("RGB", [Image.effect_noise((48, 48), 90) for _ in range(3)]).save(tmp_path / "a.png")
    report = encode_files([tmp_path / "a.png"], tmp_path / "x.ddpm")
    assert (report.model, report.fallback_images, report.net_dims) == (None, 1, 0)
    assert 0 < report.network_seconds < report.coding_seconds
    assert report.coder_seconds == report.coding_seconds - report.network_seconds


def test_the_network_is_timed_in_whichever_chain_codes(tmp_path: Path) -> None:
    Image.open(PHOTO).crop((0, 0, 24, 24)).save(tmp_path / "a.png")
    for name in ("x.ddpm", "y.ddpm"):
        report = encode_files([tmp_path / "a.png"], tmp_path / name)
        facts = describe_file(tmp_path / name)
        assert (report.model, facts.codec) == ("photo", "indexed lossless")
        assert 0 < report.network_seconds < report.coding_seconds
    decoded = decode_file(tmp_path / "y.ddpm", tmp_path / "b.png")
    assert 0 < decoded.network_seconds < decoded.coding_seconds


def test_a_model_is_opened_once_for_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "own.safetensors", []

    def noted(found: Path) -> CodecModel:
        seen.append(found)
        return open_model(found)

    monkeypatch.setattr(session, "open_model", noted)
    path.write_bytes(EXACT.read_bytes())
    Image.fromarray(noisy_picture(0, 24, 16)).save(tmp_path / "a.png")
    for name in ("x.ddpm", "y.ddpm"):
        encode_files([tmp_path / "a.png"], tmp_path / name, model=path, verify=True)
        encode_progressive_files([tmp_path / "a.png"], tmp_path / f"p{name}", model=path, verify=True)
    assert len(seen) == 1
    # Another model under the same name is another model.
    path.write_bytes(FLOAT.read_bytes())
    encode_files([tmp_path / "a.png"], tmp_path / "z.ddpm", model=path)
    assert len(seen) == 2


def test_a_folder_that_is_there_gets_all_pictures_or_none(blocks_file: tuple[Path, Path], tmp_path: Path) -> None:
    _, path = blocks_file
    out = tmp_path / "out"
    out.mkdir()
    (out / "turn2.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        decode_file(path, out)
    assert [p.name for p in out.iterdir()] == ["turn2.png"]
    (out / "turn2.png").unlink()
    (out / "turn2.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        decode_file(path, out, overwrite=True)
    assert [p.name for p in out.iterdir()] == ["turn2.png"]


def test_several_pictures_need_a_folder(blocks_file: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png"):
        with pytest.raises(InputError, match="the output must be a folder"):
            decode_file(blocks_file[1], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_planned_names_never_collide() -> None:
    names = ["n/a.bmp", "n/a.bmp.png", "n/a.png/q.png", "b.jpg", "B.tif", "b.png", "x" * 300 + ".jpg"]
    planned = [str(name) for name in plan_names([PictureInfo(name, "RGB", (1, 1)) for name in names], None)]
    assert len({name.casefold() for name in planned}) == len(names)
    folders = {str(Path(name).parent) for name in planned}
    assert not folders & set(planned)
    assert all(name.endswith(".png") and len(Path(name).name) <= 255 for name in planned)
    assert planned[2] == "n/a.png/q.png"


def test_a_picture_never_gets_the_name_of_another() -> None:
    infos = [PictureInfo(name, "RGB", (1, 1)) for name in ("a.PNG", "a.png", "p.pcx", "p.png", "q.bmp")]
    planned = [str(name) for name in plan_names(infos, None)]
    assert planned == ["a.PNG.png", "a.png", "p.pcx.png", "p.png", "q.png"]


def test_decoding_says_which_picture_went_where_and_all_that_a_format_does_not_hold(tmp_path: Path) -> None:
    pictures = {"a.PNG": (1, "RGB"), "a.png": (2, "RGB"), "b": (3, "P"), "c": (4, "LA")}
    data = ddpm_codec.encode_archive(
        {name: Image.new(mode, (2, 2), shade) for name, (shade, mode) in pictures.items()}, model="none"
    )
    report = decode_file(data, tmp_path / "out")
    assert dict(report.pictures) == {
        name: str(tmp_path / "out" / file)
        for name, file in {"a.PNG": "a.PNG.png", "a.png": "a.png", "b": "b.png", "c": "c.png"}.items()
    }
    with pytest.raises(InputError, match=r"^2 of 4 pictures: .*b\.webp: .*; .*c\.webp: [^\n]*$"):
        decode_file(data, tmp_path / "webp", output_format="webp")
    assert not (tmp_path / "webp").exists()


@pytest.mark.parametrize("content", [None, b"", b"no picture", PHOTO.read_bytes()[:3000]])
def test_a_bad_input_leaves_nothing_behind(content: bytes | None, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png"):
        encode_files([SMALL, bad], tmp_path / "x.ddpm")
    assert [p.name for p in tmp_path.iterdir()] == ([] if content is None else ["bad.png"])


def test_frames_are_refused_unless_the_first_is_asked_for(tmp_path: Path) -> None:
    frames = [Image.effect_noise((9, 9), 50 + index).convert("P") for index in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="frames"):
        encode_files([tmp_path / "a.gif"], tmp_path / "x.ddpm")
    encode_files([tmp_path / "a.gif"], tmp_path / "x.ddpm", first_frame=True)
    assert describe_file(tmp_path / "x.ddpm").images == 1


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ContainerWriter, "_assemble", full)
    monkeypatch.setattr(single, "write_single", full)
    for inputs in ([SMALL, PHOTO], [SMALL]):
        with pytest.raises(OutputError, match="No space left"):
            encode_files(inputs, tmp_path / "x.ddpm", model="none")
    assert list(tmp_path.iterdir()) == []


def test_verification_notices_wrong_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read from the file is another picture than the one that was encoded, by a single sample."""
    decoded = decoder.LosslessDecoder.decode

    def damaged(self: decoder.LosslessDecoder, block: bytes) -> list[tuple[int, Picture]]:
        pairs = decoded(self, block)
        return [(index, replace(p, pixels=bytes([p.pixels[0] ^ 1]) + p.pixels[1:])) for index, p in pairs]

    monkeypatch.setattr(decoder.LosslessDecoder, "decode", damaged)
    with pytest.raises(FormatError, match="does not decode to the same"):
        encode_files([SMALL, PHOTO], tmp_path / "x.ddpm", model="none", verify=True)
    assert list(tmp_path.iterdir()) == []


def test_the_bound_agrees_with_the_file(without_indices: None, tmp_path: Path) -> None:
    from ddpm_codec.evaluation import evaluate_bpd

    # Noise is the same everywhere: the tiles that the fallback takes as seeds are like the others.
    Image.fromarray(noisy_picture(5, 256, 256)).save(tmp_path / "noise.png")
    values = evaluate_bpd(str(tmp_path / "noise.png"), model=str(EXACT), tile=64).to_json()
    assert values["dtype"] == "exact"
    parts = values["prior_bpd"] + sum(values["diffusion_bpd"]) + values["reconstruction_bpd"]
    assert parts == pytest.approx(values["total_bpd"])
    report = encode_files([tmp_path / "noise.png"], tmp_path / "x.ddpm", model=str(EXACT), tile=64)
    # Two noise draws of about 190,000 dimensions, whose cost varies by about 2 bits each.
    assert report.net_bits / report.net_dims == pytest.approx(values["total_bpd"], abs=0.02)


def test_the_checksum_of_pixels_is_that_of_zlib(photo_file: Path) -> None:
    """FORMAT.md, 7.3: CRC-32 of the RGB bytes of the regions, at the start of the body."""
    payload = read_archive(photo_file).read_block(0)
    pixels = Image.open(io.BytesIO(PHOTO.read_bytes())).convert("RGB").tobytes()
    assert int.from_bytes(payload[:4], "little") == zlib.crc32(pixels)
