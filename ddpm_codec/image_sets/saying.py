"""One line about many images: which cannot be used, and what was changed in those that can."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_sets.image_set import ImageSet

SHOWN: Final = 10
"""Names in a line; the others are counted."""


class Change(NamedTuple):
    """An image that is not used as its file has it.

    Attributes:
        path: of the image.
        what: what was changed, such as ``alpha dropped``.
    """

    path: str
    what: str


def change_lines(changes: Iterable[Change]) -> list[str]:
    """Return a line for each kind of change: what, of how many images, and the names of the first."""
    kinds: dict[str, list[str]] = {}
    for change in dict.fromkeys(changes):
        kinds.setdefault(change.what, []).append(change.path)
    return [f"{what}: {_counted(len(paths))} ({listed(paths)})" for what, paths in sorted(kinds.items())]


def refusal(refused: Sequence[Untaken], total: int, advice: str = "") -> InputError:
    """Return the error about images that cannot be used: the cause of the first few, and how many there are.

    Args:
        refused: at least one.
        total: number of images, the good ones included.
        advice: what can be done.
    """
    causes = listed([str(one) for one in refused], "; ")
    return InputError(causes + advice if total == 1 else f"{len(refused)} of {total} images unusable: {causes}{advice}")


def read_all(images: ImageSet, advice: str = "") -> list[Change]:
    """Decode every image once, so that none is found unusable in the middle of long work.

    Returns:
        What is changed in those that their files have otherwise.

    Raises:
        InputError: naming those that cannot be used.
    """
    changes: list[Change] = []
    refused: list[Untaken] = []
    for index, path in enumerate(images.paths):
        try:
            changed = images.opened(index).changed
        except InputError as error:
            refused.append(Untaken.of(path, error))
        else:
            if changed:
                changes.append(Change(path, changed))
    if refused:
        raise refusal(refused, len(images), advice)
    return list(dict.fromkeys(changes))


def left_out_lines(images: ImageSet) -> list[str]:
    """Return a line about what is left out of the folders; empty: nothing."""
    found = [str(one) for one in images.left_out]
    return [f"left out, {len(found)} in all: {listed(found, '; ')}"] if found else []


def _counted(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


def listed(words: Sequence[str], separator: str = ", ") -> str:
    """Return the first few words, and how many others there are."""
    rest = len(words) - SHOWN
    return separator.join(words[:SHOWN]) + (f"{separator}and {rest} more" if rest > 0 else "")
