"""What lies between the convolutions of the exact pixel decoder alone, on a CPU: compiled loops.

As in :mod:`ddpm_codec.nn.exact.passes`, numbers are binary32 with integer values on which every operation is exact; sums of
two-byte inputs, up to 2^30, are binary64.
"""

import numpy as np

from ddpm_codec.compilation import compiled
from ddpm_codec.nn.exact.decoder_parameters import (
    FEATURE_SHIFT,
    FEATURE_ZERO,
    GATE_HALF,
    RESIDUAL_SHIFT,
    RESIDUAL_ZERO,
)
from ddpm_codec.nn.exact.parameters import BYTE, T_LIMIT
from ddpm_codec.nn.exact.passes import Values, between, shifted

_ROUND = np.float32(1.5 * 2.0**23)
_ROUND_WIDE = 1.5 * 2.0**52
_NONE = np.float32(0.0)
_GATE_HALF = np.float32(GATE_HALF)
_GATE_OPEN = np.float32(2 * GATE_HALF)
_T_LIMIT = float(T_LIMIT)
_BYTES = 256.0


@compiled
def write_features(sums: Values, multiplier: Values, place: tuple[int, int], features: Values) -> None:
    """Write features, uint8 [N, H, W, F], of the sums [n, h, w, 12 + 4F] of the trunk's head at (image, row)."""
    images, rows, columns, channels = sums.shape
    for i in range(images):
        for r in range(rows):
            for w in range(columns):
                for channel in range(12, channels):
                    of = channel - 12
                    value = FEATURE_ZERO + shifted(np.int64(sums[i, r, w, channel]) * multiplier[of], FEATURE_SHIFT)
                    row, column = 2 * (place[1] + r) + (of >> 1 & 1), 2 * w + (of & 1)
                    features[place[0] + i, row, column, of >> 2] = np.uint8(between(value, 0, BYTE))


@compiled
def read_residuals(x_0: Values, mean: Values, multiplier: int, border: int, upper: Values, lower: Values) -> None:
    """Read residuals of x_0 uint8 [N, 3, h, w] to m_0 int32 [N, 3, h, w], in two bytes inside their border."""
    images, planes, height, width = x_0.shape
    for i in range(images):
        for p in range(planes):
            for r in range(height):
                for w in range(width):
                    distance = 1024 * np.int64(x_0[i, p, r, w]) - 130560 - np.int64(mean[i, p, r, w])
                    residual = shifted(distance * multiplier, RESIDUAL_SHIFT) + RESIDUAL_ZERO
                    q = between(residual, 0, 2 * RESIDUAL_ZERO - 1)
                    upper[i, border + r, border + w, p] = np.uint8(q >> 8)
                    lower[i, border + r, border + w, p] = np.uint8(q & 255)


@compiled
def _join(upper: Values, lower: Values, offset: Values, scale: Values, t: Values) -> None:
    for c in range(len(t)):
        v = (np.float64(upper[c]) * _BYTES + np.float64(lower[c]) + offset[c]) * scale[c]
        v = -_T_LIMIT if v < -_T_LIMIT else v
        v = _T_LIMIT if v > _T_LIMIT else v
        t[c] = np.float32((v + _ROUND_WIDE) - _ROUND_WIDE)


@compiled
def join_sums(upper: Values, lower: Values, offset: Values, scale: Values) -> None:
    """Turn sums of upper bytes float32 [n, h, w, O] into t = clamp(R(v 2^-pre_shift)), v = 256 upper + lower + offset."""
    images, rows, columns, _ = upper.shape
    for i in range(images):
        for r in range(rows):
            for w in range(columns):
                _join(upper[i, r, w], lower[i, r, w], offset, scale, upper[i, r, w])


@compiled
def _gate(sums: Values, rescaling: Values, reading: Values, limit: Values, out: Values) -> None:
    """Leave q of ``mix``, as float, in ``out`` [C] for the sums [2C] of ``gates``."""
    channels = len(out)
    start, down, half, top, before = reading[0], reading[1], reading[2], reading[3], reading[4]
    to_u, to_gate = rescaling[0, :channels], rescaling[0, channels : 2 * channels]
    bias_u, bias_gate = rescaling[1, :channels], rescaling[1, channels : 2 * channels]
    of_u, of_gate = sums[:channels], sums[channels:]
    for c in range(channels):
        u = (((of_u[c] + _ROUND) - _ROUND) * to_u[c] + bias_u[c]) - _ROUND
        gate = ((((of_gate[c] + _ROUND) - _ROUND) * to_gate[c] + bias_gate[c]) - _ROUND) + _GATE_HALF
        gate = _NONE if gate < _NONE else gate
        gate = _GATE_OPEN if gate > _GATE_OPEN else gate
        slope = u + half[c]
        slope = _NONE if slope < _NONE else slope
        slope = top[c] if slope > top[c] else slope
        swish = (u * slope * before[c] + _ROUND) - _ROUND
        q = (start[c] + swish * gate) * down[c]
        q = _NONE if q < _NONE else q
        q = limit if q > limit else q
        out[c] = (q + _ROUND) - _ROUND


@compiled
def _write(q: Values, out: Values) -> None:
    for c in range(len(q)):
        out[c] = np.uint8(np.int32(q[c]))


@compiled
def _write_wide(q: Values, upper: Values, lower: Values) -> None:
    for c in range(len(q)):
        number = np.int32(q[c])
        upper[c] = np.uint8(number >> 8)
        lower[c] = np.uint8(number & 255)


@compiled
def read_gates(
    sums: Values,
    rescaling: Values,
    reading: Values,
    limit: float,
    place: tuple[int, int],
    upper: Values,
    lower: Values,
) -> None:
    """Rescale the sums of ``gates`` to u and g, and read them for ``mix``.

    Args:
        sums: float32 [n, h, w, 2C], clamped and scaled by 2^-pre_shift.
        rescaling: float32 [3, 2C or more]: multiplier 2^-shift, bias + 1.5 2^23, and what is not used.
        reading: float32 [5, C]: zero 2^shift, 2^-shift, A, 2A, 2^-pre.
        limit: largest q.
        place: of the sums, (image, row).
        upper: uint8 [N, H, W, C], the bytes, or upper bytes, of ``mix``.
        lower: lower bytes of a two-byte input; otherwise empty.
    """
    images, rows, columns, _ = sums.shape
    wide, most = len(lower) > 0, np.float32(limit)
    q = np.empty(reading.shape[1], np.float32)
    for i in range(images):
        for r in range(rows):
            image, row = place[0] + i, place[1] + r
            for w in range(columns):
                _gate(sums[i, r, w], rescaling, reading, most, q)
                if wide:
                    _write_wide(q, upper[image, row, w], lower[image, row, w])
                else:
                    _write(q, upper[image, row, w])
