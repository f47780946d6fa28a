"""Images that cannot be cropped are found by their headers, before long work begins, and named or left out."""

from dataclasses import dataclass
from typing import Final

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_sets import Change, ImageSet, change_lines, left_out_lines, refusal

_ADVICE: Final = " (skip_small leaves such images out)"


@dataclass(frozen=True)
class Screened:
    """The images of a set that can be cropped.

    Attributes:
        images: those.
        left_out: the others: smaller than the crop, or not readable.
        changes: what is changed in those whose files hold something else than 8-bit RGB, as far as headers tell.
        total: number of images before.
    """

    images: ImageSet
    left_out: tuple[Untaken, ...]
    changes: tuple[Change, ...]
    total: int

    def notes(self) -> list[str]:
        """Return lines about what is left out and changed."""
        left = [f"{refusal(self.left_out, self.total)}; left out"] if self.left_out else []
        return [*left_out_lines(self.images), *left, *change_lines(self.changes)]


def screened(images: ImageSet, crop: int, *, skip_small: bool) -> Screened:
    """Read all headers.

    Args:
        images: to crop.
        crop: side of the crops in pixels.
        skip_small: leave images out that are smaller than the crop or cannot be read, instead of refusing the set.

    Raises:
        InputError: some cannot be used, and ``skip_small`` is not set; or none can. Counts all and names the first.
    """
    usable: list[int] = []
    refused: list[Untaken] = []
    changes: list[Change] = []
    for index, path in enumerate(images.paths):
        try:
            size, changed = images.header(index)
        except InputError as error:
            refused.append(Untaken.of(path, error))
            continue
        if min(size) < crop:
            refused.append(Untaken(path, too_small(size, crop)))
            continue
        usable.append(index)
        if changed:
            changes.append(Change(path, changed))
    if refused and not (skip_small and usable):
        raise refusal(refused, len(images), "" if skip_small else _ADVICE)
    kept = images.subset(usable) if refused else images
    return Screened(kept, tuple(refused), tuple(changes), len(images))


def too_small(size: tuple[int, int], crop: int) -> str:
    """Return what is said of an image of ``size`` (width, height) that is smaller than the crop."""
    return f"{size[0]}x{size[1]} is smaller than the crop of {crop}"
