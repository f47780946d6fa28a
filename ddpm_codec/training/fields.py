"""Kinds of values in a configuration, and one line about the first that is wrong, on top of pydantic."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, Strict, ValidationError

from ddpm_codec.errors import InputError

Class = TypeVar("Class", bound=type)


def _encodable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("not valid Unicode, no file can hold it")
    return text


def one_of(*names: str) -> AfterValidator:
    """Return the check that a word is one of ``names``."""

    def check(word: str) -> str:
        if word not in names:
            raise ValueError(f"use one of {', '.join(sorted(names))}")
        return word

    return AfterValidator(check)


# Integers fit into the 64 bits of TOML and of random seeds.
Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
PositiveInt = Annotated[int, Field(gt=0, lt=1 << 63)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, AfterValidator(_encodable)]
# TOML has lists, checkpoints have tuples.
Numbers = Annotated[tuple[Positive, ...], Strict(False)]


def with_input_errors(hints: Mapping[str, str]) -> Callable[[Class], Class]:
    """Make the constructor of a pydantic dataclass raise InputError, one line about the first bad key.

    Args:
        hints: keys that are not known, and which is meant by them.
    """

    def decorate(cls: Class) -> Class:
        construct: Callable[..., None] = vars(cls)["__init__"]

        @wraps(construct)
        def constructor(self: Any, *args: Any, **values: Any) -> None:  # noqa: ANN401 - as pydantic has it
            try:
                construct(self, *args, **values)
            except ValidationError as error:
                raise InputError(_one_line(error, [field.name for field in dataclasses.fields(cls)], hints)) from error

        cls.__init__ = constructor  # type: ignore[misc]
        return cls

    return decorate


def _one_line(error: ValidationError, names: Collection[str], hints: Mapping[str, str]) -> str:
    """Return what is wrong with the first bad key."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        # Raised by __post_init__, as one line.
        return str(first["ctx"]["error"])
    key, *places = first["loc"]
    if first["type"] == "unexpected_keyword_argument":
        meant = [hints[str(key)]] if key in hints else get_close_matches(str(key), names, 1)
        return f"unknown key {key!r}" + "".join(f"; did you mean {name!r}?" for name in meant)
    place = "".join(f"[{index}]" for index in places)
    cause = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("valid tuple", "list")
    return f"{key}{place} = {first['input']!r}: {cause}"
