"""The page of a run: the worst pictures, the failures, a bar for every shard."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddpm_codec.bulk import BulkOptions, bulk_encode
from ddpm_codec.bulk.entries import Entry, table_of
from ddpm_codec.bulk.plan import Plan
from ddpm_codec.bulk.report_page import WORST, PageFacts, _chart, _step
from ddpm_codec.bulk.rows import Row, ShardFacts, table_of_rows


@pytest.mark.usefixtures("here")
def test_the_page_shows_the_worst_and_the_failures(pictures: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "a" / "noise <b>.png")
    Image.new("RGB", (16, 16)).save(pictures / "a" / "black.png")
    (pictures / "b" / "broken.png").write_bytes(b"nothing")
    bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", shard_images=4))
    page = (tmp_path / "out" / "report.html").read_text(encoding="ascii")
    figures = re.findall(r"<figure>(.*?)</figure>", page)
    assert len(figures) == WORST
    assert "noise &lt;b&gt;.png" in figures[0]
    rates = [float(found) for found in re.findall(r"([\d.]+) bits/dim, \d", page)]
    assert rates == sorted(rates, reverse=True)
    assert all('src="data:image/webp;base64,' in figure for figure in figures)
    assert "black.png" not in page
    assert "broken.png" in page
    assert page.count("<rect ") == 4
    assert "http" not in page.replace("http-equiv", "")
    # Another start writes the same page, also where the pictures are gone but for their names and lengths.
    (pictures / "a" / "01.png").write_bytes(bytes((pictures / "a" / "01.png").stat().st_size))
    bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", shard_images=4))
    assert len(re.findall("<figure>", (tmp_path / "out" / "report.html").read_text())) == WORST


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(0, 9, width=32)), max_size=20), max_size=6))
def test_the_worst_are_those_of_the_highest_rates(shards: list[list[float | None]]) -> None:
    facts = PageFacts()
    for number, rates in enumerate(shards):
        rows = [
            Row("s", "n", f"{number}", bpd=rate or 0.0, failure="" if rate is not None else "why") for rate in rates
        ]
        good = sum(rate is not None for rate in rates)
        facts.add(table_of_rows(rows), ShardFacts("", "", 1, "", good, len(rates) - good, 1, good, 0, 0.0))
    every = [(rate, place) for place, rate in enumerate(rate for rates in shards for rate in rates)]
    # Of equal rates the later may be left out; rates themselves are those of a full sort.
    expected = sorted((rate for rate, _ in every if rate is not None), reverse=True)[:WORST]
    assert sorted((rate for rate, _, _ in facts.worst), reverse=True) == expected
    assert all(every[place][0] == rate for rate, place, _ in facts.worst)


@given(st.floats(1e-3, 1e3))
def test_lines_are_round_and_few(most: float) -> None:
    step = _step(most)
    assert 2 <= most / step <= 8
    assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize(("shards", "bars"), [(1, 1), (200, 200), (201, 101), (1000, 200)])
def test_many_shards_share_bars(shards: int, bars: int) -> None:
    plan = Plan.of(table_of([Entry("n", "f", -1, 1)] * shards), {"shard_images": 1, "shard_pixels": None})
    chart, note = _chart([(number, 3.0 + number / shards) for number in range(shards)], plan)
    assert chart.count("<rect ") == bars
    assert ("of each shard" in note) == (shards == bars)
