"""What several tests use: the pictures beside them, and how files are compared."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

DATA = Path(__file__).resolve().parent / "data"
PHOTO = DATA / "shutters_128x128.png"
SMALL = DATA / "parrots_96x80.png"
TINY = DATA / "lighthouse_33x17.png"

Run = Callable[..., tuple[int, str, str]]
"""The command line in this process: exit code, standard output, standard error (fixture ``run``)."""


def pixels(path: Path) -> tuple[str, tuple[int, int], bytes]:
    """Return mode, size and pixels of a picture file."""
    with Image.open(path) as image:
        return image.mode, image.size, image.tobytes()


def same(a: Path, b: Path) -> bool:
    """Return whether two files hold the same picture, palette and transparency included."""
    with Image.open(a) as first, Image.open(b) as second:
        return (
            first.mode == second.mode
            and first.size == second.size
            and first.tobytes() == second.tobytes()
            and first.getpalette() == second.getpalette()
            and first.info.get("transparency") == second.info.get("transparency")
        )


def leftovers(folder: Path) -> list[str]:
    """Return the hidden files of a folder: temporary ones that nobody removed."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
