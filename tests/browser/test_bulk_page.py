"""The page of ``ddpm-codec bulk encode`` in Chromium: it fits, its pictures decode, nothing is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.bulk import BulkOptions, bulk_encode
from ddpm_codec.bulk.report_page import WORST
from tests.browser.chromium import SCHEMES, WIDTHS, Scheme
from tests.browser.conftest import opened
from tests.bulk.conftest import PoolHere

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def bulk_page(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run over pictures of several sizes, some of them broken, one with a name that is no markup."""
    folder = tmp_path_factory.mktemp("bulk")
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        side = 8 + 16 * (number % 5)
        pixels = rng.integers(0, 1 + 10 * number, (side, 2 * side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f'<b>"&é {number:02d}.png')
    for number in range(3):
        (folder / "in" / f"broken{number}.png").write_bytes(b"nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm_codec.bulk.encode.connected", PoolHere.connected)
        bulk_encode(str(folder / "in"), str(folder / "out"), BulkOptions(model="none", shard_images=4))
    return folder / "out" / "report.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_shows_what_was_done(browser: "Browser", bulk_page: Path, scheme: Scheme, width: int) -> None:
    seen = opened(browser, bulk_page, width, scheme)
    page = seen.page
    assert (seen.requests, seen.complaints) == ([bulk_page.as_uri()], [])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sizes = page.eval_on_selector_all(
        "figure img",
        "images => Promise.all(images.map(image => image.decode().then(() => [image.naturalWidth, image.width])))",
    )
    assert len(sizes) == WORST
    assert all(0 < natural <= 160 and shown > 0 for natural, shown in sizes)
    names = page.locator("figcaption b").all_text_contents()
    assert all(Path(name).name.startswith('<b>"&é ') for name in names)
    assert page.locator('[aria-label="Pictures that failed"] tbody tr').count() == 3
    boxes = page.eval_on_selector_all(
        "svg rect", "bars => bars.map(bar => [bar.getBoundingClientRect(), bar.closest('svg').getBoundingClientRect()])"
    )
    assert len(boxes) == 6
    for bar, chart in boxes:
        assert chart["left"] <= bar["left"] < bar["right"] <= chart["right"]
        assert chart["top"] <= bar["top"] < bar["bottom"] <= chart["bottom"]
    texts = page.eval_on_selector_all("svg text", "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))")
    # Its words are scaled with the chart.
    scale = boxes[0][1]["width"] / page.evaluate("document.querySelector('svg').viewBox.baseVal.width")
    assert all(size * scale >= 12 for size in texts)
    page.context.close()
