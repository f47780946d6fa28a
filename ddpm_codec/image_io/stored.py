"""What a reader finds in an image file: first its header, then the picture."""

from dataclasses import dataclass, field

from ddpm_codec.picture import Picture


@dataclass(frozen=True)
class Header:
    """What a file's header says of its contents.

    Attributes:
        format: name of the format, as :func:`~ddpm_codec.image_io.signatures.sniff` returns it.
        size: (width, height) in pixels of the picture that is read.
        pictures: number of pictures: frames, pages, sizes, gain maps; thumbnails inside metadata do not count.
        noun: what several of them are called.
        taken: which of several is read.
        bits: bits per sample of the picture, where they are not 8 and the header tells.
        white: the sample value that is white, where it is not the largest of the mode and the header tells.
    """

    format: str
    size: tuple[int, int]
    pictures: int = 1
    noun: str = "frames"
    taken: str = "first"
    bits: int = 8
    white: int | None = None


@dataclass(frozen=True)
class ReadPicture:
    """A picture as its file holds it.

    Attributes:
        picture: every sample as stored, and the metadata.
        notes: a line for each piece of metadata that had to be left out, and why; the lines do not begin with a name.
    """

    picture: Picture
    notes: tuple[str, ...] = field(default=())
