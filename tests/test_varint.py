"""Variable-length integers: every number comes back, nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.errors import FormatError
from ddpm_codec.varint import MAX_BITS, Reader, write_varint

numbers = st.integers(0, (1 << MAX_BITS) - 1) | st.integers(0, MAX_BITS - 1).map(lambda bits: 1 << bits)


def written(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        write_varint(out, value)
    return bytes(out)


@given(st.lists(numbers))
def test_round_trip(values: list[int]) -> None:
    reader = Reader(written(*values))
    assert [reader.varint() for _ in values] == values
    assert reader.left == 0


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        ((1 << MAX_BITS) - 1, b"\xff" * 8 + b"\x7f"),
    ],
)
def test_golden_codes(value: int, code: bytes) -> None:
    assert written(value) == code
    assert Reader(code).varint() == value


@given(numbers)
def test_cut_short(value: int) -> None:
    code = written(value)
    for length in range(len(code)):
        with pytest.raises(FormatError, match="ends too early"):
            Reader(code[:length]).varint()


@pytest.mark.parametrize("code", [b"\x80\x00", b"\xff\x80\x00", b"\x80" * 9 + b"\x01", b"\xff" * 20])
def test_overlong(code: bytes) -> None:
    with pytest.raises(FormatError, match="too long"):
        Reader(code).varint()


@given(st.binary(max_size=12))
def test_any_bytes_are_a_canonical_number_or_an_error(data: bytes) -> None:
    reader = Reader(data)
    try:
        value = reader.varint()
    except FormatError:
        return
    assert written(value) == data[: len(data) - reader.left]


def test_limit() -> None:
    assert Reader(written(10)).varint(limit=10) == 10
    with pytest.raises(FormatError, match="a number is 11, at most 10"):
        Reader(written(11)).varint(limit=10)


@pytest.mark.parametrize("value", [-1, 1 << MAX_BITS])
def test_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        write_varint(bytearray(), value)


def test_byte_strings() -> None:
    reader = Reader(b"abcdef")
    assert (reader.take(2), reader.left, reader.rest(), reader.rest()) == (b"ab", 4, b"cdef", b"")
    with pytest.raises(FormatError, match="ends too early"):
        reader.take(1)
    with pytest.raises(FormatError, match="ends too early"):
        Reader(b"abc").take(1 << 62)
