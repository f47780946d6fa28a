"""The first bytes of a block: which pictures it holds, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.codecs.lossless.layout import FALLBACK, MODEL, BlockHeader, read_header
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

PICTURES = 300


def packed(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        write_varint(out, value)
    return bytes(out)


@given(st.sets(st.integers(0, PICTURES - 1), min_size=1), st.sampled_from([FALLBACK, MODEL]))
def test_any_set_of_pictures_comes_back(pictures: set[int], kind: int) -> None:
    header = BlockHeader(kind, 0, tuple(sorted(pictures)))
    reader = Reader(header.pack() + b"body")
    assert read_header(reader, PICTURES) == header
    assert reader.rest() == b"body"


def test_a_region_of_one_picture_comes_back() -> None:
    header = BlockHeader(MODEL, 70_000, (299,))
    assert read_header(Reader(header.pack()), PICTURES) == header


def test_consecutive_pictures_cost_five_bytes_however_many() -> None:
    """FORMAT.md: kind, region, number of runs, gap, length."""
    assert BlockHeader(MODEL, 0, tuple(range(5, 105))).pack() == bytes([1, 0, 1, 5, 100])
    assert BlockHeader(FALLBACK, 0, (0, 1, 4)).pack() == bytes([0, 0, 2, 0, 2, 2, 1])


@pytest.mark.parametrize(
    "values",
    [
        (),
        (2, 0, 1, 0, 1),  # unknown kind
        (1, 0, 0),  # no pictures
        (1, 0, 1, 0, 0),  # an empty run
        (1, 0, 1, PICTURES, 1),  # behind the table
        (1, 0, 1, PICTURES - 1, 2),
        (1, 0, 2, 0, PICTURES - 1, 1, 1),
        (1, 1, 1, 0, 2),  # a region of two pictures
        (1, 1 << 40, 1, 0, 1),
        (1, 0, PICTURES + 1),
        (1, 0, 1, 0),  # cut short
    ],
)
def test_what_no_writer_makes_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        read_header(Reader(packed(*values)), PICTURES)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_a_format_error(data: bytes) -> None:
    try:
        header = read_header(Reader(data), PICTURES)
    except FormatError:
        return
    assert list(header.pictures) == sorted(set(header.pictures))
    assert header.pictures[-1] < PICTURES
