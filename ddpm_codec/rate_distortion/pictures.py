"""The pictures to measure: 8-bit RGB, from DATA of any kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ddpm_codec.errors import InputError, RefusedInputsError, Untaken
from ddpm_codec.image_io.folders import IMAGE_EXTENSIONS
from ddpm_codec.image_io.listing import list_inputs
from ddpm_codec.image_io.reading import read_picture
from ddpm_codec.image_sets import ImageSet, open_images
from ddpm_codec.padding import centre_crop
from ddpm_codec.picture import Picture, PictureInfo


@dataclass(frozen=True)
class PictureSource:
    """Pictures that are read one by one.

    Attributes:
        count: number of pictures, including any that turn out not to be RGB.
        load: returns a picture by index, or None (with a note) if it cannot be used.
        left_out: those that could not, of the pictures read so far.
    """

    count: int
    load: Callable[[int], Picture | None]
    left_out: list[Untaken]

    def __iter__(self) -> Iterator[Picture | None]:
        """Read them in order."""
        return (self.load(index) for index in range(self.count))


def open_pictures(data: str, *, limit: int | None, crop: int | None, note: Callable[[str], None]) -> PictureSource:
    """Open DATA: an image file, a folder of images of any sizes, or see :func:`ddpm_codec.image_sets.open_images`.

    Args:
        data: DATA as given by the user.
        limit: use the first ``limit`` pictures.
        crop: crop pictures to their middle, each side at most ``crop`` pixels; None: whole pictures.
        note: called with one line for each picture that is skipped because it is not 8-bit RGB.

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
        for untaken in listing.left_out:
            note(f"{untaken}; left out")
        load, paths = _from_files(listing.files), [str(path) for path, _ in listing.files]
    else:
        images = open_images(data, test=True)
        load, paths = _from_images(images), images.paths
    left_out: list[Untaken] = []

    def load_cut(index: int) -> Picture | None:
        try:
            picture = load(index)
        except InputError as error:
            if len(paths) == 1:
                raise
            left_out.append(Untaken.of(paths[index], error))
            note(f"{error}; skipped")
            return None
        return picture if crop is None else crop_middle(picture, crop)

    return PictureSource(len(paths) if limit is None else min(limit, len(paths)), load_cut, left_out)


def crop_middle(picture: Picture, side: int) -> Picture:
    """Return the middle of an RGB picture, each side at most ``side`` pixels."""
    cut = centre_crop(picture.array(), side, side)
    return Picture(replace(picture.info, size=(cut.shape[1], cut.shape[0])), cut.tobytes())


def _from_files(files: list[tuple[Path, str]]) -> Callable[[int], Picture]:
    return lambda index: _read_rgb(*files[index])


def _read_rgb(path: Path, name: str) -> Picture:
    picture = read_picture(path, name=name)
    if picture.mode != "RGB":
        raise InputError(f"{path}: pixel mode is {picture.mode}, but only RGB can be measured")
    if picture.info.white is not None:
        raise InputError(f"{path}: has samples that are white at {picture.info.white}, but only 255 can be measured")
    # Metadata must not count towards the rate.
    return Picture(PictureInfo(name, "RGB", picture.size), picture.pixels)


def _from_images(images: ImageSet) -> Callable[[int], Picture]:
    def load(index: int) -> Picture:
        pixels, changed = images.opened(index)
        if changed:
            raise InputError(f"{images.paths[index]}: is not 8-bit RGB ({changed}), but only that can be measured")
        info = PictureInfo(images.names[index], "RGB", (pixels.shape[1], pixels.shape[0]))
        return Picture(info, pixels.tobytes())

    return load
