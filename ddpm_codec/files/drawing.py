"""Draws pictures with captions, sheets of them, and animations with Pillow."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ddpm_codec.errors import InputError

Pixels = NDArray[np.uint8]
Caption = tuple[list[str], list[str]]
"""The four fields of a caption, in full and abbreviated; empty ones are omitted."""

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP"}
MAX_SIDE = {"PNG": (1 << 31) - 1, "GIF": 65535, "WEBP": 16383}

SMALL = 128
"""Pictures smaller than this are enlarged."""

LEAST_WIDTH = 128
"""Minimum width of a caption in pixels."""

LAST_FRAME = 3
"""The last frame of an animation is shown this many times as long."""

_BACKGROUND, _INK = (244, 244, 244), (24, 24, 24)
_GAP = 8
_ASPECT = 16 / 9


def over_white(pixels: Pixels) -> Pixels:
    """Composite RGB or RGBA over white, [H, W, 3]: ``255 + (colour - 255) alpha / 255``, rounded."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.int32)
    white = 255 * 255 + (pixels[:, :, :3].astype(np.int32) - 255) * alpha
    return ((white + 127) // 255).astype(np.uint8)


def draw_tiles(
    pictures: Sequence[Pixels], captions: Sequence[Caption], width: int, exif: bytes | None = None
) -> list[Image.Image]:
    """Draw each picture with its caption below; all tiles have the same size.

    Args:
        pictures: arrays of the same size, [H, W, 3].
        captions: one per picture; all use the same layout, in full if that fits.
        width: larger pictures are scaled down to this width.
        exif: EXIF data of the pictures, for their orientation.
    """
    images = [_scaled(_upright(Image.fromarray(picture), exif), width) for picture in pictures]
    tile_width, height = max(images[0].width, LEAST_WIDTH), images[0].height
    font = ImageFont.load_default(max(11, min(20, tile_width // 24)))
    layout = _layout(captions, font, tile_width - _GAP)
    line_height = math.ceil(_line_height(font))
    tiles = []
    for image, lines in zip(images, layout, strict=True):
        tile = Image.new("RGB", (tile_width, height + len(max(layout, key=len)) * line_height + _GAP), _BACKGROUND)
        tile.paste(image, ((tile_width - image.width) // 2, 0))
        draw = ImageDraw.Draw(tile)
        for number, line in enumerate(lines):
            draw.text((_GAP // 2, height + _GAP // 2 + number * line_height), line, _INK, font=font)
        tiles.append(tile)
    return tiles


def side_by_side(tiles: Sequence[Image.Image]) -> Image.Image:
    """Arrange the tiles in reading order, with a number of columns that makes the sheet landscape with few gaps."""
    width, height = tiles[0].width + _GAP, tiles[0].height + _GAP
    count = len(tiles)

    def unlikeness(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(columns * width / (rows * height) / _ASPECT)) + (columns * rows - count) / count

    columns = min(range(1, count + 1), key=unlikeness)
    sheet = Image.new("RGB", (columns * width + _GAP, -(-count // columns) * height + _GAP), (255, 255, 255))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (_GAP + number % columns * width, _GAP + number // columns * height))
    return sheet


def save_pictures(
    pictures: Sequence[Image.Image], path: Path, kind: str, name: Path, delay_ms: int, icc: bytes | None = None
) -> None:
    """Write one picture, or several as an animation that loops forever.

    Args:
        pictures: pictures of the same size.
        path: the file to write.
        kind: a value of FORMATS.
        name: name of the file in messages.
        delay_ms: milliseconds per frame; GIF rounds to hundredths of a second.
        icc: ICC profile of the pictures; not stored in GIF.

    Raises:
        InputError: the pictures are larger than the format allows.
        OSError: the file cannot be written.
    """
    width, height = pictures[0].size
    if max(width, height) > MAX_SIDE[kind]:
        raise InputError(
            f"{name}: would have {width}x{height} pixels, but {kind} allows at most {MAX_SIDE[kind]} per side; use a "
            "smaller --width, or .png"
        )
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if icc is not None and kind != "GIF":
        options["icc_profile"] = icc
    if kind == "GIF":
        pictures = [_with_palette(picture) for picture in pictures]
    if kind == "GIF" or len(pictures) > 1:
        durations = [delay_ms] * (len(pictures) - 1) + [LAST_FRAME * delay_ms]
        options |= {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    pictures[0].save(path, format=kind, **options)


def _with_palette(picture: Image.Image) -> Image.Image:
    """Convert a picture to its own palette of 256 colours, dithered."""
    return picture.quantize(palette=picture.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """Apply the EXIF orientation to a picture; unreadable EXIF is ignored."""
    if exif is None:
        return image
    image.info["exif"] = b"Exif\0\0" + exif
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow's readers can raise almost any exception on damaged data.
        return image


def _scaled(image: Image.Image, width: int) -> Image.Image:
    side = max(image.size)
    if side < SMALL and width >= side:
        factor = width // side
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _layout(captions: Sequence[Caption], font: Font, width: int) -> list[list[str]]:
    """Return the lines of each caption, in the first layout in which all captions fit."""
    for brief, lengths in ((0, (4,)), (0, (2, 2)), (1, (2, 2)), (1, (1, 1, 1, 1))):
        lines = [_lines(caption[brief], lengths) for caption in captions]
        if all(font.getlength(line) <= width for found in lines for line in found):
            break
    return lines


def _lines(parts: Sequence[str], lengths: Sequence[int]) -> list[str]:
    lines, rest = [], list(parts)
    for length in lengths:
        lines.append(", ".join(filter(None, rest[:length])))
        rest = rest[length:]
    return [line for line in lines if line]


def _line_height(font: Font) -> float:
    _, top, _, bottom = font.getbbox("Äg")
    return 1.25 * (bottom - min(0.0, top))
