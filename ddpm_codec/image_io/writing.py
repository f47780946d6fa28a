"""Writes :class:`Picture` to image files that hold it exactly."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import colours
from ddpm_codec.image_io.metadata import LABELS, chunks_came_back, keys_of_chunks
from ddpm_codec.image_io.metadata.density import same_density
from ddpm_codec.image_io.readers import READERS
from ddpm_codec.image_io.writers import WRITERS
from ddpm_codec.image_io.writers.simple import pnm_largest
from ddpm_codec.image_io.writers.tiff_pixels import TIFF_MODES, bits_of
from ddpm_codec.image_io.writers.written import Written
from ddpm_codec.picture import METADATA_KEYS, MODES, MetadataKey, Picture, PictureInfo

MAX_WEBP_SIDE: Final = 16383

_FORMATS: Final = {
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ppm": "ppm",
    ".pgm": "ppm",
    ".pbm": "ppm",
    ".pnm": "ppm",
    ".bmp": "bmp",
    ".npy": "npy",
}
_HOLDS: Final = {
    "png": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"}),
    "webp": frozenset({"RGB", "RGBA"}),
    "tiff": TIFF_MODES,
    "ppm": frozenset({"1", "L", "RGB", "I;16", "RGB;16"}),
    "bmp": frozenset({"1", "L", "P", "RGB"}),
    "npy": frozenset(MODES),
}
_HOLDS_METADATA: Final[dict[str, frozenset[MetadataKey]]] = {
    "png": frozenset(METADATA_KEYS),
    "webp": frozenset({"icc", "exif", "xmp"}),
    "tiff": frozenset({"icc", "exif", "xmp", "iptc", "comment", "density"}),
    "ppm": frozenset({"comment"}),
    "bmp": frozenset({"density"}),
    "npy": frozenset(),
}
_EXTENSIONS: Final = {"png": ".png", "tiff": ".tiff", "ppm": ".ppm"}
_HOLDS_WHITE: Final = frozenset({"ppm", "npy", "tiff"})

Metadata = dict[MetadataKey, bytes]


def default_extension(picture: PictureInfo) -> str:
    """Return the first of ``.png``, ``.tiff``, for its white ``.pgm`` or ``.ppm``, and ``.npy`` that holds the picture."""
    for kind, extension in _EXTENSIONS.items():
        if (kind != "ppm" or picture.white is not None) and _obstacle(picture, kind) is None:
            return ".pgm" if kind == "ppm" and picture.layout.channels == 1 else extension
    return ".npy"


def write_picture(picture: Picture, path: Path, *, overwrite: bool = False) -> list[str]:
    """Write a picture to a lossless format, chosen by the extension, and read it back before it counts as written.

    Pixels and metadata are compared with what was to be written; what does not come back byte for byte is written without,
    and named. A density may change by two in ten thousand where the format holds whole pixels per metre.
    ``.npy`` holds the samples alone, as an array [height, width] or [height, width, channels].

    Args:
        picture: what to write.
        path: ends in .png, .webp, .tif(f), .ppm, .pgm, .pbm, .pnm, .bmp or .npy.
        overwrite: replace a file that is there.

    Returns:
        One line for each piece that the format does not hold; the pixels are exact always.

    Raises:
        InputError: the format is lossy or unknown, or does not hold this picture exactly.
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    kind = format_for(picture.info, path)
    metadata, notes = _metadata_for(picture, kind)
    with new_file(path, overwrite=overwrite) as temporary:
        try:
            written = _proved(picture, kind, metadata)
        except InputError:
            raise InputError(
                f"{path}: {kind} cannot hold this picture exactly; use {_better(picture.info, kind)}"
            ) from None
        temporary.write_bytes(written.file)
    return [f"{path}: {note}" for note in (*notes, *written.notes)]


def format_for(info: PictureInfo, path: Path) -> str:
    """Return the format that ``path`` names by its extension, checked to hold a picture exactly.

    Raises:
        InputError: the format is lossy or unknown, or does not hold this picture exactly.
    """
    extension = path.suffix.lower()
    kind = _FORMATS.get(extension)
    if kind is None:
        lossy = extension in {".jpg", ".jpeg", ".jpe", ".jp2", ".avif", ".heic", ".gif"}
        why = "would lose pixel values" if lossy else "is not a format that can be written"
        raise InputError(f"{path}: {extension or 'no extension'} {why}; use png, webp, tiff, ppm or bmp")
    obstacle = _obstacle(info, kind)
    if obstacle:
        raise InputError(f"{path}: {kind} cannot hold {obstacle} exactly; use {_better(info)}")
    return kind


def _obstacle(picture: PictureInfo, kind: str) -> str | None:
    """Return what of a picture a format cannot hold, or None."""
    if picture.mode not in _HOLDS[kind]:
        return f"mode {picture.mode}"
    if picture.white is not None and kind not in _HOLDS_WHITE:
        return f"samples that are white at {picture.white}"
    if kind in ("png", "npy"):
        return None
    if kind == "tiff" and bits_of(picture) is None:
        return f"mode {picture.mode} with white at {picture.white}"
    if kind == "ppm" and pnm_largest(picture.mode, picture.white) is None:
        return f"mode {picture.mode} with white at {picture.white}"
    if picture.transparency is not None or (picture.palette is not None and picture.palette.channels == 4):
        return "a transparent colour"
    if kind == "webp" and max(picture.size) > MAX_WEBP_SIDE:
        return f"{picture.size[0]}x{picture.size[1]} pixels (at most {MAX_WEBP_SIDE} a side)"
    return None


def _better(picture: PictureInfo, failed: str = "") -> str:
    kinds = ("png", "tiff") if picture.white is None else ("tiff", "ppm")
    return " or ".join(kind for kind in kinds if kind != failed and _obstacle(picture, kind) is None) or "npy"


def _metadata_for(picture: Picture, kind: str) -> tuple[Metadata, list[str]]:
    """Return the metadata that a format holds, and a line for each piece that it does not."""
    metadata, chunks = (dict(picture.metadata), []) if kind == "png" else keys_of_chunks(picture.metadata)
    missing = [LABELS[key] for key in METADATA_KEYS if key in metadata and key not in _HOLDS_METADATA[kind]]
    notes = [f"{kind} does not hold {name} metadata; it is left out" for name in missing]
    if chunks:
        names = ", ".join(dict.fromkeys(chunk.name for chunk in chunks))
        notes.append(f"{kind} does not hold PNG chunks ({names}); they are left out")
    if kind == "npy":
        parts = {"palette": picture.palette, "transparency": picture.transparency, "white": picture.info.white}
        notes += [f"npy does not hold the {name}; it is left out" for name, part in parts.items() if part is not None]
    return {key: data for key, data in metadata.items() if key in _HOLDS_METADATA[kind]}, notes


def _proved(picture: Picture, kind: str, metadata: Metadata) -> Written:
    """Return a file that reads as the picture with its metadata, without pieces that do not come back.

    Raises:
        InputError: the format does not hold the picture.
    """
    notes: list[str] = []
    while True:
        written = _tried(picture, kind, metadata)
        if written is not None:
            lost = _lost(written.metadata, written.read)
            if not lost:
                return Written(written.file, written.metadata, [*notes, *written.notes])
        elif metadata:
            lost = _to_blame(picture, kind, metadata)
        else:
            raise InputError(f"{kind} cannot hold this picture exactly")
        notes += [f"{kind} does not take the {LABELS[key]} metadata of this picture; it is left out" for key in lost]
        metadata = {key: data for key, data in metadata.items() if key not in lost}


@dataclass(frozen=True)
class _Tried(Written):
    """A file that shows the picture, and the metadata that a reader finds in it."""

    read: Metadata = field(default_factory=dict)


def _tried(picture: Picture, kind: str, metadata: Metadata) -> _Tried | None:
    """Write a picture and read it again; None if it is not the same."""
    try:
        written = WRITERS[kind](picture, metadata)
    except InputError:
        return None
    read = _read(written.file, kind, picture)
    if read is None or not _same(read, picture):
        return None
    return _Tried(written.file, written.metadata, written.notes, read.metadata)


def _to_blame(picture: Picture, kind: str, metadata: Metadata) -> list[MetadataKey]:
    """Return the least that must go for the pixels to come back: one piece, or all if no single one is to blame."""
    for blamed in reversed(list(metadata)):
        if _tried(picture, kind, {key: data for key, data in metadata.items() if key != blamed}) is not None:
            return [blamed]
    return list(metadata)


def _read(file: bytes, kind: str, picture: Picture) -> Picture | None:
    """Return the picture in a file that has just been written; None if it cannot be read."""
    try:
        if kind == "npy":
            same = np.load(io.BytesIO(file), allow_pickle=False).tobytes() == picture.samples().tobytes()
            return replace(picture, info=replace(picture.info, metadata={})) if same else None
        return READERS[kind.upper()].read(io.BytesIO(file), picture.name).picture
    except Exception:  # readers pass on whatever Pillow's raise
        return None


def _same(read: Picture, picture: Picture) -> bool:
    return (
        (read.mode, read.size, read.info.white) == (picture.mode, picture.size, picture.info.white)
        and read.pixels == picture.pixels
        and colours(read.palette, read.transparency) == colours(picture.palette, picture.transparency)
    )


def _lost(written: Metadata, read: Metadata) -> list[MetadataKey]:
    """Return the keys of what does not come back."""
    translated, _ = keys_of_chunks(read)
    found = {**translated, **read}
    return [key for key, data in written.items() if not _came_back(key, data, found.get(key, b""))]


def _came_back(key: MetadataKey, written: bytes, read: bytes) -> bool:
    if key == "png":
        return chunks_came_back(written, read)
    return written == read or (key == "density" and same_density(written, read))
