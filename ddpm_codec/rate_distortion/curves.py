"""Rate-distortion points, their means over pictures, and Bjontegaard deltas between curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from scipy.interpolate import PchipInterpolator

from ddpm_codec.rate_distortion.metrics import ms_ssim_db

OURS: Final = "ddpm-codec"
IDEAL: Final = "ddpm-codec (ideal)"
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
    """Mean rate and mean metric at every setting, over the pictures that have a value of the metric.

    Attributes:
        codec: see :class:`RatePoint`.
        reconstruction: see :class:`RatePoint`.
        metric: its name.
        pictures: number of pictures averaged.
        settings: labels by increasing rate, [S].
        bpp: mean bits per pixel, [S].
        values: mean metric (MS-SSIM in dB), [S]; None where a picture is lossless, so that no finite mean exists.
    """

    codec: str
    reconstruction: str
    metric: str
    pictures: int
    settings: tuple[str, ...]
    bpp: tuple[float, ...]
    values: tuple[float | None, ...]

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
    """Average the points of equal codec, reconstruction and setting over the pictures that have a value of ``metric``.

    Every picture has the same weight: the rate is the mean of bits per pixel, the quality the mean of the metric. A setting
    that some pictures lack (in small pictures several levels end together) is dropped: its mean would be over other pictures.

    Args:
        pictures: the points of each picture.
        metric: a key of :data:`ddpm_codec.rate_distortion.metrics.METRICS`.
    """
    taken = [points for points in pictures if any(quality(point, metric) is not None for point in points)]
    groups: dict[tuple[str, str], dict[str, list[RatePoint]]] = {}
    for points in taken:
        for point in points:
            group = groups.setdefault((point.codec, point.reconstruction), {})
            group.setdefault(point.setting, []).append(point)
    curves = []
    for (codec, reconstruction), settings in groups.items():
        rows = sorted(
            (float(np.mean([point.bpp for point in points])), label, _mean(quality(point, metric) for point in points))
            for label, points in settings.items()
            if len(points) == max(map(len, settings.values()))
        )
        rates, labels, values = zip(*rows, strict=True)
        curves.append(Curve(codec, reconstruction, metric, len(taken), labels, rates, values))
    return curves


def _mean(values: Iterable[float | None]) -> float | None:
    found = list(values)
    if any(value is None or not math.isfinite(value) for value in found):
        return None
    return float(np.mean([value for value in found if value is not None]))


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
