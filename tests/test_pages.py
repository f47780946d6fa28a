"""The style of HTML pages: colours that can be read, names that cannot break out, drawings that follow the style."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from ddpm_codec.pages import colours, fill, table, text, themed_svg


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(dark: bool) -> None:
    """WCAG 2.2: 4.5:1 for texts (1.4.3), 3:1 for curves (1.4.11)."""
    known = colours(dark=dark)
    for ground in ("background", "surface"):
        assert all(contrast(known[name], known[ground]) >= 4.5 for name in ("text", "muted", "link"))
    series = [name for name in known if name.startswith("series-")]
    assert len(series) == 8
    assert {name for name in series if contrast(known[name], known["background"]) < 3.0} == set()
    assert (luminance(known["background"]) < luminance(known["text"])) == dark


def test_both_styles_have_the_same_names_and_each_colour_has_one() -> None:
    assert set(colours()) == set(colours(dark=True))
    assert all(first != second for first, second in combinations(colours().values(), 2))


def test_a_drawing_follows_the_style() -> None:
    known = colours()
    drawn = f'<g style="stroke: {known["series-1"]}; fill: {known["text"].upper()}"/><g fill="#123456"/>'
    assert themed_svg(drawn) == '<g style="stroke: var(--series-1); fill: var(--text)"/><g fill="#123456"/>'


def test_words_stay_words() -> None:
    assert text('<b>"&é\udcff') == "&lt;b&gt;&quot;&amp;&#233;&#56575;"


def test_a_table_holds_its_cells() -> None:
    made = table(["name", "<n>"], [["a&b", "1"], ["c", "2"]], text_columns=1, label='"x"')
    region = ElementTree.fromstring(made)
    assert (region.get("role"), region.get("tabindex"), region.get("aria-label")) == ("region", "0", '"x"')
    rows = [[(cell.tag, cell.get("class"), cell.text) for cell in row] for row in region.iter("tr")]
    assert rows == [
        [("th", "text", "name"), ("th", None, "<n>")],
        [("td", "text", "a&b"), ("td", None, "1")],
        [("td", "text", "c"), ("td", None, "2")],
    ]


def test_a_page_holds_its_style_and_fetches_nothing() -> None:
    page = fill("<html><head>$head<title>$title</title></head></html>", title="$head")
    assert page.endswith("<title>$head</title></head></html>")
    assert all(value in page for value in (*colours().values(), *colours(dark=True).values()))
    assert "default-src 'none'" in page
    # Every colour that the style uses is one that it defines.
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= set(colours())
    with pytest.raises(KeyError, match="title"):
        fill("<html><head>$head<title>$title</title></head></html>")
