"""Rate-distortion points, their means over pictures, and Bjontegaard deltas between curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
from scipy.interpolate import PchipInterpolator

from ddpm_codec.rate_distortion.metrics import ms_ssim_db

OURS: Final = "ddpm-codec"
IDEAL: Final = "ddpm-codec (ideal)"
AVERAGING: Final = {
    "psnr": "10 log10(255^2 / mean over pictures of the MSE)",
    "ms_ssim": "-10 log10(1 - mean over pictures)",
    "ssimulacra2": "mean over pictures",
}
"""How each metric is averaged (:func:`mean_quality`)."""

MIN_OVERLAP: Final = 0.5
MIN_POINTS: Final = 4

Points = Sequence["RatePoint"]


@dataclass(frozen=True)
class RatePoint:
    """One picture at one setting of a codec.

    Attributes:
        codec: a peer's name, ``OURS`` or ``IDEAL``.
        setting: label of the setting, the same for every picture.
        file_bytes: size of the file, or of the prefix of it that is needed; None on the theoretical curve.
        bpp: bits per pixel, ``8 file_bytes / (H W)``.
        metrics: by name; infinity for equal pictures (PSNR), None where a picture is too small for the metric.
        reconstruction: how our decoder reconstructed the picture; empty for peers.
    """

    codec: str
    setting: str
    file_bytes: int | None
    bpp: float
    metrics: Mapping[str, float | None]
    reconstruction: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with None for infinity, which JSON lacks."""
        return asdict(self) | {"metrics": {name: finite(value) for name, value in self.metrics.items()}}


@dataclass(frozen=True)
class Curve:
    """Mean rate and quality at every setting, over the same pictures at each.

    Attributes:
        codec: see :class:`RatePoint`.
        reconstruction: see :class:`RatePoint`.
        metric: its name.
        pictures: number of pictures averaged.
        settings: labels by increasing rate, [S].
        bpp: mean bits per pixel, [S].
        values: mean quality (:func:`mean_quality`), [S]; None where every picture is exact, so that there are no decibels.
        exact: number of pictures that come back exactly, [S]; zeros for a metric that has no greatest value in decibels.
        left_out: indices of the pictures that are not averaged: the metric has no value of them, or the codec no file.
        dropped: settings that are not averaged, because some of the pictures lack them.
    """

    codec: str
    reconstruction: str
    metric: str
    pictures: int
    settings: tuple[str, ...]
    bpp: tuple[float, ...]
    values: tuple[float | None, ...]
    exact: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Codec and reconstruction."""
        return curve_name(self.codec, self.reconstruction)

    def finite_points(self) -> list[tuple[str, float, float]]:
        """Return (setting, bpp, value) where there is a value."""
        rows = zip(self.settings, self.bpp, self.values, strict=True)
        return [(setting, rate, value) for setting, rate, value in rows if value is not None]


@dataclass(frozen=True)
class BdRate:
    """Percentage of bits that a curve needs beyond another at equal quality, on average (negative: fewer).

    Attributes:
        percent: mean over pictures of their BD-rates; None where no curves overlap enough.
        low: lowest quality that both curves reach, mean over pictures.
        high: highest such quality.
        pictures: number of pictures whose curves overlap enough.
        of_pictures: number of pictures compared.
    """

    percent: float | None
    low: float | None
    high: float | None
    pictures: int
    of_pictures: int


def curve_name(codec: str, reconstruction: str) -> str:
    """Return the name of a curve in tables."""
    return f"{codec} {reconstruction}".strip()


def finite(value: float | None) -> float | None:
    """Return ``value``, or None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def quality(point: RatePoint, metric: str) -> float | None:
    """Return the metric of a point as plotted: MS-SSIM in dB."""
    value = point.metrics.get(metric)
    return ms_ssim_db(value) if metric == "ms_ssim" and value is not None else value


def mean_curves(pictures: Sequence[Points], metric: str) -> list[Curve]:
    """Average the points of equal codec, reconstruction and setting over pictures.

    Every picture has the same weight: the rate is the mean of bits per pixel, the quality that of :func:`mean_quality`. All
    points of a curve are means over the same pictures: those that the metric has a value of at every setting. A picture
    that a peer has no file of at some setting is left out of that peer's curve. Settings of this codec that some pictures
    lack (in small pictures several levels end together) are dropped instead.

    Args:
        pictures: the points of each picture.
        metric: a key of :data:`ddpm_codec.rate_distortion.metrics.METRICS`.
    """
    groups: dict[tuple[str, str], dict[int, list[RatePoint]]] = {}
    for index, points in enumerate(pictures):
        for point in points:
            groups.setdefault((point.codec, point.reconstruction), {}).setdefault(index, []).append(point)
    curves = (_mean_curve(name, found, len(pictures), metric) for name, found in groups.items())
    return [curve for curve in curves if curve.pictures]


def _mean_curve(name: tuple[str, str], found: Mapping[int, Points], count: int, metric: str) -> Curve:
    """Average one curve, given its points of each picture that has any."""
    labels = list(dict.fromkeys(point.setting for points in found.values() for point in points))
    taken = {
        index: {point.setting: point for point in points}
        for index, points in found.items()
        if all(_is_measured(point, metric) for point in points)
        and (name[0] in (OURS, IDEAL) or len({point.setting for point in points}) == len(labels))
    }
    common = [label for label in labels if taken and all(label in points for points in taken.values())]
    columns = {label: [points[label] for points in taken.values()] for label in common}
    rows = sorted((float(np.mean([point.bpp for point in column])), label) for label, column in columns.items())
    return Curve(
        *name,
        metric,
        len(taken),
        tuple(label for _, label in rows),
        tuple(rate for rate, _ in rows),
        tuple(mean_quality(metric, [point.metrics.get(metric) for point in columns[label]]) for _, label in rows),
        tuple(sum(_is_exact(point, metric) for point in columns[label]) for _, label in rows),
        tuple(index for index in range(count) if index not in taken),
        tuple(label for label in labels if label not in common) if taken else (),
    )


def mean_quality(metric: str, values: Sequence[float | None]) -> float | None:
    """Return the mean quality of pictures; None where it is infinite.

    Distortions are averaged, and decibels taken of the mean, so that a picture which comes back exactly counts as one without
    distortion and not as one of infinite quality: PSNR ``10 log10(255^2 / mean MSE)``, MS-SSIM ``-10 log10(1 - mean)``. Other
    metrics are averaged as they are.

    Args:
        metric: its name.
        values: of the metric; a PSNR that is None or infinite belongs to an exact picture.
    """
    if metric == "psnr":
        mse = float(np.mean([0.0 if finite(v) is None else 10.0 ** (-0.1 * cast(float, v)) for v in values]))
        return -10.0 * math.log10(mse) if mse > 0.0 else None
    mean = float(np.mean([cast(float, value) for value in values]))
    return finite(ms_ssim_db(mean) if metric == "ms_ssim" else mean)


def _is_measured(point: RatePoint, metric: str) -> bool:
    """Whether the metric has a value; of PSNR it always has, and none in a record stands for infinity."""
    return metric == "psnr" or finite(point.metrics.get(metric)) is not None


def _is_exact(point: RatePoint, metric: str) -> bool:
    if metric == "psnr":
        return finite(point.metrics.get(metric)) is None
    return metric == "ms_ssim" and point.metrics.get(metric) == 1.0


def bd_rate_percent(
    anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]
) -> tuple[float, float, float] | None:
    """Return the BD-rate of one curve against another, and the range of quality that it averages over.

    ``100 (10^((1 / (h - l)) int_l^h (log10 R_test(Q) - log10 R_anchor(Q)) dQ) - 1)``, with log-rates interpolated by
    monotone piecewise cubics (PCHIP).

    Args:
        anchor: (rate, quality) of the reference curve; points that cost more and are no better are ignored, and so are
            points of infinite quality.
        test: (rate, quality) of the curve to judge.

    Returns:
        (per cent, l, h), or None if a curve has fewer than four points or the common range is less than half of the
        shorter one.

    Source: Bjontegaard (2001), VCEG-M33; Herglotz et al. (2022), *Beyond Bjontegaard*, for the interpolation.
    """
    first, second = _frontier(anchor), _frontier(test)
    if min(len(first), len(second)) < MIN_POINTS:
        return None
    low, high = max(first[0][1], second[0][1]), min(first[-1][1], second[-1][1])
    shorter = min(curve[-1][1] - curve[0][1] for curve in (first, second))
    if high - low < MIN_OVERLAP * shorter:
        return None
    of_anchor, of_test = (_integral_of_log10_rate(curve, low, high) for curve in (first, second))
    return (10.0 ** ((of_test - of_anchor) / (high - low)) - 1.0) * 100.0, low, high


def _integral_of_log10_rate(curve: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Return int_low^high log10 R(Q) dQ of (rate, quality), both increasing."""
    rates, qualities = (np.array(column) for column in zip(*curve, strict=True))
    return float(PchipInterpolator(qualities, np.log10(rates)).integrate(low, high))


def _frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that are better than every cheaper one: both columns strictly increase."""
    kept: list[tuple[float, float]] = []
    for rate, value in sorted((r, v) for r, v in points if r > 0.0 and math.isfinite(v)):
        if not kept or (value > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, value))
        elif value > kept[-1][1]:
            kept[-1] = (rate, value)
    return kept


def bd_rate(pictures: Sequence[Points], metric: str, anchor: tuple[str, str], test: tuple[str, str]) -> BdRate:
    """Return the mean over pictures of the BD-rate of ``test`` against ``anchor``.

    Args:
        pictures: the points of each picture.
        metric: name of the metric.
        anchor: (codec, reconstruction).
        test: (codec, reconstruction).
    """
    pairs = [(_select(points, metric, anchor), _select(points, metric, test)) for points in pictures]
    compared = [pair for pair in pairs if pair[0] and pair[1]]
    found = [result for pair in compared if (result := bd_rate_percent(*pair)) is not None]
    if not found:
        return BdRate(None, None, None, 0, len(compared))
    percent, low, high = np.mean(found, axis=0).tolist()
    return BdRate(percent, low, high, len(found), len(compared))


def _select(points: Points, metric: str, curve: tuple[str, str]) -> list[tuple[float, float]]:
    rows = [(point.bpp, quality(point, metric)) for point in points if (point.codec, point.reconstruction) == curve]
    return [(rate, value) for rate, value in rows if value is not None]
