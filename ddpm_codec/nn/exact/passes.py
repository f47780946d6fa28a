"""What lies between the convolutions of the exact network on a CPU, each value read and written once: compiled loops.

A pass takes the sums of one layer to the bytes that the next one reads, and updates a residual stream on the way. Numbers are
binary32 with the operations of :mod:`ddpm_codec.nn.exact.layer`, one by one in the same order, so the integers are the same:
every product is exact, every sum rounds to an integer or is exact, and nothing is contracted or reassociated.

Rows are worked off in pieces of at most CHUNK values, for which the tables of channels are repeated: loops over plain arrays
of one length are what a compiler turns into vector instructions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.compilation import compiled, inlined
from ddpm_codec.nn.exact.decoder_parameters import GATE_HALF
from ddpm_codec.nn.exact.parameters import STREAM_LIMIT, T_LIMIT

Values = NDArray[Any]

CHUNK = 1024
"""Values of a row at a time, about: all that is read and written for them fits the nearest cache."""

SET, ADD, PASS_ON = 0, 1, 2
"""What happens to y: it becomes the stream, it is added to it, or it is only read by the next layer."""

JOIN_ROUNDED, JOIN_WHOLE = 0, 1
"""How the two sums of a two-byte input make one: that of lower bytes rounded to units of the other, or as they are."""

_ROUND = np.float32(1.5 * 2.0**23)
"""Added to a binary32 below 2^22, this rounds it half to even to an integer."""

_ROUND_64 = 1.5 * 2.0**52
_T_LIMIT = np.float32(T_LIMIT)
_T_LIMIT_64 = float(T_LIMIT)
_STREAM_LIMIT = np.float32(STREAM_LIMIT)
_NONE = np.float32(0.0)
_GATE_HALF = np.float32(GATE_HALF)
_GATE_LIMIT = np.float32(2 * GATE_HALF)


@inlined
def _join(upper: Values, lower: Values, scale: Values, t: Values) -> None:
    """Compute t = R(clamp(upper + R(lower) 2^-pre_shift)), of sums of two-byte inputs."""
    for i in range(len(t)):
        v = upper[i] + ((lower[i] + _ROUND) - _ROUND) * scale[i]
        v = -_T_LIMIT if v < -_T_LIMIT else v
        v = _T_LIMIT if v > _T_LIMIT else v
        t[i] = (v + _ROUND) - _ROUND


@inlined
def _join_whole(upper: Values, lower: Values, scale: Values, t: Values) -> None:
    """Compute t = clamp(R((256 upper + lower) 2^-pre_shift)), of sums below 2^30: in binary64, which holds them."""
    for i in range(len(t)):
        v = (np.float64(upper[i]) * 256.0 + np.float64(lower[i])) * np.float64(scale[i])
        rounded = (v + _ROUND_64) - _ROUND_64
        t[i] = np.float32(min(max(rounded, -_T_LIMIT_64), _T_LIMIT_64))


@inlined
def _round(sums: Values, t: Values) -> None:
    """Compute t = R(sums)."""
    for i in range(len(t)):
        t[i] = (sums[i] + _ROUND) - _ROUND


@inlined
def _rescale(t: Values, multiplier: Values, bias: Values) -> None:
    """Compute y = R(t multiplier + bias), in place; ``bias`` comes with _ROUND added."""
    for i in range(len(t)):
        t[i] = (t[i] * multiplier[i] + bias[i]) - _ROUND


@inlined
def _set(stream: Values, y: Values) -> None:
    """Saturate y and keep it."""
    for i in range(len(y)):
        s = -_STREAM_LIMIT if y[i] < -_STREAM_LIMIT else y[i]
        s = _STREAM_LIMIT if s > _STREAM_LIMIT else s
        y[i] = s
        stream[i] = np.int16(np.int32(s))


@inlined
def _add(stream: Values, t: Values, multiplier: Values) -> None:
    """Compute s = clamp(R(s + t multiplier)), in the stream and in place of t."""
    for i in range(len(t)):
        s = ((np.float32(stream[i]) + _ROUND) + t[i] * multiplier[i]) - _ROUND
        s = -_STREAM_LIMIT if s < -_STREAM_LIMIT else s
        s = _STREAM_LIMIT if s > _STREAM_LIMIT else s
        t[i] = s
        stream[i] = np.int16(np.int32(s))


@inlined
def _read(s: Values, reading: Values, limit: np.float32, q: Values) -> None:
    """Compute q = clamp(R(zero + s clamp(s + A, 0, 2 A) 2^-shift)), in one byte."""
    zero, down, half, low, high = reading[0], reading[1], reading[2], reading[3], reading[4]
    for i in range(len(s)):
        slope = s[i] * down[i] + half[i]
        slope = low[i] if slope < low[i] else slope
        slope = high[i] if slope > high[i] else slope
        value = zero[i] + s[i] * slope
        value = _NONE if value < _NONE else value
        value = limit if value > limit else value
        q[i] = np.uint8(np.int32((value + _ROUND) - _ROUND))


@inlined
def _read_wide(s: Values, reading: Values, limit: np.float32, upper: Values, lower: Values) -> None:
    """Read in two bytes."""
    zero, down, half, low, high = reading[0], reading[1], reading[2], reading[3], reading[4]
    for i in range(len(s)):
        slope = s[i] * down[i] + half[i]
        slope = low[i] if slope < low[i] else slope
        slope = high[i] if slope > high[i] else slope
        value = zero[i] + s[i] * slope
        value = _NONE if value < _NONE else value
        value = limit if value > limit else value
        number = np.int32((value + _ROUND) - _ROUND)
        upper[i] = np.uint8(number >> 8)
        lower[i] = np.uint8(number & 255)


@inlined
def _read_gated(y: Values, reading: Values, channels: int, limit: np.float32, upper: Values, lower: Values) -> None:
    """Compute q = clamp(R(zero + R(u clamp(u + A, 0, 2 A) 2^-pre) clamp(g + 128, 0, 256) 2^-shift)) of pixels (u, g)."""
    zero, down, half, low, high, after = reading[0], reading[1], reading[2], reading[3], reading[4], reading[5]
    wide, shift = len(lower) > 0, 8 if len(lower) > 0 else 0
    for start in range(0, len(y) // 2, channels):
        u, g, to = y[2 * start :], y[2 * start + channels :], upper[start:]
        for c in range(channels):
            slope = u[c] * down[c] + half[c]
            slope = low[c] if slope < low[c] else slope
            slope = high[c] if slope > high[c] else slope
            product = (u[c] * slope + _ROUND) - _ROUND
            gate = g[c] + _GATE_HALF
            gate = _NONE if gate < _NONE else gate
            gate = _GATE_LIMIT if gate > _GATE_LIMIT else gate
            value = zero[c] + product * gate * after[c]
            value = _NONE if value < _NONE else value
            value = limit if value > limit else value
            number = np.int32((value + _ROUND) - _ROUND)
            to[c] = np.uint8(number >> shift)
            if wide:
                lower[start + c] = np.uint8(number & 255)


@compiled
def pass_on(
    sums: Values,
    lower: Values,
    rescaling: Values,
    stream: Values,
    ways: tuple[int, int, int],
    place: tuple[int, int, int],
    reading: Values,
    limit: float,
    q: Values,
    q_lower: Values,
    offset: tuple[int, int],
) -> None:
    """Rescale sums, update the stream, and read it for the next layer.

    Args:
        sums: float32 [n, h, w O], clamped and scaled by 2^-pre_shift; of two-byte inputs, those of the upper bytes.
        lower: of two-byte inputs, the sums of the lower bytes, scaled by 2^-8, or with JOIN_WHOLE both not scaled at all;
            otherwise empty.
        rescaling: float32 [3, CHUNK]: multiplier 2^-shift, bias + 1.5 2^23, 2^-pre_shift.
        stream: int16 [N, H, W C]; not used with PASS_ON.
        ways: (SET, ADD or PASS_ON; JOIN_ROUNDED or JOIN_WHOLE; channels of a gated reading, 0: it is none).
        place: (image, row, step): row r of image i of the sums is row + r step of image + i of stream and bytes.
        reading: float32 [6, CHUNK]: zero, 2^-shift, A 2^-shift, lowest and highest slope; of a gated reading with 2^-pre in
            place of 2^-shift, which then is last.
        limit: largest q.
        q: uint8 [N, H + border, (W + border) C], the bytes, or upper bytes, of the next layer; empty: it does not read.
        q_lower: lower bytes of a two-byte input; otherwise empty.
        offset: row and value at which the bytes start, inside their border.
    """
    images, rows, values = sums.shape
    (image, row, step), (mode, join, gated) = place, ways
    wide, reads, reads_wide, most = len(lower) > 0, len(q) > 0, len(q_lower) > 0, np.float32(limit)
    chunk = rescaling.shape[1]
    t, no_bytes = np.empty(chunk, np.float32), np.empty(0, np.uint8)
    for i in range(images):
        for r in range(rows):
            to, of = image + i, row + r * step
            for a in range(0, values, chunk):
                b = min(values, a + chunk)
                s, c = t[: b - a], b - a
                if not wide:
                    _round(sums[i, r, a:b], s)
                elif join == JOIN_WHOLE:
                    _join_whole(sums[i, r, a:b], lower[i, r, a:b], rescaling[2, :c], s)
                else:
                    _join(sums[i, r, a:b], lower[i, r, a:b], rescaling[2, :c], s)
                if mode == ADD:
                    _add(stream[to, of, a:b], s, rescaling[0, :c])
                else:
                    _rescale(s, rescaling[0, :c], rescaling[1, :c])
                if mode == SET:
                    _set(stream[to, of, a:b], s)
                if not reads:
                    continue
                first = offset[1] + (a // 2 if gated else a)
                last = first + (c // 2 if gated else c)
                upper_q = q[to, offset[0] + of, first:last]
                lower_q = q_lower[to, offset[0] + of, first:last] if reads_wide else no_bytes
                if gated:
                    _read_gated(s, reading, gated, most, upper_q, lower_q)
                elif reads_wide:
                    _read_wide(s, reading, most, upper_q, lower_q)
                else:
                    _read(s, reading, most, upper_q)


@compiled
def read_stream(
    stream: Values, reading: Values, limit: float, q: Values, q_lower: Values, offset: tuple[int, int]
) -> None:
    """Read a stream int16 [N, H, W C]; other arguments as in :func:`pass_on`."""
    images, rows, values = stream.shape
    chunk, most = reading.shape[1], np.float32(limit)
    s = np.empty(chunk, np.float32)
    for i in range(images):
        for r in range(rows):
            for a in range(0, values, chunk):
                b = min(values, a + chunk)
                first, last = offset[1] + a, offset[1] + b
                for j in range(b - a):
                    s[j] = np.float32(stream[i, r, a + j])
                if len(q_lower) > 0:
                    _read_wide(
                        s[: b - a],
                        reading,
                        most,
                        q[i, offset[0] + r, first:last],
                        q_lower[i, offset[0] + r, first:last],
                    )
                else:
                    _read(s[: b - a], reading, most, q[i, offset[0] + r, first:last])


@compiled
def fill_border(q: Values, zero: Values, border: int) -> None:
    """Set the border of q uint8 [N, H, W, C] to ``zero`` uint8 [C]."""
    images, height, width, channels = q.shape
    for i in range(images):
        for r in range(height):
            inside = border <= r < height - border
            for w in range(2 * border if inside else width):
                column = w if not inside or w < border else width - 2 * border + w
                for c in range(channels):
                    q[i, r, column, c] = zero[c]
