"""Which pictures are measured: RGB of 8 bits, whatever kind of DATA they come in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ddpm_codec.datasets import ImageSet, open_images
from ddpm_codec.errors import InputError
from ddpm_codec.image_io.listing import IMAGE_EXTENSIONS, list_inputs
from ddpm_codec.image_io.reading import read_picture
from ddpm_codec.padding import centre_crop
from ddpm_codec.picture import Picture, PictureInfo


@dataclass(frozen=True)
class PictureSource:
    """Pictures that are read one at a time.

    Attributes:
        count: how many there are, those too that turn out not to be RGB.
        load: gives one by its place, or None (and says why) where it cannot be used.
    """

    count: int
    load: Callable[[int], Picture | None]

    def __iter__(self) -> Iterator[Picture | None]:
        """Read them in their order."""
        return (self.load(index) for index in range(self.count))


def open_pictures(data: str, *, limit: int | None, crop: int | None, note: Callable[[str], None]) -> PictureSource:
    """Open DATA: a picture, or a folder of pictures of any sizes; else see :func:`ddpm_codec.datasets.open_images`.

    Args:
        data: what the user named.
        limit: look at the first so many alone.
        crop: cut the middle of pictures to this side at most; None: whole pictures.
        note: called with one line for each picture of a folder that is not RGB of 8 bits and is left out.

    Raises:
        InputError: DATA cannot be used. Pictures are read, and may be refused, when they are asked for.
    """
    path = Path(data)
    try:
        plain = path.is_dir() and not any(path.glob("data_batch_*"))
        files = list_inputs([path]) if plain or (data and path.suffix.lower() in IMAGE_EXTENSIONS) else None
    except OSError as error:
        raise InputError(f"{data}: {error.strerror}") from error
    if files is not None:
        load = _from_files(files, note)
        count = len(files)
    else:
        images = open_images(data, test=True)
        load = _from_images(images)
        count = len(images)

    def load_cut(index: int) -> Picture | None:
        picture = load(index)
        return picture if picture is None or crop is None else crop_middle(picture, crop)

    return PictureSource(count if limit is None else min(limit, count), load_cut)


def crop_middle(picture: Picture, side: int) -> Picture:
    """Return the middle of an RGB picture, each side ``side`` pixels at most."""
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
            note(f"{error}; it is left out")
            return None
        return picture

    return load


def _read_rgb(path: Path, name: str) -> Picture:
    picture = read_picture(path, name=name)
    if picture.mode != "RGB":
        raise InputError(f"{path}: pixel mode {picture.mode}, and only RGB is measured")
    # What a file holds besides the pixels is no part of a rate.
    return Picture(PictureInfo(name, "RGB", picture.size), picture.pixels)


def _from_images(images: ImageSet) -> Callable[[int], Picture | None]:
    def load(index: int) -> Picture | None:
        pixels = images[index]
        info = PictureInfo(images.names[index], "RGB", (pixels.shape[1], pixels.shape[0]))
        return Picture(info, pixels.tobytes())

    return load
