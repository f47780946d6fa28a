"""The pictures to measure: 8-bit RGB, from DATA of any kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ddpm_codec.datasets import ImageSet, open_images
from ddpm_codec.errors import InputError, RefusedInputsError
from ddpm_codec.image_io.folders import IMAGE_EXTENSIONS
from ddpm_codec.image_io.listing import list_inputs
from ddpm_codec.image_io.reading import read_picture
from ddpm_codec.padding import centre_crop
from ddpm_codec.picture import Picture, PictureInfo


@dataclass(frozen=True)
class PictureSource:
    """Pictures that are read one by one.

    Attributes:
        count: number of pictures, including any that turn out not to be RGB.
        load: returns a picture by index, or None (with a note) if it cannot be used.
    """

    count: int
    load: Callable[[int], Picture | None]

    def __iter__(self) -> Iterator[Picture | None]:
        """Read them in order."""
        return (self.load(index) for index in range(self.count))


def open_pictures(data: str, *, limit: int | None, crop: int | None, note: Callable[[str], None]) -> PictureSource:
    """Open DATA: an image file, a folder of images of any sizes, or see :func:`ddpm_codec.datasets.open_images`.

    Args:
        data: DATA as given by the user.
        limit: use the first ``limit`` pictures.
        crop: crop pictures to their middle, each side at most ``crop`` pixels; None: whole pictures.
        note: called with one line for each picture of a folder that is skipped because it is not 8-bit RGB.

    Raises:
        InputError: DATA is unusable. Pictures are read, and may be rejected, when they are loaded.
    """
    if not data:
        raise InputError("the path of DATA is empty")
    path = Path(data)
    try:
        plain = path.is_dir() and not any(path.glob("data_batch_*"))
        listing = list_inputs([path]) if plain or path.suffix.lower() in IMAGE_EXTENSIONS else None
    except OSError as error:
        raise InputError(f"{data}: {error.strerror}") from error
    if listing is not None:
        if listing.refused:
            raise RefusedInputsError(listing.refused, len(listing.files) + len(listing.refused), listing.left_out)
        for left_out in listing.left_out:
            note(f"{left_out}; left out")
        load = _from_files(listing.files, note)
        count = len(listing.files)
    else:
        images = open_images(data, test=True)
        load = _from_images(images)
        count = len(images)

    def load_cut(index: int) -> Picture | None:
        picture = load(index)
        return picture if picture is None or crop is None else crop_middle(picture, crop)

    return PictureSource(count if limit is None else min(limit, count), load_cut)


def crop_middle(picture: Picture, side: int) -> Picture:
    """Return the middle of an RGB picture, each side at most ``side`` pixels."""
    cut = centre_crop(picture.array(), side, side)
    return Picture(replace(picture.info, size=(cut.shape[1], cut.shape[0])), cut.tobytes())


def _from_files(files: list[tuple[Path, str]], note: Callable[[str], None]) -> Callable[[int], Picture | None]:
    def load(index: int) -> Picture | None:
        path, name = files[index]
        try:
            picture = _read_rgb(path, name)
        except InputError as error:
            if len(files) == 1:
                raise
            note(f"{error}; skipped")
            return None
        return picture

    return load


def _read_rgb(path: Path, name: str) -> Picture:
    picture = read_picture(path, name=name)
    if picture.mode != "RGB":
        raise InputError(f"{path}: pixel mode is {picture.mode}, but only RGB can be measured")
    # Metadata must not count towards the rate.
    return Picture(PictureInfo(name, "RGB", picture.size), picture.pixels)


def _from_images(images: ImageSet) -> Callable[[int], Picture | None]:
    def load(index: int) -> Picture | None:
        pixels = images[index]
        info = PictureInfo(images.names[index], "RGB", (pixels.shape[1], pixels.shape[0]))
        return Picture(info, pixels.tobytes())

    return load
