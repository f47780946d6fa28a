"""Pictures to blocks and back: what shares a block, which codec has it, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm_codec.codecs import block
from ddpm_codec.codecs.fallback import encode_fallback
from ddpm_codec.codecs.latents import DiffusionLattice
from ddpm_codec.codecs.lossless import choice
from ddpm_codec.codecs.lossless import encoder as lossless
from ddpm_codec.codecs.lossless.archive import ArchiveEncoder
from ddpm_codec.codecs.lossless.choice import PICTURE_BYTES
from ddpm_codec.codecs.lossless.colour_block import ColourBody, encode_colours
from ddpm_codec.codecs.lossless.decoder import LosslessDecoder
from ddpm_codec.codecs.lossless.encoder import LosslessEncoder
from ddpm_codec.codecs.lossless.layout import FALLBACK, MODEL, BlockHeader
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import ROUTE_INDEXED, ByteSource, read_container
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture, PictureInfo

DATA = Path(__file__).resolve().parents[1] / "data"
TILE = 64
BLOCK = 120 * 120
REGION = 256 * 64
Blocks = list[tuple[BlockHeader, bytes]]
Model = Callable[[], DiffusionLattice]


@pytest.fixture(scope="module")
def model() -> Model:
    return CodingSession.for_encoding("photo", "cpu").lattice


def photo(name: str, width: int, height: int, mode: str = "RGB", turn: int = 0) -> Picture:
    """A crop of four turns of a photo; of RGBA, alpha is zero in its first row and has colours under it."""
    image = Image.new("RGB", (256, 256))
    for index in range(4):
        quarter = Image.open(DATA / "shutters_128x128.png").rotate(turn + 90 * index)
        image.paste(quarter, (index % 2 * 128, index // 2 * 128))
    image = image.crop((0, 0, width, height)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize((width, height), Image.Resampling.NEAREST))
    return Picture(PictureInfo(name, mode, image.size), image.tobytes())


def encode(pictures: list[Picture], model: Model | None, options: CodingOptions) -> tuple[Blocks, LosslessEncoder]:
    blocks: Blocks = []
    encoder = LosslessEncoder(model, options)
    for picture in pictures:
        blocks += [(block.header, block.data) for block in encoder.add(picture)]
    blocks += [(block.header, block.data) for block in encoder.finish()]
    return blocks, encoder


def decoder_of(pictures: list[Picture], model: Model | None, options: CodingOptions, blocks: Blocks) -> LosslessDecoder:
    return LosslessDecoder(model, options, [picture.info for picture in pictures], len(blocks))


def check(pictures: list[Picture], model: Model | None, options: CodingOptions) -> tuple[Blocks, LosslessEncoder]:
    """Encode, decode the blocks backwards, and compare."""
    blocks, encoder = encode(pictures, model, options)
    decoder = decoder_of(pictures, model, options, blocks)
    back = dict(pair for _, payload in reversed(blocks) for pair in decoder.decode(payload))
    assert back == dict(enumerate(pictures))
    assert decoder.missing() == []
    return blocks, encoder


def test_mixed_pictures_come_back_from_blocks_in_any_order(model: Model) -> None:
    grey = photo("g.png", 20, 20, "L")
    pictures = [photo("a.png", 96, 96), grey, photo("b.png", 96, 90, "RGBA", 90), photo("c.png", 120, 120, turn=180)]
    blocks, encoder = check(pictures, model, CodingOptions(BLOCK, TILE))
    assert [(header.kind, header.pictures) for header, _ in blocks] == [
        (MODEL, (0, 2)),
        (MODEL, (3,)),
        (FALLBACK, (1,)),
    ]
    assert encoder.totals.net_dims > 0
    assert encoder.totals.fallback_images == 1
    assert 0 < encoder.totals.net_bits < 8 * encoder.totals.net_dims


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_picture_is_cut_into_regions_that_come_back(mode: str, model: Model) -> None:
    blocks, _ = check([photo("a.png", 256, 241, mode)], model, CodingOptions(REGION, TILE))
    assert [header for header, _ in blocks] == [BlockHeader(MODEL, region, (0,)) for region in range(4)]


def test_what_the_model_does_not_make_smaller_goes_to_the_fallback(model: Model) -> None:
    rng = np.random.default_rng(0)
    noise = Picture(PictureInfo("noise.png", "RGB", (128, 100)), rng.bytes(128 * 100 * 3))
    flat = Picture(PictureInfo("flat.png", "RGB", (128, 100)), b"abc" * 12800)
    for options in (CodingOptions(1 << 20, TILE), CodingOptions(REGION // 2, TILE)):
        blocks, encoder = check([noise, flat], model, options)
        assert encoder.totals.net_dims == 0
        assert encoder.totals.fallback_images == 2
        assert {header.kind for header, _ in blocks} == {FALLBACK}


def speckled(name: str, side: int) -> Picture:
    """Eight colours at random: for the model noise, for the fallback three bits a pixel."""
    rng = np.random.default_rng(side)
    palette = rng.integers(0, 256, (8, 3), dtype=np.uint8)
    return Picture(PictureInfo(name, "RGB", (side, side)), palette[rng.integers(0, 8, (side, side))].tobytes())


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Get the number of pictures of each attempt to code a block by the model."""
    seen: list[int] = []

    def counted(model: DiffusionLattice, arrays: list[np.ndarray], tile: int) -> ColourBody | None:
        seen.append(len(arrays))
        return encode_colours(model, arrays, tile)

    monkeypatch.setattr(lossless, "encode_colours", counted)
    return seen


@pytest.mark.parametrize("tile", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_a_picture_that_the_model_codes_badly_goes_to_the_fallback_alone(
    tile: int, model: Model, attempts: list[int]
) -> None:
    pictures = [photo("a.png", 128, 128), speckled("b.png", 200), photo("c.png", 130, 120, "RGBA", 90)]
    options = CodingOptions(1 << 20, tile)
    blocks, encoder = check(pictures, model, options)
    assert [(header.kind, header.pictures) for header, _ in blocks] == [(MODEL, (0, 2)), (FALLBACK, (1,))]
    assert encoder.totals.fallback_images == 1
    assert attempts == [3, 2]
    # Of all three together the fallback is smaller than the model, which is what decided once.
    whole = encode_colours(model(), [picture.array() for picture in pictures], tile)
    assert whole is not None
    fallback = [len(encode_fallback(picture)) for picture in pictures]
    assert len(whole.data) > sum(fallback)
    apart = sum(len(payload) for one in (pictures[::2], pictures[1:2]) for _, payload in encode(one, model, options)[0])
    assert sum(len(payload) for _, payload in blocks) <= apart + PICTURE_BYTES < sum(fallback)


def test_a_block_that_the_model_wins_is_coded_once(model: Model, attempts: list[int]) -> None:
    blocks, _ = encode([photo("a.png", 128, 128), photo("b.png", 120, 128, turn=90)], model, CodingOptions(1 << 20, 64))
    assert [header.kind for header, _ in blocks] == [MODEL]
    assert attempts == [2]


def test_a_second_attempt_that_saves_nothing_is_not_taken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices within a block are estimates; what counts is bytes."""
    pictures = [photo("a.png", 128, 128), photo("b.png", 128, 128, turn=90)]
    expected, _ = encode(pictures, model, CodingOptions(1 << 20, 64))
    monkeypatch.setattr(lossless, "served_by_model", lambda *_: [True, False])
    assert check(pictures, model, CodingOptions(1 << 20, 64))[0] == expected


def test_slivers_in_tiny_tiles_do_not_make_blocks_that_the_decoder_refuses(
    model: Model, monkeypatch: pytest.MonkeyPatch, attempts: list[int]
) -> None:
    """With a limit of 60 tiles: one picture may have 30, and a block is closed when it has as many."""
    for module in (choice, block):
        monkeypatch.setattr(module, "MAX_BLOCK_TILES", 60)
    pictures = [photo(f"{index}.png", 248, 8) for index in range(2)] + [photo("c.png", 160, 8)] * 3
    check(pictures, model, CodingOptions(1 << 20, 8))
    assert attempts == [2, 1]


def test_without_a_model_everything_goes_to_the_fallback() -> None:
    pictures = [photo(f"{index}.png", 40, 40, turn=90 * index) for index in range(4)]
    blocks, encoder = check(pictures, None, CodingOptions(2 * 40 * 40, TILE))
    assert [header.pictures for header, _ in blocks] == [(0, 1), (2, 3)]
    assert encoder.totals.net_dims == 0
    sizes = sum(len(encode_fallback(picture)) for picture in pictures)
    assert sum(len(payload) for _, payload in blocks) <= sizes + 10 * len(blocks)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["RGB", "RGBA", "L", "1"])), max_size=6),
    st.sampled_from([1, 999, 70 * 70]),
    st.sampled_from([8, 64]),
)
def test_any_sizes_and_modes_come_back(sizes: list[tuple[int, int, str]], block_pixels: int, tile: int) -> None:
    rng = np.random.default_rng(len(sizes))
    pictures = []
    for index, (width, height, mode) in enumerate(sizes):
        info = PictureInfo(f"{index}.png", mode, (width, height))
        pixels = bytearray(rng.bytes(info.layout.byte_count(info.size)))
        if mode == "1":
            # The bits beyond the last column are zero.
            row = (width + 7) // 8
            for y in range(height):
                pixels[y * row + row - 1] &= 0xFF << (-width % 8) & 0xFF
        pictures.append(Picture(info, bytes(pixels)))
    check(pictures, None, CodingOptions(block_pixels, tile))


def test_the_same_pictures_give_the_same_blocks(model: Model) -> None:
    pictures = [photo("a.png", 96, 96), photo("b.png", 64, 64, "RGBA")]
    options = CodingOptions(1 << 20, TILE)
    assert encode(pictures, model, options)[0] == encode(pictures, model, options)[0]


def test_a_network_that_does_not_repeat_itself_is_noticed(model: Model) -> None:
    """Colours that differ from the checksum, however plausible, are never returned."""
    picture, options = photo("a.png", 128, 128), CodingOptions(1 << 20, TILE)
    blocks, _ = encode([picture], model, options)
    payload = bytearray(blocks[0][1])
    payload[len(blocks[0][0].pack())] ^= 1
    decoder = decoder_of([picture], model, options, blocks)
    with pytest.raises(FormatError, match="its pixels do not match their checksum"):
        decoder.decode(bytes(payload))
    assert decoder.missing() == [0]


def test_blocks_that_do_not_belong_are_refused(model: Model) -> None:
    options = CodingOptions(REGION, TILE)
    large, small, grey = photo("a.png", 256, 256), photo("b.png", 128, 64), photo("g.png", 9, 9, "L")
    regions, _ = encode([large], model, options)
    ((_, other),), _ = encode([grey], None, options)
    decoder = decoder_of([large], model, options, regions)
    assert decoder.decode(regions[0][1]) == []
    with pytest.raises(FormatError, match="repeats a region of a picture"):
        decoder.decode(regions[0][1])
    with pytest.raises(FormatError):
        decoder_of([small], model, options, regions).decode(regions[1][1])
    with pytest.raises(FormatError, match="more regions than the file has blocks"):
        LosslessDecoder(model, options, [large.info], 2).decode(regions[0][1])
    with pytest.raises(FormatError, match="mode the model does not support"):
        decoder_of([grey], model, options, regions).decode(regions[0][1])
    with pytest.raises(FormatError, match="needs a model that the file does not name"):
        decoder_of([large], None, options, regions).decode(regions[0][1])
    decoder = decoder_of([grey], None, options, [])
    decoder.decode(other)
    with pytest.raises(FormatError, match="repeats a picture"):
        decoder.decode(other)
    with pytest.raises(FormatError, match="a region of a picture, but a whole picture"):
        decoder_of([grey], None, options, []).decode(BlockHeader(FALLBACK, 1, (0,)).pack() + b"x")


def test_a_region_of_a_picture_that_is_lost_is_missing(model: Model) -> None:
    options = CodingOptions(REGION, TILE)
    pictures = [photo("a.png", 256, 256), photo("g.png", 9, 9, "L")]
    blocks, _ = encode(pictures, model, options)
    decoder = decoder_of(pictures, model, options, blocks)
    for number, (_, payload) in enumerate(blocks):
        if number != 2:
            decoder.decode(payload)
    assert decoder.missing() == [0]


def test_the_bytes_of_blocks_are_shared_out_among_their_pictures(model: Model) -> None:
    options = CodingOptions(BLOCK, TILE)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    pictures = [photo("a", 96, 96), photo("large", 256, 128), photo("grey", 33, 20, "L"), photo("b", 64, 48, "RGBA")]
    pictures.append(Picture(PictureInfo("noise", "RGB", (40, 40)), noise.tobytes()))
    spool, out = io.BytesIO(), io.BytesIO()
    archive = ArchiveEncoder(CodingSession.for_encoding("photo", "cpu"), options, spool)
    for picture in pictures:
        archive.add(picture)
    archive.finish()
    archive.write(out)
    container = read_container(ByteSource(out.getvalue()), max_pixels=1 << 30)
    blocks = sum(block.length for block in container.blocks if block is not None)
    coded = archive.coded
    assert sum(one.bytes for one in coded) == blocks
    assert [one.route for one in coded] == [entry.route for entry in container.images]
    # What noise takes is its own: close to its pixels, where the photo beside it takes less than half.
    assert 0.9 < coded[4].bytes / noise.nbytes < 1.2
    assert coded[0].bytes < 0.5 * 96 * 96 * 3


def test_a_picture_alone_takes_its_body() -> None:
    archive = ArchiveEncoder(CodingSession.for_encoding("photo", "cpu"), CodingOptions(BLOCK, TILE), io.BytesIO())
    archive.add(photo("a", 32, 32))
    archive.finish()
    out = io.BytesIO()
    size = archive.write(out, file_name="a.ddpm")
    assert [one.route for one in archive.coded] == [ROUTE_INDEXED]
    assert 0 < size - archive.coded[0].bytes < 64


@given(st.integers(0, 10_000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_shares_add_up_and_follow_their_weights(total: int, weights: list[float]) -> None:
    shares = choice.shared_out(total, weights)
    assert sum(shares) == total
    assert min(shares) >= 0
    if sum(weights) > 0:
        exact = [total * (weight / sum(weights)) for weight in weights]
        # Two borders, each rounded to the nearest.
        assert all(abs(share - part) <= 1 + 1e-6 for share, part in zip(shares, exact, strict=True))
