"""The system's Chromium, headless, driven by playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
WIDTHS: Final = (400, 1600)
"""Of a telephone and of a large window, in CSS pixels."""

_ARGUMENTS: Final = (
    # The sandbox does not start for root, as in containers; only our own pages are opened.
    "--no-sandbox",
    "--disable-gpu",
    # Nothing but the page's own requests.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """Return the path of the program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def browser_of(program: str) -> "Iterator[Browser]":
    """Run a browser with an empty profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
