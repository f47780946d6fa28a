"""What ``ddpm-codec bpd`` reports, and how reports of parts of a set become that of the set."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.diffusion.bound import BoundTerms
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.errors import InputError

_PER_IMAGE = {
    "prior_bpd": np.float64,
    "diffusion_bpd": np.float64,
    "reconstruction_bpd": np.float64,
    "dims": np.int64,
    "mean_rmse": np.float64,
    "places": np.int64,
}
"""Arrays of a report with one row an image, and their types."""

_OF_A_PART = ("seconds", "images_per_second", "device", "changed", "left_out")
"""Facts in which parts of one set may differ."""


@dataclass(frozen=True, eq=False)
class BoundReport(BoundTerms):
    """The bound of each image, term by term, and how it was computed.

    Reports can be pickled, and kept as arrays (:meth:`to_arrays`), so that a set can be evaluated in parts.

    Attributes:
        places: of the images in their set, [N].
        facts: ``steps`` (K as the user counts it: of a DDPM its timesteps), ``evaluations`` of the denoiser per image,
            ``schedule``, ``variance``, ``tile``, ``seed``, ``seconds``, ``images_per_second``, ``model``, ``device``,
            ``dtype``; with a pixel decoder also ``decoder``, ``decoder_dtype`` and ``crossing`` (noise in grey levels);
            ``changed``, a ``path`` and ``what`` for every image that was not bounded as its file has it; ``left_out``,
            ``path`` and ``reason`` of what is not a picture in the folder.
    """

    places: NDArray[np.int64]
    facts: dict[str, Any] = field(default_factory=dict)

    def step_rows(self, most: int = 50) -> list[tuple[str, float]]:
        """Return the mean bits/dim of each step, cleanest first; more than ``most`` steps are summed in as many runs."""
        means = self.diffusion_bpd.mean(axis=0)
        edges = np.unique(np.rint(np.linspace(0, len(means), min(most, len(means)) + 1)).astype(int)).tolist()
        return [
            (str(first + 1) if last == first + 1 else f"{first + 1}-{last}", float(means[first:last].sum()))
            for first, last in pairwise(edges)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return means over images, each counting the same, the standard error of the total, and the facts."""
        return self.to_dict() | self.facts

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """Return the report of a set from those of its parts, in any order, as one call of :func:`bound_of` has it.

        Images are in the order of their places, so figures do not depend on how the set was divided. That all places of
        the set are there is for the caller to check. Of the facts, ``seconds`` are summed (what one worker would take) and
        ``images_per_second`` follows from them; ``device`` names all devices; ``changed`` and ``left_out`` are joined in
        the order of the parts' first places, each entry once; everything else must be the same in all parts. A model is
        known by its name alone.

        Raises:
            InputError: no parts, an image that is in two of them, or parts of other chains or settings.
        """
        ordered = sorted(parts, key=lambda part: int(part.places.min()))
        if not ordered:
            raise InputError("no parts of a bound to merge")
        first = ordered[0]
        for part in ordered[1:]:
            _check_alike(first, part)
        rows = {name: np.concatenate([getattr(part, name) for part in ordered]) for name in _PER_IMAGE}
        order = np.argsort(rows["places"], kind="stable")
        places = rows["places"][order]
        if (again := np.flatnonzero(np.diff(places) == 0)).size:
            raise InputError(f"image {places[again[0]]} is in the parts of the bound twice")
        sorted_rows = {name: values[order] for name, values in rows.items()}
        return cls(first.chain, **sorted_rows, facts=_merged_facts(ordered, len(places)))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays for ``numpy.savez``: those of each image, ``log_snr``, and ``facts``, JSON in ASCII."""
        facts = np.frombuffer(json.dumps(self.facts, allow_nan=False).encode("ascii"), dtype=np.uint8)
        rows = {name: getattr(self, name) for name in _PER_IMAGE}
        return rows | {"log_snr": np.array(self.chain.log_snr), "facts": facts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the report that :meth:`to_arrays` made arrays of; others beside them are passed over.

        Raises:
            InputError: an array is missing or cannot be what its name says.
        """
        types = {**_PER_IMAGE, "log_snr": np.float64, "facts": np.uint8}
        given = {name: np.array(arrays[name]) for name in types if name in arrays}
        for name, dtype in types.items():
            if name not in given or given[name].dtype != dtype:
                raise InputError(f"not a report of a bound: no array {name} of type {np.dtype(dtype)}")
        levels, text = given.pop("log_snr"), given.pop("facts")
        chain = Chain(tuple(levels.ravel().tolist()))
        count = given["places"].size
        for name, values in given.items():
            expected = (count, chain.steps) if name == "diffusion_bpd" else (count,)
            if not count or values.shape != expected or not np.isfinite(values).all():
                raise InputError(f"not a report of a bound: {name} does not hold {count} finite rows of its chain")
        return cls(chain, **given, facts=_facts_from(text.tobytes()))


def _facts_from(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise InputError("not a report of a bound: its facts are not JSON") from error
    if not isinstance(facts, dict) or not facts.keys() >= set(_OF_A_PART):
        raise InputError("not a report of a bound: its facts are not those of one")
    return facts


def _check_alike(first: BoundReport, part: BoundReport) -> None:
    """Refuse a part that was not evaluated as the first one was."""
    if part.chain != first.chain:
        raise InputError("parts of a bound differ in their chains")
    for name in sorted((first.facts.keys() | part.facts.keys()) - set(_OF_A_PART)):
        if first.facts.get(name) != part.facts.get(name):
            raise InputError(
                f"parts of a bound differ in {name}: {first.facts.get(name)!r} and {part.facts.get(name)!r}"
            )


def _merged_facts(parts: Sequence[BoundReport], images: int) -> dict[str, Any]:
    seconds = sum(part.facts["seconds"] for part in parts)
    devices = {device for part in parts for device in part.facts["device"].split(", ")}
    return parts[0].facts | {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "device": ", ".join(sorted(devices)),
        "changed": _joined(parts, "changed"),
        "left_out": _joined(parts, "left_out"),
    }


def _joined(parts: Sequence[BoundReport], name: str) -> list[dict[str, str]]:
    """Return the entries of all parts, each once."""
    entries = {tuple(sorted(entry.items())): entry for part in parts for entry in part.facts[name]}
    return list(entries.values())
