"""HTML pages: one style for all of them, light and dark, and the pieces that more than one page has.

A page is a template (:class:`string.Template`) that begins with ``$head`` and is filled by :func:`fill`. It holds everything
that it shows, and its security policy keeps a browser from fetching anything else. Colours are those of ``style.css``:
matplotlib draws with :func:`colours`, and :func:`themed_svg` lets the drawing follow the reader's light or dark mode.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType

_HEAD = """<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{style}</style>"""


@cache
def _stylesheet() -> str:
    return (files(__name__) / "style.css").read_text(encoding="utf-8")


@cache
def colours(*, dark: bool = False) -> Mapping[str, str]:
    """Return the colours of the light style, or of the dark one, as ``#rrggbb`` by name.

    ``text``, ``muted`` and ``link`` are for what is read, on ``background`` or ``surface``; ``line`` and ``grid`` separate;
    ``series-1`` to ``series-8`` are for curves. No two names of the light style share a colour.
    """
    blocks = re.findall(r":root \{(.*?)\}", _stylesheet(), re.DOTALL)
    return MappingProxyType(dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[dark])))


def fill(template: str, **values: str) -> str:
    """Return a page.

    Args:
        template: HTML with ``$head`` as the first thing in ``<head>``, and ``$name`` for each value.
        values: HTML, by name.

    Raises:
        KeyError: the template has a name without a value.
    """
    return Template(template).substitute(values, head=_HEAD.format(style=_stylesheet()))


def text(words: str) -> str:
    """Return words as HTML in ASCII.

    A byte of a file name that is not text, a lone surrogate in Python (PEP 383), becomes a reference that browsers show as
    a replacement character.
    """
    return escape(words).encode("ascii", "xmlcharrefreplace").decode()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int, label: str) -> str:
    """Return a table that scrolls by itself where it is wider than the page, with the keyboard too.

    Args:
        headers: of the C columns.
        rows: cells, [R, C].
        text_columns: that many columns, from the left, are aligned as words; the others as numbers.
        label: name of the table for those who hear it.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        kinds = [' class="text"' if column < text_columns else "" for column in range(len(cells))]
        body = "".join(f"<{tag}{scope}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{body}</tr>"

    body = "".join(line("td", row) for row in rows)
    inside = f"<table><thead>{line('th', headers)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">{inside}</div>'


def themed_svg(svg: str) -> str:
    """Return an SVG that was drawn in the light style's colours with the names of these colours.

    In a page with the style, the drawing is then light or dark as the page is. Other colours stay.
    """
    names = {value: name for name, value in colours().items()}

    def named(match: re.Match[str]) -> str:
        name = names.get(match[0].lower())
        return match[0] if name is None else f"var(--{name})"

    return re.sub(r"#[0-9a-fA-F]{6}\b", named, svg)
