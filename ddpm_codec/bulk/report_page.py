"""The HTML page of a run of bulk encode: rates by shard, failures, and the pictures that took most bits."""

import base64
import heapq
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from PIL import Image

from ddpm_codec.bulk.entries import entries_of
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.rows import Row, ShardFacts, rows_of
from ddpm_codec.errors import DdpmCodecError, Untaken
from ddpm_codec.image_io import read_stored, to_image
from ddpm_codec.pages import fill, table, text
from ddpm_codec.units import bytes_to_bpd

if TYPE_CHECKING:
    import pyarrow as pa

    from ddpm_codec.bulk.plan import Plan
    from ddpm_codec.bulk.source import Source

PAGE = "report.html"
WORST = 12
FAILURES = 200
_BARS = 200
_THUMBNAIL = 160
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 260, 52, 36


@dataclass
class PageFacts:
    """What the page shows, gathered shard by shard.

    Attributes:
        rates: bits per sub-pixel of every shard that has pictures, with its number.
        worst: the pictures of the highest rate, with it and their places in the listing; a heap.
        failures: the first pictures that failed.
    """

    rates: list[tuple[int, float]] = field(default_factory=list)
    worst: list[tuple[float, int, Row]] = field(default_factory=list)
    failures: list[Untaken] = field(default_factory=list)
    _shards: int = 0
    _rows: int = 0

    def add(self, table: "pa.Table", facts: ShardFacts) -> None:
        """Take the next shard."""
        if facts.dims:
            self.rates.append((self._shards, bytes_to_bpd(facts.file_bytes, facts.dims)))
        rates = table.column("bpd").to_numpy()
        least = self.worst[0][0] if len(self.worst) == WORST else -math.inf
        if facts.failures and len(self.failures) < FAILURES:
            failed = [Untaken(row.source, row.failure) for row in rows_of(table) if row.failure]
            self.failures += failed[: FAILURES - len(self.failures)]
        # No more than these can be among the worst.
        for index in sorted(range(len(rates)), key=lambda place: -rates[place])[:WORST]:
            if rates[index] > least:
                row = next(rows_of(table.slice(index, 1)))
                if not row.failure:
                    # By place too, so that rows are never compared.
                    heapq.heappush(self.worst, (float(row.bpd), self._rows + index, row))
                    if len(self.worst) > WORST:
                        heapq.heappop(self.worst)
        self._shards += 1
        self._rows += len(table)


def write_page(
    place: Place, plan: "Plan", source: "Source", facts: PageFacts, summary: Sequence[tuple[str, str]]
) -> None:
    """Write ``report.html`` into the folder of a run.

    Args:
        place: the folder.
        plan: the plan of the run.
        source: where its pictures are: thumbnails are made from them, where they are still there.
        facts: of all shards.
        summary: rows of the table at the top.

    Raises:
        OutputError: it cannot be written.
    """
    chart, note = _chart(facts.rates, plan)
    page = fill(
        (files("ddpm_codec.bulk") / "page.html").read_text(encoding="utf-8"),
        summary=table(["what", "value"], summary, text_columns=2, label="The run"),
        chart=chart,
        chart_note=text(note),
        failures=_failures(facts.failures),
        worst="".join(
            _figure(rate, row, _thumbnail(plan, source, index))
            for rate, index, row in sorted(facts.worst, reverse=True)
        ),
    )
    place.write(PAGE, page.encode("ascii", "xmlcharrefreplace"))


def _failures(failures: Sequence[Untaken]) -> str:
    if not failures:
        return "<p>None.</p>"
    shown = table(["picture", "why"], failures, text_columns=2, label="Pictures that failed")
    return shown + ("" if len(failures) < FAILURES else '<p class="small">The first; the manifest has all.</p>')


def _chart(rates: Sequence[tuple[int, float]], plan: "Plan") -> tuple[str, str]:
    """Return bars of bits per sub-pixel, of every shard or of the mean of several, and a line about them."""
    if not rates:
        return "<p>No shard holds a picture.</p>", ""
    group = -(-len(rates) // _BARS)
    groups = [rates[start : start + group] for start in range(0, len(rates), group)]
    means = [sum(rate for _, rate in part) / len(part) for part in groups]
    step = _step(max(means))
    top = step * math.ceil(max(means) / step + 1e-9)
    inner, high = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 12
    parts = []
    for line in range(round(top / step) + 1):
        y = 12 + high - high * line * step / top
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{line * step:g}</text>')
    width = inner / len(means)
    for index, (part, mean) in enumerate(zip(groups, means, strict=True)):
        length = high * mean / top
        names = plan.shard_name(part[0][0]) + (f" to {plan.shard_name(part[-1][0])}" if len(part) > 1 else "")
        gap = min(2.0, 0.2 * width)
        parts.append(
            f'<rect x="{_LEFT + index * width + gap / 2:.2f}" y="{12 + high - length:.1f}" width="{width - gap:.2f}" '
            f'height="{length:.1f}" fill="var(--series-1)"><title>{text(names)}: {mean:.3f} bits/dim</title></rect>'
        )
    middle, foot = _LEFT + inner / 2, _HEIGHT - 8
    parts.append(f'<text x="{middle:.0f}" y="{foot}" text-anchor="middle">shards, in order</text>')
    # In a narrow window it scrolls by itself, and its words stay large enough.
    style = 'style="width:100%;min-width:600px;height:auto;font:15px system-ui,sans-serif" fill="var(--text)"'
    label = text(f"Bits per sub-pixel of {len(rates)} shards, {min(means):.3f} to {max(means):.3f}")
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" {style}>{"".join(parts)}</svg>'
    scrolling = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Chart" style="width:min(100%,900px)">{svg}</div>'
    )
    each = "of each shard" if group == 1 else f"means of {group} shards each"
    return scrolling, f"Bits per sub-pixel {each}, heads, tables and framing included."


def _step(most: float) -> float:
    """Return a round distance of lines, so that there are three to eight."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= 6)


def _thumbnail(plan: "Plan", source: "Source", index: int) -> str:
    """Return a small picture as a data URI; empty where its file is not there any more, or is not what it was."""
    entry = entries_of(plan.table, index, index + 1)[0]
    try:
        image = to_image(read_stored(source.read(entry), first_frame=True, name=entry.name).picture)
        image = image.convert("RGB")
    except (DdpmCodecError, ValueError, OSError):
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    # Small pictures are shown pixel by pixel.
    factor = max(1, _THUMBNAIL // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _figure(rate: float, row: Row, image: str) -> str:
    shown = f'<img src="{image}" alt="" style="image-rendering:pixelated;width:auto;max-width:100%">' if image else ""
    words = f"{rate:.3f} bits/dim, {row.width}x{row.height}, {row.route}, {row.shard}"
    return f"<figure>{shown}<figcaption><b>{text(row.name)}</b>{text(words)}</figcaption></figure>"
