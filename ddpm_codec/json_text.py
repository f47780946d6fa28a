"""JSON that every parser takes."""

import json
from typing import Any


def json_text(values: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:  # noqa: ANN401 - as json.dumps
    r"""Return values as JSON in ASCII (RFC 8259), which is UTF-8 as well.

    A byte 0xNN of a file name that is not UTF-8 is a lone surrogate U+DCNN in Python (PEP 383), which is no character and
    which strict parsers refuse. It becomes the six characters ``\udcNN``, the backslash included, as in what the command line
    prints.

    Args:
        values: what ``json.dumps`` takes; dictionaries have text as keys.
        indent: see ``json.dumps``.
        sort_keys: see ``json.dumps``.

    Raises:
        ValueError: there is a number that JSON does not have, infinity or NaN.

    Examples:
        >>> json_text({"name": "a\udcff.png"})
        '{"name": "a\\\\udcff.png"}'
    """
    return json.dumps(_without_surrogates(values), allow_nan=False, indent=indent, sort_keys=sort_keys)


def _without_surrogates(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(part) for part in value]
    return value
