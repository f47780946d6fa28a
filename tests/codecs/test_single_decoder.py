"""Whole files of a model that has a pixel decoder: bits-back with streams, and small pictures by indices."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddpm_codec.codecs import fallback
from ddpm_codec.codecs.fallback import encode_fallback
from ddpm_codec.codecs.lossless import single
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, ArchiveEncoder, encode_archive
from ddpm_codec.codecs.lossless.single import encode_single
from ddpm_codec.codecs.session import Model
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import CODEC_BITS_BACK, CODEC_SINGLE, ROUTE_INDEXED, ROUTE_MODEL, ByteSource, read_container
from ddpm_codec.errors import FormatError, ModelError
from ddpm_codec.evaluation import bound_of
from ddpm_codec.isolation import isolated
from ddpm_codec.picture import Picture
from tests.codecs.test_single import noise
from tests.toy_exact import toy_exact, write_toy_exact

OPTIONS = CodingOptions(1 << 22, 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with isolated():
        yield Model.open(write_toy_exact(tmp_path_factory.mktemp("toy")), device="cpu")


def decoded(data: bytes, model: Model) -> list[Picture]:
    return [one for _, one in sorted(ArchiveDecoder(read_container(ByteSource(data)), model=model).pictures())]


@pytest.mark.parametrize(("size", "alpha"), [((24, 16), False), ((9, 13), True), ((40, 33), False)])
def test_small_pictures_are_coded_by_indices_for_fewer_bytes_than_the_fallback(
    size: tuple[int, int], alpha: bool, model: Model
) -> None:
    picture = noise(*size, alpha=alpha)
    coded = encode_single(picture, model.session(), OPTIONS)
    data = coded.to_bytes("")
    assert decoded(data, model) == [picture]
    assert len(data) <= len(encode_fallback(picture)) + 64
    if size == (24, 16):
        assert coded.short.route == ROUTE_INDEXED


@pytest.mark.parametrize("crossing", [0, 1])
def test_the_chain_ends_at_the_crossing_that_the_head_names(
    crossing: int, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "encode_fallback", lambda _: bytes(1 << 20))
    monkeypatch.setattr(single, "INDEXED_PIXELS", 1)
    picture = noise(96, 128)
    session = model.session(3, crossing)
    coded = encode_single(picture, session, OPTIONS)
    assert coded.short.route == ROUTE_MODEL
    assert coded.short.head.parameters == {"crossing": crossing, "steps": 3, "tile": 64}
    assert decoded(coded.to_bytes(""), model) == [picture]
    wrong = replace(coded.short.head, parameters=coded.short.head.parameters | {"crossing": 1 - crossing})
    with pytest.raises(FormatError, match="cannot be decoded"):
        decoded(replace(coded, short=replace(coded.short, head=wrong)).to_bytes(""), model)
    nowhere = replace(coded.short.head, parameters=coded.short.head.parameters | {"crossing": 7})
    with pytest.raises(ModelError):
        decoded(replace(coded, short=replace(coded.short, head=nowhere)).to_bytes(""), model)


def test_an_archive_takes_what_the_bound_says(model: Model, tmp_path: Path) -> None:
    pictures = [noise(64, 96, seed=seed) for seed in range(12)]
    pictures = [replace(one, info=replace(one.info, name=f"{n}.png")) for n, one in enumerate(pictures)]
    with (tmp_path / "spool").open("w+b") as spool:
        encoder = ArchiveEncoder(model.session(), OPTIONS, spool)
        for picture in pictures:
            encoder.add(picture)
        encoder.finish()
        with (tmp_path / "x.ddpm").open("wb") as file:
            encoder.write(file)
    data = (tmp_path / "x.ddpm").read_bytes()
    assert data[9] == CODEC_BITS_BACK
    assert decoded(data, model) == pictures
    bound = bound_of([one.array() for one in pictures], toy_exact(), tile=64).pooled_bpd
    # Two draws of the noise of about 200,000 dimensions; and streams of small tiles end with up to a word each.
    assert encoder.totals.net_bits / encoder.totals.net_dims == pytest.approx(bound, abs=0.03)


def test_damage_behind_a_right_checksum_is_refused(model: Model) -> None:
    for picture, route in ((noise(24, 24), ROUTE_INDEXED), (noise(96, 128), ROUTE_MODEL)):
        coded = encode_single(picture, model.session(), OPTIONS)
        assert coded.short.route == route
        for place in range(5, len(coded.body), len(coded.body) // 3):
            body = coded.body[:place] + bytes([coded.body[place] ^ 4]) + coded.body[place + 1 :]
            with pytest.raises(FormatError, match="cannot be decoded"):
                decoded(replace(coded, body=body).to_bytes(""), model)


def test_one_picture_alone_is_a_single_file(model: Model) -> None:
    data = encode_archive([noise(16, 16)], model.session(), OPTIONS)
    assert data[9] == CODEC_SINGLE
    assert decoded(data, model) == [noise(16, 16)]
