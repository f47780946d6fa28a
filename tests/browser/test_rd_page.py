"""The page of ``ddpm-codec rd`` in Chromium: what it draws, how it is operated, and whether it can be read."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ddpm_codec.rate_distortion.report import RdReport
from tests.browser.chromium import SCHEMES, WIDTHS, Scheme
from tests.browser.conftest import NAMES, Seen, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
LEAST_TEXT, LEAST_GRAPHICS = 4.5, 3.0
"""WCAG 2.2, success criteria 1.4.3 and 1.4.11."""


def luminance(colour: list[int]) -> float:
    """Return the relative luminance of WCAG 2.2."""
    shares = [value / 255 for value in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colours: list[list[int]]) -> float:
    low, high = sorted(luminance(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)


def shown(page: "Page") -> tuple[str | None, str | None, list[str], list[str]]:
    """Return what the slider says, to eyes and to ears, and the captions and pictures."""
    return (
        page.locator("#at").text_content(),
        page.locator("#rate").get_attribute("aria-valuetext"),
        page.locator("#shown figcaption").all_text_contents(),
        page.eval_on_selector_all("#shown img", "images => images.map(image => image.src)"),
    )


def pictures_decode(page: "Page") -> None:
    """Check that every picture has pixels, and says what it is."""
    # Decoding rejects what is no picture.
    found = page.eval_on_selector_all(
        "#shown img",
        "images => Promise.all(images.map(image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])))",
    )
    assert len(found) == 4
    assert set(map(tuple, found)) == {(48, 40)}
    captions = page.locator("#shown figcaption").all_text_contents()
    titles = page.locator("#shown figcaption b").all_text_contents()
    alts = page.eval_on_selector_all("#shown img", "images => images.map(image => image.alt)")
    for alt, title, caption in zip(alts, titles, captions, strict=True):
        assert alt == f"{title}, {caption.removeprefix(title)}"


def test_every_curve_is_drawn_inside_its_chart(seen: Seen, rd_report: tuple[RdReport, Path]) -> None:
    report, _ = rd_report
    boxes = seen.page.evaluate(
        """() => [...document.querySelectorAll('.panels svg')].map(svg => {
            const box = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
            const plot = box(svg.querySelector('[id$="-patch_2"] path'));
            return [...svg.querySelectorAll('g[id^="curve-"]')].map(group => (
                {plot, id: group.id, line: box(group.querySelector(':scope > path')),
                 dots: [...group.querySelectorAll('use')].map(box)}));
        })"""
    )
    assert len(boxes) == len(report.metrics)
    for metric, curves in zip(report.metrics, boxes, strict=True):
        drawn = [curve for curve in report.curves[metric] if curve.finite_points()]
        assert [curve["id"] for curve in curves] == [f"curve-{metric}-{number}" for number in range(len(drawn))]
        for curve, wanted in zip(curves, drawn, strict=True):
            left, top, right, bottom = curve["plot"]
            for box in (curve["line"], *curve["dots"]):
                assert left <= box[0] <= box[2] <= right
                assert top <= box[1] <= box[3] <= bottom
            assert len(curve["dots"]) == len(wanted.finite_points())
            # Rates and qualities differ along each curve of this run.
            assert curve["line"][2] - curve["line"][0] > 5
            assert curve["line"][3] - curve["line"][1] > 5
    names = [curve.name for curve in report.curves["psnr"]]
    assert seen.page.locator(".legend li").all_text_contents() == names


def test_the_slider_moves_by_keyboard(seen: Seen, rd_report: tuple[RdReport, Path]) -> None:
    page, rate = seen.page, seen.page.locator("#rate")
    points = [
        point
        for point in rd_report[0].records[0].points
        if (point.codec, point.reconstruction) == ("ddpm-codec", "mean")
    ]
    points.sort(key=lambda point: point.bpp)
    assert len(points) >= 3
    rate.focus()
    page.keyboard.press("Home")
    states = []
    for point in points:
        states.append(shown(page))
        said, aria, captions, _ = states[-1]
        assert said == aria
        assert said is not None
        assert said.startswith(f"{point.setting}: {point.file_bytes:,} bytes")
        assert captions[1] == "ddpm-codec, mean" + said.removeprefix(f"{point.setting}: ")
        pictures_decode(page)
        page.keyboard.press("ArrowRight")
    # It ends at the last one.
    assert shown(page) == states[-1]
    for before, after in pairwise(states):
        assert before[3][0] == after[3][0]
        assert before[3][1] != after[3][1]
    page.keyboard.press("ArrowLeft")
    assert shown(page) == states[-2]
    page.keyboard.press("Home")
    assert shown(page) == states[0]
    page.keyboard.press("End")
    assert shown(page) == states[-1]
    assert seen.complaints == []


def test_the_slider_moves_by_mouse(seen: Seen) -> None:
    page, rate = seen.page, seen.page.locator("#rate")
    rate.scroll_into_view_if_needed()
    box = rate.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + 2, middle)
    low = shown(page)
    assert rate.input_value() == "0"
    page.mouse.move(box["x"] + 8, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, middle, steps=5)
    page.mouse.up()
    high = shown(page)
    assert rate.input_value() == rate.get_attribute("max") != "0"
    assert all(before != after for before, after in zip(low, high, strict=True))


def test_the_lists_change_what_is_shown(seen: Seen) -> None:
    page = seen.page
    assert page.locator("#picture option").all_text_contents() == list(NAMES)
    assert page.locator("#how option").all_text_contents() == ["mean", "flow"]
    page.locator("#rate").press("Home")
    first = shown(page)
    page.locator("#how").select_option("flow")
    flow = shown(page)
    assert flow[2][1].startswith("ddpm-codec, flow")
    assert first[2][1].startswith("ddpm-codec, mean")
    # The same file, differently reconstructed; the others are where they were.
    assert (flow[3][0], flow[3][2:]) == (first[3][0], first[3][2:])
    assert flow[3][1] != first[3][1]
    pictures_decode(page)
    page.locator("#picture").select_option(label=NAMES[1])
    other = shown(page)
    assert len({*other[3], *flow[3]}) == 8
    pictures_decode(page)
    page.locator("#picture").focus()
    page.keyboard.press("ArrowUp")
    assert shown(page) == flow
    assert seen.complaints == []


def test_nothing_is_asked_for_and_nothing_goes_wrong(seen: Seen, rd_report: tuple[RdReport, Path]) -> None:
    seen.page.locator("summary").first.click()
    seen.page.wait_for_load_state("networkidle")
    assert (seen.requests, seen.complaints) == ([rd_report[1].as_uri()], [])
    assert seen.page.title() == "ddpm-codec: rate and distortion"


def test_the_page_could_not_fetch_anything_if_it_tried(seen: Seen) -> None:
    blocked = seen.page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective));
            document.body.append(Object.assign(new Image(), {src: 'beside.png'}));
            setTimeout(() => resolve('nothing'), 5000);
        })"""
    )
    assert blocked == "img-src"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_read(browser: "Browser", rd_report: tuple[RdReport, Path], scheme: Scheme, width: int) -> None:
    page = opened(browser, rd_report[1], width, scheme).page
    # Other pages with this style have links.
    page.evaluate("document.querySelector('p').insertAdjacentHTML('beforeend', ' <a href=\"#\">link</a>')")
    found: dict[str, list[dict[str, Any]]] = page.evaluate(CONTRAST)
    texts = found["texts"]
    assert {text["kind"] for text in texts} == {"body", "caption", "link", "chart"}
    assert [text for text in texts if contrast(text["colours"]) < LEAST_TEXT] == []
    # Twelve pixels are nine points, the least that is comfortable.
    assert [text for text in texts if text["pixels"] < 12.0] == []
    assert len(found["spines"]) == 2 * 4
    assert len(found["ticks"]) >= 2 * 6
    # Six curves in two charts, and once in the legend.
    assert len(found["curves"]) == 3 * 6
    lines = [*found["spines"], *found["ticks"], *found["curves"]]
    assert [line for line in lines if contrast(line["colours"]) < LEAST_GRAPHICS] == []
    ground = texts[0]["colours"][1]
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    assert all(line["colours"][1] == ground for line in lines)
    # Unfolded tables are wider than a narrow window, and scroll by themselves.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = page.eval_on_selector_all(
        "body *:not(.scroll *, svg *)", "found => found.map(e => e.getBoundingClientRect().right)"
    )
    assert max(inside) <= width
    page.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    browser: "Browser", rd_report: tuple[RdReport, Path], scheme: Scheme
) -> None:
    page = opened(browser, rd_report[1], 400, scheme).page
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => {
                const element = document.activeElement, style = getComputedStyle(element);
                return {
                    inside: element !== document.body,
                    name: element.id || element.getAttribute('aria-label') || element.textContent,
                    line: [style.outlineStyle, parseFloat(style.outlineWidth)],
                    colours: [style.outlineColor, getComputedStyle(document.body).backgroundColor]
                        .map(colour => colour.match(/\\d+/g).map(Number)),
                };
            }"""
        )
        if not focus["inside"]:
            break
        reached.append(focus["name"])
        assert focus["line"][0] == "solid"
        assert focus["line"][1] >= 2
        assert contrast(focus["colours"]) >= LEAST_GRAPHICS
    tables = ["BD-rates at equal PSNR (dB)", "BD-rates at equal SSIMULACRA2"]
    folded = ["The same as a table", *tables, "Ranges and numbers of pictures"]
    assert reached == [*folded, "picture", "how", "rate"]
    page.context.close()


def test_a_wide_table_scrolls_by_keyboard(browser: "Browser", rd_report: tuple[RdReport, Path]) -> None:
    page = opened(browser, rd_report[1], 400).page
    page.get_by_text("Ranges and numbers of pictures").click()
    region = page.get_by_role("region", name="Ranges of the BD-rates")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=region.element_handle())
    page.context.close()
