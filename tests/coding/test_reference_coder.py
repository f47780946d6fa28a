"""The coder on our tables against ANS written out in Python integers: the same words, so the same tables.

constriction builds its own cumulative table from the numbers that it is given; here is shown that it arrives at ours.
"""

import constriction
import numpy as np
import pytest

from ddpm_codec.coding import tables
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.tables import PRECISION, Table

STACK = constriction.stream.stack


class Reference:
    """ANS with a state of 64 bits over words of 32 (Duda 2013), for one table at a time."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.state = 0

    def push(self, symbol: int, cumulative: list[int]) -> None:
        left, frequency = cumulative[symbol], cumulative[symbol + 1] - cumulative[symbol]
        if self.state >> (64 - PRECISION) >= frequency:
            self.words.append(self.state & 0xFFFFFFFF)
            self.state >>= 32
        self.state = (self.state // frequency << PRECISION) | (self.state % frequency + left)

    def pop(self, cumulative: list[int]) -> int:
        quantile = self.state & ((1 << PRECISION) - 1)
        symbol = int(np.searchsorted(cumulative, quantile, side="right")) - 1
        frequency = cumulative[symbol + 1] - cumulative[symbol]
        self.state = frequency * (self.state >> PRECISION) + quantile - cumulative[symbol]
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    def compressed(self) -> list[int]:
        words, state = list(self.words), self.state
        while state:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        return words


def cumulative(table: Table) -> list[int]:
    return [0, *np.cumsum(table.frequencies).tolist()]


SAMPLES = {
    "narrowest lattice": lambda: tables.lattice_table(0, 0),
    "lattice": lambda: tables.lattice_table(55, 7),
    "widest lattice": lambda: tables.lattice_table(216, 1),
    "sampling": lambda: tables.sampling_table(0.75, 31),
    "narrowest pixel": lambda: tables.pixel_table(0, 12, -3, 4),
    "pixel at black": lambda: tables.pixel_table(100, 0, 0, int(tables.PIXEL_GRID.windows[100]) + 1),
    "widest pixel": lambda: tables.pixel_table(264, 0, -100, 155),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_words_match_for_every_symbol(name: str) -> None:
    table = SAMPLES[name]()
    bounds = cumulative(table)
    rng = np.random.default_rng(1)
    symbols = np.concatenate([np.arange(len(table.frequencies)), rng.integers(0, len(table.frequencies), 500)])
    reference, coder = Reference(), STACK.AnsCoder()
    for symbol in symbols[::-1].tolist():
        reference.push(symbol, bounds)
    coder.encode_reverse(symbols.astype(np.int32), table.model)
    assert coder.get_compressed().tolist() == reference.compressed()
    assert [reference.pop(bounds) for _ in symbols] == symbols.tolist()


@pytest.mark.parametrize("name", SAMPLES)
def test_popping_random_words_matches(name: str) -> None:
    table = SAMPLES[name]()
    bounds = cumulative(table)
    words = np.random.default_rng(2).integers(1, 1 << 32, 400, dtype=np.uint32)
    reference, coder = Reference(), STACK.AnsCoder(words)
    reference.words = words[:-2].tolist()
    reference.state = int(words[-1]) << 32 | int(words[-2])
    assert coder.decode(table.model, 300).tolist() == [reference.pop(bounds) for _ in range(300)]
    assert coder.get_compressed().tolist() == reference.compressed()


UNIFORM = [limb << (PRECISION - 16) for limb in range((1 << 16) + 1)]


def push_as_specified(symbols: list[tuple[int, int, Table]], reference: Reference) -> None:
    """Push (key, integer minus floor, table) as docs/FORMAT.md orders them: escapes below, groups by key."""
    codes = []
    for _, n, table in symbols:
        value = n - table.first
        if not 0 <= value < table.count:
            codes.append(2 * value if value >= 0 else -2 * value - 1)
    for code in reversed(codes):
        for limb in (2, 1, 0):
            reference.push(code >> (16 * limb) & 0xFFFF, UNIFORM)
    for _, n, table in sorted(symbols, key=lambda symbol: symbol[0])[::-1]:
        value = n - table.first
        reference.push(value if 0 <= value < table.count else table.count, cumulative(table))


def test_a_stack_is_what_the_format_says() -> None:
    """Lattice points and pixels of many tables, escapes among them: the words of a second implementation."""
    rng = np.random.default_rng(6)
    count = 300
    stack, reference = Stack.seeded(b""), Reference()
    reference.state = 1  # the seal
    mean, index = rng.integers(-(9 << 16), 9 << 16, count), rng.integers(0, 217, count).astype(np.int32)
    n = (mean >> 16).astype(np.int32) + rng.integers(-9, 9, count).astype(np.int32)
    n[::97] = [-(2**31), 2**31 - 1, 100_000, -70_000]
    stack.push_lattice(n, mean, index)
    lattice = []
    for point, centre, scale in zip(n.tolist(), mean.tolist(), index.tolist(), strict=True):
        fraction = (centre & 0xFFFF) * (1 << int(tables.LATTICE_GRID.fraction_bits[scale])) >> 16
        lattice.append((64 * scale + fraction, point - (centre >> 16), tables.lattice_table(scale, fraction)))
    push_as_specified(lattice, reference)

    x, mean = rng.integers(0, 256, count), rng.integers(-(5 << 16), 261 << 16, count)
    index = rng.integers(0, 265, count).astype(np.int32)
    stack.push_pixels(x.astype(np.uint8), mean, index)
    pixels = []
    for grey, centre, scale in zip(
        x.tolist(), mean.clip(-3 << 16, (259 << 16) - 1).tolist(), index.tolist(), strict=True
    ):
        floor, fraction = centre >> 16, (centre & 0xFFFF) * (1 << int(tables.PIXEL_GRID.fraction_bits[scale])) >> 16
        window = int(tables.PIXEL_GRID.windows[scale])
        low, high = max(-window, -floor), min(window + 1, 255 - floor)
        place = 0 if (low, high) == (-window, window + 1) else floor + 4
        key = (64 * scale + fraction) * 512 + place
        pixels.append((key, grey - floor, tables.pixel_table(scale, fraction, low, high)))
    push_as_specified(pixels, reference)
    words = np.frombuffer(stack.to_bytes(), "<u4").tolist()
    assert words == reference.compressed()


def frequencies_of(model: constriction.stream.model.Model, count: int) -> list[int]:
    """Return the coder's frequencies of a model, from its decisions at the edges of each symbol."""

    def symbol_at(quantile: int) -> int:
        words = np.array([quantile, 1 << 8], dtype=np.uint32)
        return int(STACK.AnsCoder(words).decode(model, 1)[0])

    lefts = [0]
    for symbol in range(1, count):
        low, high = lefts[-1], (1 << PRECISION) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if symbol_at(middle) >= symbol else (middle + 1, high)
        lefts.append(low)
    return np.diff([*lefts, 1 << PRECISION]).tolist()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_coder_has_exactly_our_frequencies(name: str) -> None:
    table = SAMPLES[name]()
    assert frequencies_of(table.model, len(table.frequencies)) == table.frequencies.tolist()


def test_zeros_and_lopsided_tables_come_through() -> None:
    frequencies = np.array([1, (1 << PRECISION) - 3, 1, 1])
    model = tables._table(0, frequencies, escape=False).model
    assert frequencies_of(model, 4) == frequencies.tolist()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """constriction warns on standard output, which carries data here."""
    tables.lattice_table.cache_clear()
    coder = STACK.AnsCoder()
    coder.encode_reverse(np.array([3, 4], dtype=np.int32), tables.lattice_table(50, 3).model)
    coder.decode(tables.lattice_table(50, 3).model, 2)
    assert capfd.readouterr() == ("", "")
