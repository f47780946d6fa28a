"""The exact pixel decoder in plain NumPy int64 and Python integers: what every faster implementation has to agree with.

Written from docs/FORMAT.md, section 10, over the parameters of :mod:`ddpm_codec.nn.exact.decoder_parameters`.
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder, GatedReading
from ddpm_codec.nn.exact.parameters import Convolution
from tests.reference.exact_network import (
    Array,
    body,
    convolve,
    folded,
    read,
    rescale,
    saturated,
    shift_even,
    to_picture,
    window_sums,
)


def trunk(decoder: ExactPixelDecoder, picture: Array, level: int) -> tuple[Array, Array]:
    """Return (m_0 [B, 3, H, W] in 1/1024 grey levels around 127.5, q of the features [B, H, W, F])."""
    heads, head = decoder.heads, decoder.layers["trunk_head"]
    picture, outer = body(decoder.layers, decoder.config.trunk, heads.picture_multiplier[level], picture, level)
    v = convolve(read(outer, head.reading), head)
    skip = folded(picture * heads.mean_skip[level])
    mean = shift_even(skip + v[..., :12] * heads.mean_multiplier[level], 24)
    features = np.clip(128 + shift_even(v[..., 12:] * heads.feature_multiplier, 24), 0, 255)
    limit = 1 << 20
    return np.clip(to_picture(mean), -limit, limit), to_picture(features).transpose(0, 2, 3, 1)


def sums(decoder: ExactPixelDecoder, mean: Array, features: Array, x_0: NDArray[np.integer], level: int) -> Array:
    """Return v [B, h, w, 12] of the masked network, given all of x_0 [B, 3, h, w]."""
    height, width = x_0.shape[2:]
    layers, config = decoder.layers, decoder.config
    mean, features = mean[..., :height, :width], features[:, :height, :width]
    greys, multiplier = 1024 * x_0.astype(np.int64) - 130560, decoder.heads.residual_multiplier[level]
    r = np.clip(shift_even((greys - mean) * multiplier, 24), -4096, 4095)

    def apply(name: str, q: Array, stream: Array | int = 0) -> Array:
        layer = layers[name]
        return rescale(whole_sums(q, layer), layer, level, stream)

    stream = saturated(apply("feature_stem", features))
    stream = saturated(apply("masked_stem", r.transpose(0, 2, 3, 1) + 4096, stream))
    stream = saturated(apply("step_stem", steps(greys, mean, config.reach, multiplier) + 4096, stream))
    for index in range(config.blocks):
        name = f"blocks.{index}"
        seen = stream
        if index:
            seen = apply(f"{name}.masked", read(stream, layers[f"{name}.masked"].reading))
        both = apply(f"{name}.gates", read(seen, layers[f"{name}.gates"].reading))
        reading = layers[f"{name}.mix"].reading
        assert isinstance(reading, GatedReading)
        u, gate = both[..., : config.channels], both[..., config.channels :]
        swish = shift_even(u * np.clip(u + reading.half, 0, 2 * reading.half), reading.pre)
        gated = swish * np.clip(gate + 128, 0, 256)
        q = np.clip(shift_even((reading.zero << reading.shift) + gated, reading.shift), 0, reading.limit)
        stream = saturated(apply(f"{name}.mix", q, stream))
    head = layers["parameter_head"]
    return whole_sums(read(stream, head.reading), head)


def steps(greys: Array, mean: Array, reach: int, multiplier: int) -> Array:
    """Return from m_0 of each pixel to the pixels before it in the square, [B, h, w, 3 (reach^2 // 2)]; 0 outside."""
    batch, _, height, width = greys.shape
    border, seen = reach // 2, reach**2 // 2
    around = ((0, 0), (0, 0), (border, 0), (border, border))
    padded, there = np.pad(greys, around), np.pad(np.ones_like(greys), around)
    far = []
    for place in range(seen):
        row, column = divmod(place, reach)
        before = np.s_[..., row : row + height, column : column + width]
        far.append((padded[before] - mean) * there[before])
    found = np.clip(shift_even(np.stack(far) * multiplier, 24), -4096, 4095)
    return found.transpose(1, 3, 4, 0, 2).reshape(batch, height, width, 3 * seen)


def whole_sums(q: Array, layer: Convolution) -> Array:
    """Return v = sum of w q + offset, also of two-byte inputs."""
    return window_sums(q, layer, lambda value: value) + layer.offset


def pixel_laws(
    decoder: ExactPixelDecoder, level: int, v: list[int], mean: list[int], x_0: list[int]
) -> list[tuple[int, int, int]]:
    """Return (mean16, scale, row) of red, green and blue of one pixel, in Python integers."""
    heads = decoder.heads

    def scaled(index: int, multiplier: int) -> int:
        return round_half_even(int(v[index]) * int(multiplier), 24)

    def limited(value: int, low: int, high: int) -> int:
        return min(max(value, low), high)

    def centred(value: int) -> int:
        return limited(value, -64 * 65536, 320 * 65536 - 1)

    alone = [
        centred((int(mean[j]) << 6) + 8355840 + scaled(j, heads.pixel_mean_multiplier[level][j])) for j in range(3)
    ]
    a, b, c = (limited(scaled(6 + j, heads.coefficient_multiplier[j]), -6144, 6144) for j in range(3))
    green = alone[1]
    from_green = (int(x_0[1]) << 16) - green
    red = centred(alone[0] + round_half_even(a * from_green, 12))
    blue = centred(alone[2] + round_half_even(b * from_green + c * ((int(x_0[0]) << 16) - red), 12))
    laws = []
    for j, centre in enumerate((red, green, blue)):
        scale = limited(scaled(3 + j, heads.scale_multiplier[j]) + int(heads.scale_base[level]), 0, 503)
        laws.append((centre, scale, limited(scaled(9 + j, heads.tail_multiplier[j]), 0, len(decoder.tails) - 1)))
    return laws


def cumulative(decoder: ExactPixelDecoder, k: int, law: tuple[int, int, int]) -> int:
    """Return the sum of the frequencies below grey level k, in Python integers."""
    if k <= 0 or k >= 256:
        return 0 if k <= 0 else 1 << 24
    centre, scale, row = law
    d = (2 * k - 1) * 32768 - centre
    p = abs(d) * int(decoder.inverse_scales[scale])
    table = decoder.tails[row]
    j, f = p >> 36, (p >> 20) & 65535
    lower, upper = (int(table[min(place, len(table) - 1)]) for place in (j, j + 1))
    share = lower + ((upper - lower) * f >> 16)
    if d < 0:
        share = (1 << 30) - share
    return k + (share * ((1 << 24) - 256) >> 30)


def round_half_even(a: int, s: int) -> int:
    """Return a / 2^s rounded half to even."""
    floor, rest = a >> s, a & ((1 << s) - 1)
    half = 1 << s - 1
    return floor + (rest > half or (rest == half and floor & 1 == 1))
