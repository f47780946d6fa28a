"""Variable-length integers: seven bits a byte, least significant first, the high bit says that more follow (LEB128)."""

from ddpm_codec.errors import FormatError

MAX_BITS = 63


def write_varint(out: bytearray, value: int) -> None:
    """Append ``value`` (0 <= value < 2**63) to ``out``.

    Raises:
        ValueError: out of range.
    """
    if not 0 <= value < 1 << MAX_BITS:
        raise ValueError(f"{value} does not fit a varint")
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class Reader:
    """Reads varints and byte strings off a buffer, checking every length before use."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def varint(self, limit: int = (1 << MAX_BITS) - 1) -> int:
        """Return the next varint.

        Raises:
            FormatError: cut short, above ``limit``, or longer than :func:`write_varint` makes it.
        """
        value = 0
        for shift in range(0, MAX_BITS, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift > 0:
                    break
                if value > limit:
                    raise FormatError(f"a number is {value}, at most {limit} makes sense")
                return value
        raise FormatError("a number is too long")

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            FormatError: there are fewer.
        """
        if count > self.left:
            raise FormatError("data ends too early")
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.left)
