"""Names coded relative to the previous name; consecutive numbers take one byte before packing."""

import re

from ddpm_codec.container.layout import MAX_NAMES_BYTES
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MAX_NAME_BYTES, check_name, decode_name, encode_name
from ddpm_codec.varint import Reader, write_varint

_LAST_NUMBER = re.compile(rb"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


def write_names(out: bytearray, names: list[str]) -> None:
    """Append the columns of ``names``: shared prefixes, then shared suffixes and lengths, then text.

    Raises:
        InputError: a name is not a plain relative path or is a duplicate, or the names are too long in total.
    """
    raw = [encode_checked(name) for name in names]
    if len(set(raw)) != len(raw):
        raise InputError("two pictures have the same name")
    if sum(map(len, raw)) > MAX_NAMES_BYTES:
        raise InputError(f"the names take more than {MAX_NAMES_BYTES} bytes in total")
    starts, ends, texts = bytearray(), bytearray(), bytearray()
    before = b""
    for name in raw:
        if name == successor(before):
            write_varint(starts, 0)
        else:
            prefix = _shared(before, name)
            suffix = _shared(before[prefix:][::-1], name[prefix:][::-1])
            text = name[prefix : len(name) - suffix]
            write_varint(starts, prefix + 1)
            write_varint(ends, suffix)
            write_varint(ends, len(text))
            texts += text
        before = name
    out += starts + ends + texts


def read_names(reader: Reader, count: int) -> list[str]:
    """Read the output of :func:`write_names`.

    Raises:
        FormatError: a name is damaged or invalid.
    """
    starts = [reader.varint(MAX_NAME_BYTES + 1) for _ in range(count)]
    ends = [(reader.varint(MAX_NAME_BYTES), reader.varint(MAX_NAME_BYTES)) if start else (0, 0) for start in starts]
    total, before = 0, b""
    names: list[str] = []
    for start, (suffix, length) in zip(starts, ends, strict=True):
        if start:
            if start - 1 + suffix > len(before):
                raise FormatError("a name shares more than the length of the previous one")
            name = before[: start - 1] + reader.take(length) + before[len(before) - suffix :]
        else:
            name = successor(before)
        total += len(name)
        if total > MAX_NAMES_BYTES:
            raise FormatError("the names are larger than the format allows")
        names.append(decode_name(name))
        before = name
    for text in names:
        try:
            check_name(text)
        except InputError as error:
            raise FormatError(str(error)) from None
    if len(set(names)) != count:
        raise FormatError("two images have the same name")
    return names


def encode_checked(name: str) -> bytes:
    """Check a name and return its bytes.

    Raises:
        InputError: see :func:`ddpm_codec.picture.check_name`.
    """
    check_name(name)
    return encode_name(name)


def successor(name: bytes) -> bytes:
    """Return ``name`` with its last number (at most 18 digits) incremented, keeping leading zeros; empty if it has none."""
    match = _LAST_NUMBER.fullmatch(name)
    if match is None:
        return b""
    head, number, tail = match.groups()
    return head + str(int(number) + 1).encode().rjust(len(number), b"0") + tail


def _shared(left: bytes, right: bytes) -> int:
    """Return the length of the common prefix."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
