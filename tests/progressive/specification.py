"""Section 11 of ``docs/FORMAT.md`` ("Progressive files") once more, written from the document and not from the code.

It shares with the package what other sections specify: networks, transform, coding tables and stack, packed bytes and the
fallback. The rest is done in the plainest way. Names are those of the document.
"""

import zlib
from decimal import Context, Decimal
from itertools import pairwise
from math import gcd
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_fallback
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.exact_math import exact_exp, exact_normal_cdf
from ddpm_codec.coding.tables import PIXEL_GRID
from ddpm_codec.container.packing import unpack
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import FormatError
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.varint import Reader
from tests.reference.exact_decoder import trunk
from tests.reference.pixel_stream import decode

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)

UNSENT = 96
"""In the place of the class of a dimension that is not sent."""

BLOBS = ("icc", "exif", "xmp", "palette", "transparency")

MESSAGE_SHIFT = 31
"""log2 of the cost of a message, in units of 2^-16 bits; tests of small pictures with several messages lower it."""


def read_single(data: bytes) -> tuple["Head", list[bytes]]:
    """Return the head of one picture by route 2 (2.2), and its body, before it the alpha plane if there is one."""
    assert data[:10] == b"\x89DDPM\r\n\x1a\x02\x03"
    assert data[-4:] == zlib.crc32(data[:-4]).to_bytes(4, "little")
    reader = Reader(data[10:-4])
    head = Head(reader, single=True)
    alpha = [reader.take(reader.varint())] if head.rgba else []
    head.checksum = reader.take(2 if head.width * head.height < 1 << 14 else 4)
    return head, [*alpha, reader.rest()]


def read_file(data: bytes) -> tuple["Head", list[bytes]]:
    """Return the head and the payloads of the whole sections behind it."""
    if data[9] == 3:
        return read_single(data)
    assert data[:10] == b"\x89DDPM\r\n\x1a\x02\x02"
    crc, ends, payloads = zlib.crc32(data[:10]), [10], []
    while ends[-1] < len(data):
        reader = Reader(data[ends[-1] :])
        try:
            payload = reader.take(reader.varint())
            end = len(data) - reader.left
            checksum = reader.take(2 if len(payload) < 1024 else 4)
        except FormatError:
            break
        crc = zlib.crc32(data[ends[-1] : end], crc)
        assert checksum == crc.to_bytes(4, "little")[: len(checksum)]
        payloads.append(payload)
        ends.append(end + len(checksum))
    reader = Reader(payloads[0])
    head = Head(reader)
    assert not reader.left
    whole = ends[1] + head.following
    assert len(data) < whole or ends[-1] == len(data) == whole
    return head, payloads[1:]


class Head:
    """What the head of a file says (4.2)."""

    def __init__(self, reader: Reader, *, single: bool = False) -> None:
        flags = reader.take(1)[0]
        assert flags >> 5 == (2 << 1 if single else 0)
        self.single, self.checksum = single, b""
        self.rgba = bool(flags & 1)
        self.model = reader.take(4)
        self.crossing, self.steps, self.register_bits = (reader.varint() for _ in range(3))
        self.tile, self.end = (256, 0) if single else (reader.varint(), reader.varint())
        self.width, self.height = reader.varint(), reader.varint()
        self.following = 0 if single else reader.varint()
        optional = [reader.take(reader.varint()) if flags >> bit & 1 else b"" for bit in range(1, 5)]
        self.name, self.model_name, fingerprint, blobs = optional
        assert not fingerprint, "floating point"
        self.metadata = read_blobs(unpack(blobs, 1 << 28)) if blobs else {}


def read_blobs(data: bytes) -> dict[str, bytes]:
    """Return the blobs of one picture (5.3)."""
    reader = Reader(data)
    flags = reader.take(1)[0]
    lengths = [reader.varint() for _ in range(reader.varint())]
    blobs = [reader.take(length) for length in lengths]
    places = {name: reader.varint() for bit, name in enumerate(BLOBS) if flags >> bit & 1}
    assert not reader.left
    return {name: blobs[place - 1] for name, place in places.items() if place}


def labels_of(key: int, count: int) -> Ints:
    """Return the first labels of a key."""
    edges = exact_normal_cdf((np.arange(-20000, 1) + 0.5) / 4096)
    lower = np.searchsorted(edges, (np.arange(32768) + 0.5) / 65536) - 20000
    labels = np.concatenate([lower, -lower[::-1]])
    words = np.random.Philox(key=np.array([key, 0], np.uint64)).random_raw(-(-count // 4))
    return labels[words.astype("<u8").view("<u2")[:count]]


def power(base: int, exponent: Decimal) -> Decimal:
    """Return a power with 40 decimal digits."""
    return Context(prec=40).power(Decimal(base), exponent)


THRESHOLDS = np.array([float(power(4, power(2, 4 - Decimal(c + 1) / 8))) for c in reversed(range(UNSENT))])
"""The lower end of each class, as spread^2 / (1024^2 v), that of class 95 first."""

COSTS = [round(power(2, 4 - (c + Decimal("0.5")) / 8) * 65536) for c in range(UNSENT)]
"""What a dimension of each class costs, in units of 2^-16 bits."""


def messages(classes: NDArray[np.integer]) -> list[range]:
    """Return the classes of each message of a patch."""
    counts = np.bincount(classes.ravel(), minlength=UNSENT + 1)[:UNSENT].tolist()
    sums = np.cumsum([count * cost for count, cost in zip(counts, COSTS, strict=True)]).tolist()
    number = max(1, min(8, sums[-1] >> MESSAGE_SHIFT))
    shares = [sums[-1] * i // number for i in range(1, number)]
    # Messages that end in the same class are one, and the last extends to class 95, even if it is empty.
    ends = {next(c for c in range(UNSENT) if sums[c] >= share) + 1 for share in shares}
    return [range(first, end) for first, end in pairwise(sorted({0, *ends, UNSENT}))]


def coding_order(classes: Ints, wanted: int) -> Ints:
    """Return the dimensions of a class in coding order."""
    count = classes.size
    stride = max(1, int(0.6180339887498949 * count))
    while gcd(stride, count) > 1:
        stride += 1
    order = np.arange(count) * stride % count
    return order[classes.flat[order] == wanted]


class Step:
    """A step on one patch; arrays are [coefficient, row, column].

    Args:
        a: of 11.1.
        v: of 11.1.
        w: of 11.1.
        y: W x0_mean in grey levels around 127.5.
        mean: of z_{t-1}, without jumps.
        least: log2 of the fewest bits with which a dimension is sent.

    Attributes:
        z: z_{t-1} as far as it is known.
        known: of which dimensions it was sent.
    """

    def __init__(self, a: float, v: float, w: Floats, y: Floats, mean: Ints, least: int) -> None:
        variance = v + (1 - a) * (1 - a) * w
        self.mean, self.spread = mean, np.sqrt(variance) * 1024
        classes = UNSENT - np.searchsorted(THRESHOLDS, variance / v, side="right")
        self.classes = np.where(classes < 8 * (4 - least), classes, UNSENT)
        self.z, self.known = mean.copy(), np.zeros(mean.shape, bool)
        self._y, self._gain = y, (1 - a) * w / variance

    def draw(self, places: Ints, labels: Ints, jumps: Ints) -> None:
        """Set z of flat places."""
        spread = self.spread.flat[places]
        moved = self.mean.flat[places] + np.rint(jumps * (spread * 2.5))
        self.z.flat[places] = moved + np.rint(spread * (labels / 4096))

    def best_y(self) -> Floats:
        """Return W x0_mean with what the dimensions that were sent say of it."""
        return self._y + np.where(self.known, self._gain * ((self.z - self.mean) / 1024), 0)


class Decoder:
    """Decodes a file, or the beginning of one.

    Args:
        data: of the file.
        model: that it names.
        whole_pixels: a padded picture of at most so many is one patch.
        patch_side: at most so long are the sides of the patches of a larger one.

    Attributes:
        level: of ``z``; K + 1 at first.
        z: the last latents that are complete, [coefficient, row, column].
        pixels: [height, width, 3 or 4]; None where the file was cut.
    """

    def __init__(self, data: bytes, model: FrozenModel, whole_pixels: int = 1 << 20, patch_side: int = 1024) -> None:
        self.head, sections = read_file(data)
        head = self.head
        self.model, self.transform = model, by_name(model.transform)
        self.network = model.integer_denoiser(head.steps, head.crossing, torch.device("cpu"), "")
        self.block, self.norm = self.transform.block, np.sqrt(self.transform.norms2.astype(float))[:, None, None]
        self.sigma = 127.5 * np.array(model.chain_sigmas(head.steps, head.crossing))
        logs = -20 + np.arange(1024) / 32
        self.variances = np.where(logs > 0, 1 / exact_exp(-np.abs(logs)), exact_exp(-np.abs(logs))) * 127.5**2
        self.codebook = labels_of(head.register_bits, 128 << head.register_bits).reshape(-1, 128)
        self.whole = Rect(0, 0, -(-head.height // 8) * 8, -(-head.width // 8) * 8)
        sides, counts = (self.whole.height, self.whole.width), [1, 1]
        if self.whole.pixels > whole_pixels:
            counts = [-(-side // patch_side) for side in sides]
        self.patches = self.whole.cut(*(-(-side // (8 * count)) * 8 for side, count in zip(sides, counts, strict=True)))
        self.level = head.steps + 1
        self.pixels: Pixels | None = None
        self.z = np.zeros((len(self.norm), sides[0] // self.block, sides[1] // self.block), np.int64)
        self._steps: list[Step] = []
        self._decode(sections)

    def _decode(self, sections: list[bytes]) -> None:
        alpha = sections[:1] if self.head.rgba else []
        left = iter(sections[len(alpha) :])
        reader = Reader(b"")
        while self.level > max(0, self.head.end - 1):
            self._steps = [self.step(self.level, patch) for patch in self.patches]
            for number, step in enumerate(self._steps):
                for classes in messages(step.classes):
                    if not reader.left:
                        payload = next(left, None)
                        if payload is None:
                            return
                        reader = Reader(payload)
                    self._message(reader, step, classes)
                unsent = np.flatnonzero(step.classes == UNSENT)
                labels = labels_of((1 << 63) + (self.level << 32) + number, step.z.size)
                step.draw(unsent, labels[unsent], np.zeros(len(unsent), np.int64))
            for patch, step in zip(self.patches, self._steps, strict=True):
                self.cut(self.z, patch)[:] = step.z
            self.level, self._steps = self.level - 1, []
        if self.head.single:
            self._end(self._streams(reader), alpha)
            return
        assert not reader.left
        self._end(list(left), alpha)

    def _streams(self, reader: Reader) -> list[bytes]:
        """Return the streams of the tiles, of which only the last has no length (11.6)."""
        count = -(-self.head.width // 256) * -(-self.head.height // 256)
        return [*(reader.take(reader.varint()) for _ in range(count - 1)), reader.rest()]

    @property
    def sent(self) -> int:
        """Dimensions that are known of the level below the last complete one."""
        return sum(int(step.known.sum()) for step in self._steps)

    def cut(self, z: NDArray[Number], rect: Rect) -> NDArray[Number]:
        """Return the coefficients of a rectangle of pixels."""
        top, left = rect.top // self.block, rect.left // self.block
        return z[..., top : top + -(-rect.height // self.block), left : left + -(-rect.width // self.block)]

    def around(self, patch: Rect) -> tuple[Ints, Rect]:
        """Return the last latents around a patch as networks read them, [1, 3, height, width], and the patch in there."""
        top, left = max(0, patch.top - 64), max(0, patch.left - 64)
        bottom = min(self.whole.height, patch.top + patch.height + 64)
        right = min(self.whole.width, patch.left + patch.width + 64)
        z = self.cut(self.z, Rect(top, left, bottom - top, right - left))
        fixed = np.rint(z * (1 / 1024 / self.norm * 2.0**20)).astype(np.int64)
        picture = (self.transform.inverse_exact(fixed[None]) + (1 << 13)) >> 14
        return picture, Rect(patch.top - top, patch.left - left, patch.height, patch.width)

    def predict(self, level: int, patch: Rect, *, pixels: bool) -> tuple[Ints, Floats]:
        """Return the network's mean for a patch, [3, height, width], and the variances."""
        picture, inner = self.around(patch)
        if not level and self.model.decoder is not None:
            return inside(trunk(self.model.decoder, picture, self.head.crossing)[0][0], inner), np.zeros(0)
        of_pixels = pixels or self.block == 1
        found = (self.network.pixels if of_pixels else self.network.coefficients)(picture, level)
        index = (inside if of_pixels else self.cut)(found.log_var_index[0], inner)
        return inside(found.mean[0], inner), self.variances[index]

    def step(self, t: int, patch: Rect) -> Step:
        """Return step t on a patch, of which nothing is known yet."""
        z = self.cut(self.z, patch)
        if t > self.head.steps:
            w = np.broadcast_to(127.5**2 * self.model.prior_variance[:, None, None], z.shape)
            y = np.broadcast_to(127.5 * self.model.prior_mean[:, None, None], z.shape)
            a, v, mean = 0.0, self.sigma[-1] * self.sigma[-1], np.rint(y * 1024)
        else:
            ratio = self.sigma[t - 1] / self.sigma[t]
            a = ratio * ratio
            v = self.sigma[t - 1] * self.sigma[t - 1] * (1 - a)
            m, w = self.predict(t, patch, pixels=False)
            product = self.transform.forward_exact(m[None])[0]
            y = product / (1024 * self.norm)
            mean = np.rint(a * z + product * ((1 - a) * 1024 / (1024 * self.norm)))
        least = -6 if self.sigma[t - 1] >= 20 else -7 if self.sigma[t - 1] >= 2.5 else -8
        return Step(a, v, w, y, mean.astype(np.int64), least)

    def _message(self, reader: Reader, step: Step, classes: range) -> None:
        rate, has_jumps = divmod(reader.varint(), 2)
        paid = int(power(2, Decimal(rate - 16) / 16) * 1024)
        groups = [(COSTS[c] * paid >> 10, coding_order(step.classes, c)) for c in reversed(classes)]
        places = np.concatenate([dimensions for _, dimensions in groups])
        jumps, at = np.zeros(len(places), np.int64), -1
        for _ in range(reader.varint() if has_jumps else 0):
            at += reader.varint() + 1
            code = reader.varint()
            jumps[at] = -(code + 1) // 2 if code % 2 else code // 2
        labels = self._index_bits(reader, [(cost, len(dimensions)) for cost, dimensions in groups])
        step.draw(places, labels, jumps)
        step.known.flat[places] = True

    def _index_bits(self, reader: Reader, classes: list[tuple[int, int]]) -> Ints:
        """Return the labels of a message whose classes have these costs and dimensions."""
        longest, rest, rounds = self.head.register_bits, 0, []
        streams = max(1, sum(cost * count for cost, count in classes) >> 28)
        for cost, count in classes:
            width = min(128, max(1, -(-65536 // cost)))
            starts = [*range(0, count, width * streams), count]
            due = [start * cost // streams + rest for start in starts]
            for (start, end), (before, after) in zip(pairwise(starts), pairwise(due), strict=True):
                rounds.append((min(longest, after // 65536 - before // 65536), width, end - start))
            rest = due[-1] % 65536
        length = streams * sum(bits for bits, _, _ in rounds)
        index_bits = np.unpackbits(np.frombuffer(reader.take(-(-length // 8)), np.uint8))
        assert not index_bits[length:].any()
        rows = iter(index_bits[:length].reshape(-1, streams).astype(np.int64))
        register, labels = np.zeros(streams, np.int64), [np.zeros(0, np.int64)]
        for bits, width, count in rounds:
            for _ in range(bits):
                register = (next(rows) << (longest - 1)) + register // 2
            labels.append(self.codebook[register, :width].ravel()[:count])
        return np.concatenate(labels)

    def mean_picture(self) -> Pixels:
        """Return what ``mean`` shows, [height, width, 3]."""
        grey = np.empty((3, self.whole.height, self.whole.width), np.int64)
        for number, patch in enumerate(self.patches):
            if self.level:
                step = self._steps[number] if self._steps else self.step(self.level, patch)
                fixed = np.rint(np.rint(step.best_y() * 1024) * (1 / 1024 / self.norm * 2.0**20)).astype(np.int64)
                fine = (self.transform.inverse_exact(fixed[None])[0] + (1 << 13)) >> 14
                inside(grey, patch)[:] = (fine + 128 * 64) >> 6
            else:
                inside(grey, patch)[:] = (self.predict(0, patch, pixels=True)[0] + 128 * 1024) >> 10
        return np.clip(grey, 0, 255).astype(np.uint8)[:, : self.head.height, : self.head.width].transpose(1, 2, 0)

    def _end(self, sections: list[bytes], alpha: list[bytes]) -> None:
        head = self.head
        rgb = np.zeros((head.height, head.width, 3), np.uint8)
        if head.end:
            assert len(sections) <= 1
            for payload in sections:
                rgb = np.frombuffer(decode_fallback(payload, "RGB", (head.width, head.height)), np.uint8)
            rgb = rgb.reshape(head.height, head.width, 3)
        tiles = [] if head.end else Rect(0, 0, head.height, head.width).cut(head.tile, head.tile)
        if len(sections) < max(1, len(tiles)):
            return
        for tile, payload in zip(tiles, [] if head.end else sections, strict=True):
            target = inside(rgb.transpose(2, 0, 1), tile).transpose(1, 2, 0)
            size = 0 if head.single else 2 if target[..., 0].size < 1 << 14 else 4
            pixels_of = self._popped if self.model.decoder is None else self._decoded
            target[:] = pixels_of(tile, payload[size:])
            assert zlib.crc32(target.tobytes()).to_bytes(4, "little")[:size] == payload[:size]
        if head.single:
            assert zlib.crc32(rgb.tobytes()).to_bytes(4, "little")[: len(head.checksum)] == head.checksum
        planes = [decode_fallback(plane, "L", (head.width, head.height)) for plane in alpha]
        self.pixels = np.dstack([rgb, *(np.frombuffer(plane, np.uint8).reshape(rgb.shape[:2]) for plane in planes)])

    def _decoded(self, tile: Rect, coded: bytes) -> Pixels:
        assert self.model.decoder is not None
        picture, inner = self.around(Rect(tile.top, tile.left, -(-tile.height // 8) * 8, -(-tile.width // 8) * 8))
        mean, features = trunk(self.model.decoder, picture, self.head.crossing)
        here = Rect(inner.top, inner.left, tile.height, tile.width)
        words = np.frombuffer(coded + b"\0" * (-len(coded) % 4), "<u4").tolist()
        seen = inside(features.transpose(0, 3, 1, 2), here).transpose(0, 2, 3, 1)
        size = tile.height, tile.width
        found, empty = decode(self.model.decoder, inside(mean, here), seen, size, words, self.head.crossing)
        assert empty
        return found[0].transpose(1, 2, 0)

    def _popped(self, tile: Rect, coded: bytes) -> Pixels:
        stack = Stack.from_bytes(coded + b"\0" * (-len(coded) % 4)) if coded else Stack.empty()
        padded = Rect(tile.top, tile.left, -(-tile.height // 8) * 8, -(-tile.width // 8) * 8)
        m, w = self.predict(0, padded, pixels=True)
        place = np.s_[:, : tile.height, : tile.width]
        means, scales = 64 * m + 255 * 32768, PIXEL_GRID.index(np.sqrt(w)).astype(np.int32)
        pixels = stack.pop_pixels(means[place], scales[place])
        assert stack.is_empty
        return pixels.transpose(1, 2, 0)


def inside(values: NDArray[Number], rect: Rect) -> NDArray[Number]:
    """Return what of [..., height, width] lies in a rectangle."""
    return values[..., rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
