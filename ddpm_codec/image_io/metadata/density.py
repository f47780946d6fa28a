"""The density of pixels, ``density`` of :class:`~ddpm_codec.picture.PictureInfo`: numbers and a unit as text."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_TEXT: Final = re.compile(rb"(\d+(?:/\d+)?) (\d+(?:/\d+)?) (inch|cm|m|none)")
_UNITS_PER_METRE: Final = {"inch": Fraction(10000, 254), "cm": Fraction(100), "m": Fraction(1)}
TOLERANCE: Final = Fraction(1, 5000)
"""Relative difference of densities that count as equal. From 64 pixels per inch on, whole pixels per metre are closer."""


@dataclass(frozen=True)
class Density:
    """Pixels per unit.

    Attributes:
        across: pixels per unit, left to right.
        down: pixels per unit, top to bottom.
        unit: ``inch``, ``cm``, ``m``, or ``none`` where only the ratio of the two counts.
    """

    across: Fraction
    down: Fraction
    unit: str

    @property
    def says_something(self) -> bool:
        """Whether it is more than zeros, or than square pixels of unknown size."""
        return self.across > 0 and self.down > 0 and not (self.unit == "none" and self.across == self.down)

    def to_bytes(self) -> bytes:
        """Return it as metadata; empty if it says nothing."""
        return f"{self.across} {self.down} {self.unit}".encode() if self.says_something else b""

    def per_metre(self) -> "tuple[Fraction, Fraction] | None":
        """Return pixels per metre across and down; None without a unit."""
        if self.unit == "none":
            return None
        factor = _UNITS_PER_METRE[self.unit]
        return self.across * factor, self.down * factor

    def per_inch(self) -> "tuple[Fraction, Fraction] | None":
        """Return pixels per inch across and down; None without a unit."""
        pair = self.per_metre()
        return None if pair is None else (pair[0] * Fraction(254, 10000), pair[1] * Fraction(254, 10000))

    def close_to(self, other: "Density") -> bool:
        """Whether both say the same, but for ``TOLERANCE``."""
        ours, theirs = self.per_metre(), other.per_metre()
        if ours is None or theirs is None:
            return ours == theirs and _close(self.across * other.down, self.down * other.across)
        return _close(ours[0], theirs[0]) and _close(ours[1], theirs[1])


def _close(a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def parse_density(data: bytes) -> Density:
    """Read ``density`` metadata.

    Raises:
        ValueError: it is none.
    """
    match = _TEXT.fullmatch(data)
    if match is None:
        raise ValueError("is no density")
    try:
        return Density(Fraction(match[1].decode()), Fraction(match[2].decode()), match[3].decode())
    except ZeroDivisionError:
        raise ValueError("is no density") from None


def density(across: "int | Fraction", down: "int | Fraction", unit: str) -> bytes:
    """Return ``density`` metadata; empty where they say nothing: a zero, or square pixels without a unit."""
    return Density(Fraction(across), Fraction(down), unit).to_bytes()


def same_density(written: bytes, read: bytes) -> bool:
    """Whether two pieces of ``density`` metadata say the same, but for ``TOLERANCE``."""
    try:
        return parse_density(written).close_to(parse_density(read))
    except ValueError:
        return False
