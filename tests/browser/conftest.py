"""A browser, and a small real run of ``ddpm-codec rd`` for it to open."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from ddpm_codec.rate_distortion.report import RdReport
from ddpm_codec.rate_distortion.run import run_rd
from tests.browser.chromium import Scheme, browser_of, find_chromium
from tests.golden.regenerate import EXACT
from tests.helpers import SMALL

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ('<b>"&é.png', "plain.png")


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    pytest.importorskip("playwright", reason="playwright (the dev extra) is not installed")
    program = find_chromium()
    if program is None:
        pytest.skip("there is no chromium in PATH")
    with browser_of(program) as started:
        yield started


@pytest.fixture(scope="session")
def rd_report(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> tuple[RdReport, Path]:
    """Return a run over two pictures by a tiny model, beside two peers in two metrics, and its page."""
    folder = tmp_path_factory.mktemp("rd")
    (folder / "in").mkdir()
    for index, name in enumerate(NAMES):
        Image.open(SMALL).crop((20 * index, 10 * index, 20 * index + 48, 10 * index + 40)).save(folder / "in" / name)
    report = run_rd(
        str(folder / "in"),
        folder / "out",
        peers=("jpeg", "webp"),
        metrics=("psnr", "ssimulacra2"),
        reconstructions=("mean", "flow"),
        model=str(EXACT),
    )
    return report, folder / "out" / "index.html"


@dataclass
class Seen:
    """A page in the browser.

    Attributes:
        page: the open page.
        requests: addresses that it asked for, but for those that hold their content themselves.
        complaints: what the console and uncaught errors said.
    """

    page: "Page"
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def opened(browser: "Browser", path: Path, width: int = 1600, scheme: Scheme = "light") -> Seen:
    """Open a page in a context of its own, and keep account of what it does."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    seen = Seen(page)
    page.on("request", lambda request: None if request.url[:5] == "data:" else seen.requests.append(request.url))
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.goto(path.as_uri())
    return seen


@pytest.fixture
def seen(browser: "Browser", rd_report: tuple[RdReport, Path]) -> Iterator[Seen]:
    """The page of the run, wide and light."""
    found = opened(browser, rd_report[1])
    yield found
    found.page.context.close()
