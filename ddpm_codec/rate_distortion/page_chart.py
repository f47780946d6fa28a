"""Curves as SVG inside a page: every point says its values when it is pointed at."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from ddpm_codec.rate_distortion.curves import IDEAL, OURS, Curve
from ddpm_codec.rate_distortion.metrics import TITLES
from ddpm_codec.rate_distortion.plot import colour_of

_WIDTH, _HEIGHT = 410, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 400, 24, 288
_STEPS: Final = (1.0, 2.0, 5.0)


def chart(curves: Sequence[Curve], metric: str) -> str:
    """Return an ``<svg>`` of the curves of one metric over bits per pixel (log axis); empty where nothing can be drawn."""
    points = [point for curve in curves for point in curve.finite_points()]
    if not points:
        return ""
    rates, values = [rate for _, rate, _ in points], [value for _, _, value in points]
    horizontal = _Axis(math.log10(min(rates)), math.log10(max(rates)), _LEFT, _RIGHT)
    vertical = _Axis(min(values), max(values), _BOTTOM, _TOP)
    title = escape(TITLES[metric])
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} over bits per pixel">',
        *_grid(horizontal, vertical),
        f'<text x="{_LEFT}" y="14">{title}</text>',
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">bits per pixel</text>',
        *(_line(curve, horizontal, vertical) for curve in curves),
        "</svg>",
    ]
    return "".join(parts)


def legend_entry(curve: Curve) -> str:
    """Return an ``<li>`` with a sample of the line and the name of a curve."""
    stroke = f'<line x1="0" y1="5" x2="28" y2="5" {_stroke(curve)}/>'
    return f'<li><svg viewBox="0 0 28 10" aria-hidden="true">{stroke}</svg>{escape(curve.name)}</li>'


class _Axis:
    """Maps [low, high], widened a little, to coordinates of the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        margin = 0.03 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """Return the coordinate of ``value``."""
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)


def _grid(horizontal: _Axis, vertical: _Axis) -> list[str]:
    parts = []
    for power in range(math.floor(horizontal.low) - 1, math.ceil(horizontal.high) + 1):
        for step in _STEPS:
            rate = step * 10.0**power
            if horizontal.low <= math.log10(rate) <= horizontal.high:
                x = horizontal.at(math.log10(rate))
                parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{_BOTTOM}" stroke="#e4e4e4"/>')
                parts.append(f'<text x="{x}" y="{_BOTTOM + 14}" text-anchor="middle">{rate:g}</text>')
    gap = _nice((vertical.high - vertical.low) / 6.0)
    for count in range(math.ceil(vertical.low / gap), math.floor(vertical.high / gap) + 1):
        y = vertical.at(count * gap)
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{count * gap:g}</text>')
    return parts


def _nice(gap: float) -> float:
    """Return the next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(gap))
    return next(step * power for step in (*_STEPS, 10.0) if step * power >= gap)


def _line(curve: Curve, horizontal: _Axis, vertical: _Axis) -> str:
    points = [(setting, rate, value) for setting, rate, value in curve.finite_points() if rate > 0.0]
    places = [(horizontal.at(math.log10(rate)), vertical.at(value)) for _, rate, value in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="3" fill="{colour_of(curve)}"><title>'
        f"{escape(curve.name)} {escape(setting)}: {rate:.4f} bpp, {value:.3f}</title></circle>"
        for (x, y), (setting, rate, value) in zip(places, points, strict=True)
    )
    return f'<polyline points="{path}" fill="none" {_stroke(curve)}/>{dots}'


def _stroke(curve: Curve) -> str:
    dashes = ' stroke-dasharray="5 4"' if curve.codec == IDEAL else ""
    width = 2.2 if curve.codec == OURS else 1.3
    return f'stroke="{colour_of(curve)}" stroke-width="{width}"{dashes}'
