"""One picture in a file of its own: the smallest of fallback, bits-back and indices, at most 64 bytes above the first."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.codecs.fallback import encode_fallback
from ddpm_codec.codecs.lossless import single
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, ArchiveEncoder, encode_archive
from ddpm_codec.codecs.lossless.choice import CodingTotals
from ddpm_codec.codecs.lossless.opening import FALLBACK_OPTIONS
from ddpm_codec.codecs.lossless.single import SinglePicture, encode_single
from ddpm_codec.codecs.progressive import parameters
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import (
    CODEC_BITS_BACK,
    CODEC_SINGLE,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ROUTE_MODEL,
    ByteSource,
    Container,
    Head,
    ShortHead,
    read_container,
    write_single,
)
from ddpm_codec.container.layout import SINGLE_PARAMETERS, Values
from ddpm_codec.errors import FormatError
from ddpm_codec.files import decode_file, describe_file, encode_files
from ddpm_codec.picture import MODES, Picture, PictureInfo
from tests.golden.regenerate import EXACT, noisy_picture
from tests.helpers import PHOTO, pixels, same
from tests.toy_pixel_codes import PackedPixels

OPTIONS = CodingOptions(1 << 22, 64)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.open(str(EXACT), device="cpu")


def noise(height: int, width: int, *, alpha: bool = False, seed: int = 7) -> Picture:
    array = noisy_picture(seed, height, width)
    if alpha:
        array = np.dstack([array, np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)])
    return Picture(PictureInfo("picture.png", "RGBA" if alpha else "RGB", (width, height)), array.tobytes())


def opened(data: bytes) -> Container:
    return read_container(ByteSource(data))


def decoded(data: bytes, model: Model | None = None) -> Picture:
    (found,) = dict(ArchiveDecoder(opened(data), model=model).pictures()).values()
    return found


def few_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let indices be tried with a model without a pixel decoder, with a small register, and against a bad fallback."""
    monkeypatch.setattr("ddpm_codec.codecs.fallback.encode_fallback", lambda _: bytes(1 << 16))
    monkeypatch.setattr(single, "_suits_indices", lambda *_: True)
    monkeypatch.setattr(parameters, "register_for", lambda _: 6)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_at_most_64_bytes_above_its_fallback(mode: str) -> None:
    size = 5, 3
    data = np.random.default_rng(0).integers(1, 128, MODES[mode].byte_count(size)).astype(np.uint8).tobytes()
    if mode == "1":
        data = bytes(byte & 0xF8 for byte in data)
    picture = Picture(PictureInfo("some-name-123.png", mode, size), data)
    coded = encode_archive([picture], None, FALLBACK_OPTIONS)
    assert decoded(coded) == picture
    assert len(coded) <= len(encode_fallback(picture)) + 64
    named = encode_archive([picture], None, FALLBACK_OPTIONS, file_name="some-name-123.ddpm")
    # Preamble, flags, size and checksum, and the mode where it is not RGB or RGBA.
    assert len(named) == len(encode_fallback(picture)) + 10 + 1 + 2 + 4 + (mode not in ("RGB", "RGBA"))


def test_metadata_and_names_come_back(tmp_path: Path) -> None:
    source, path = tmp_path / "a.png", tmp_path / "b.ddpm"
    Image.new("P", (9, 4), 3).save(source, icc_profile=b"profile" * 9, transparency=3)
    report = encode_files([source], path, model="none", verify=True)
    assert (report.file_bytes, path.read_bytes()[9]) == (path.stat().st_size, CODEC_SINGLE)
    (tmp_path / "out").mkdir()
    assert decode_file(path, tmp_path / "out").notes == []
    assert same(source, tmp_path / "out" / "a.png")
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.info["icc_profile"] == b"profile" * 9
    assert len(path.read_bytes()) < 110


def test_one_picture_is_a_file_of_its_own_and_two_are_not(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "_suits_indices", lambda *_: False)
    session, picture = model.session(), noise(96, 128)
    one = encode_archive([picture], session, OPTIONS)
    two = encode_archive([picture, replace(picture, info=replace(picture.info, name="b.png"))], session, OPTIONS)
    assert (one[9], two[9]) == (CODEC_SINGLE, CODEC_BITS_BACK)
    assert decoded(one, model) == picture
    (image,) = opened(one).images
    assert (image.route, opened(one).head.model_name, opened(one).head.model_id.hex()) == (
        ROUTE_MODEL,
        "tiny",
        model.id[:8],
    )
    assert opened(one).head.parameters == {"crossing": 0, "steps": session.steps, "tile": 64}
    monkeypatch.setattr(CodingSession, "ships", True)
    shipped = encode_archive([picture], Model.open(str(EXACT), device="cpu").session(), OPTIONS)
    assert len(one) - len(shipped) == len("tiny") + 1
    assert len(shipped) - len(opened(shipped).read_block(0)) <= 40


def test_a_picture_larger_than_a_block_is_an_archive_where_the_model_codes_it(model: Model) -> None:
    picture = noise(256, 128)
    coded = encode_archive([picture], model.session(), CodingOptions(128 * 128, 64))
    assert (coded[9], len(opened(coded).blocks)) == (CODEC_BITS_BACK, 2)
    assert decoded(coded, model) == picture
    assert encode_archive([picture], None, CodingOptions(1, 8))[9] == CODEC_SINGLE


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_larger_than_a_block_is_at_most_64_bytes_above_its_fallback(mode: str, model: Model) -> None:
    size = 40, 30
    array = np.random.default_rng(0).integers(0, 256, MODES[mode].byte_count(size)).astype(np.uint8)
    for data in (array.tobytes(), bytes(len(array))):
        picture = Picture(PictureInfo("some-name-123.png", mode, size), data)
        for block_pixels in (64, 40 * 30 - 1):
            encoder = ArchiveEncoder(model.session(), CodingOptions(block_pixels, 8), io.BytesIO())
            encoder.add(picture)
            encoder.finish()
            out = io.BytesIO()
            assert encoder.write(out) == len(out.getvalue()) <= len(encode_fallback(picture)) + 64
            assert (out.getvalue()[9], encoder.totals.fallback_images) == (CODEC_SINGLE, 1)
            assert decoded(out.getvalue()) == picture


@pytest.mark.parametrize(
    ("bits_back", "indexed", "route"), [(200, 199, ROUTE_INDEXED), (199, 200, ROUTE_MODEL), (992, 992, ROUTE_FALLBACK)]
)
def test_the_smallest_file_is_kept_heads_included(
    bits_back: int, indexed: int, route: int, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = noise(32, 32)
    info, session = picture.info, model.session()
    fallback = len(encode_fallback(picture))

    def candidates(*_: object) -> list[SinglePicture]:
        # With a head of 12 bytes more than that of the fallback, less three for the parameters of both.
        return [
            SinglePicture(
                ShortHead(
                    Head(CODEC_SINGLE, "tiny", b"abcd", {}, dict.fromkeys(SINGLE_PARAMETERS[number], 1)),
                    info,
                    0,
                    number,
                ),
                bytes(fallback - 1000 + size),
                CodingTotals(1, 1),
            )
            for number, size in ((ROUTE_MODEL, bits_back), (ROUTE_INDEXED, indexed))
        ]

    monkeypatch.setattr(single, "_by_model", candidates)
    assert encode_single(picture, session, OPTIONS).short.route == route
    assert fallback > 1000


def test_the_model_is_tried_on_all_but_large_graphics_and_what_has_no_room_for_its_head(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, int]] = []

    def noted(picture: Picture, *_: object) -> list[SinglePicture]:
        tried.append(picture.size)
        return []

    monkeypatch.setattr(single, "_by_model", noted)
    ramp = np.add.outer(np.arange(257), np.arange(256)).astype(np.uint8)
    for height in (256, 257):
        grey = np.repeat(ramp[:height, :, None], 3, axis=2)
        picture = Picture(PictureInfo("a.png", "RGB", (256, height)), grey.tobytes())
        assert 8 * len(encode_fallback(picture)) < 0.75 * grey.size
        assert encode_single(picture, model.session(), OPTIONS).short.route == ROUTE_FALLBACK
    for mode in ("RGB", "L"):
        picture = Picture(PictureInfo("a.png", mode, (1, 1)), bytes(len(mode)))
        assert encode_single(picture, model.session(), OPTIONS).short.route == ROUTE_FALLBACK
    assert tried == [(256, 256)]


@pytest.mark.parametrize("size", [(24, 16), (13, 9), (1, 5)])
@pytest.mark.parametrize("alpha", [False, True])
def test_indices_code_what_is_too_small_to_seed_a_stack(
    size: tuple[int, int], alpha: bool, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few_indices(monkeypatch)
    picture = noise(*size, alpha=alpha)
    coded = encode_single(picture, model.session(), OPTIONS)
    assert coded.short.route == ROUTE_INDEXED
    assert coded.totals.net_dims == 3 * picture.info.pixel_count
    data = coded.to_bytes("")
    assert decoded(data, model) == picture
    (tmp_path / "x.ddpm").write_bytes(data)
    facts = describe_file(tmp_path / "x.ddpm")
    assert (facts.codec, facts.coded_by, facts.model) == ("indexed lossless", ("model",), "tiny")
    indices = model.session().for_indices()
    assert facts.parameters == {"crossing": indices.crossing, "steps": indices.steps, "register_bits": 6}


def test_damage_of_indices_behind_a_right_checksum_never_gives_other_pixels(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_indices(monkeypatch)
    picture = noise(16, 16)
    coded = encode_single(picture, model.session(), OPTIONS)
    bodies = [coded.body[:-1], coded.body + b"\1", b"", coded.body[: len(coded.body) // 2]]
    for place in range(0, len(coded.body), 29):
        bodies.append(coded.body[:place] + bytes([coded.body[place] ^ 1 << place % 8]) + coded.body[place + 1 :])
    refused = 0
    for body in bodies:
        try:
            # Padding of the last byte of a message means nothing.
            assert decoded(write_single(coded.short, body), model) == picture
        except FormatError:
            refused += 1
    assert refused > 0.9 * len(bodies)
    for key, value in (("register_bits", 17), ("register_bits", 3), ("steps", 0)):
        head = replace(coded.short.head, parameters=coded.short.head.parameters | {key: value})
        with pytest.raises(FormatError, match="coding parameters are damaged"):
            decoded(write_single(replace(coded.short, head=head), coded.body), model)


@pytest.mark.parametrize("tile", [12, 0, 1 << 13])
def test_absurd_tiles_are_refused(tile: int, model: Model) -> None:
    session = model.session()
    values: Values = {"crossing": 0, "steps": session.steps, "tile": tile}
    head = Head(CODEC_SINGLE, "", bytes.fromhex(model.id)[:4], {}, values)
    with pytest.raises(FormatError, match="coding parameters are damaged"):
        decoded(write_single(ShortHead(head, noise(8, 8).info, route=ROUTE_MODEL), b"abc"), model)


def test_streams_of_a_pixel_decoder_go_through_whole_files(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(CodingSession, "pixels", PackedPixels(2))
    few_indices(monkeypatch)
    fresh = Model.open(str(EXACT), device="cpu")
    pictures = [noise(64, 96), noise(64, 96, alpha=True, seed=8), noise(16, 24, seed=9)]
    for picture in pictures:
        coded = encode_single(picture, fresh.session(), OPTIONS)
        assert coded.short.route != ROUTE_FALLBACK
        assert decoded(coded.to_bytes(""), fresh) == picture
    named = [replace(one, info=replace(one.info, name=f"{n}.png")) for n, one in enumerate(pictures)]
    monkeypatch.setattr("ddpm_codec.codecs.lossless.encoder.encode_fallback", lambda _: bytes(1 << 16))
    data = encode_archive(named, fresh.session(), OPTIONS)
    assert data[9] == CODEC_BITS_BACK
    assert [one for _, one in sorted(ArchiveDecoder(opened(data), model=fresh).pictures())] == named


def test_a_stream_is_read_like_a_file(photo_file: Path, tmp_path: Path) -> None:
    data = photo_file.read_bytes()
    assert data[9] == CODEC_SINGLE
    decode_file(io.BytesIO(data), tmp_path / "x.png")
    assert pixels(tmp_path / "x.png") == pixels(PHOTO)
