"""Formats told apart by their first bytes."""

import io

import pytest
from PIL import Image

from ddpm_codec.image_io.signatures import HEAD_BYTES, sniff

WRITTEN = {
    "PNG": "RGB",
    "JPEG": "RGB",
    "MPO": "RGB",
    "TIFF": "RGB",
    "WEBP": "RGB",
    "AVIF": "RGB",
    "GIF": "P",
    "BMP": "RGB",
    "ICO": "RGBA",
    "PCX": "L",
    "PPM": "RGB",
    "QOI": "RGB",
    "SGI": "RGB",
    "JPEG2000": "RGB",
}


def written(kind: str, mode: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (40, 24), 3).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", sorted(WRITTEN))
def test_what_pillow_writes_is_recognised(kind: str) -> None:
    whole = written(kind, WRITTEN[kind])
    assert sniff(whole[:HEAD_BYTES]) == {"MPO": "JPEG"}.get(kind, kind)
    names = {sniff(whole[:length]) for length in range(HEAD_BYTES)}
    assert names <= {None, {"MPO": "JPEG"}.get(kind, kind)}


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"P5\n# a comment\n# 2\n3 2\n255\n", "PPM"),
        (b"P1 # " + 600 * b"c", "PPM"),
        (b"P4\n8 1\n\xff", "PPM"),
        (b"Pf\n3 2\n-1.0\n", "PPM"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", "AVIF"),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"8BPS\0\x01" + bytes(20), "PSD"),
        (b"\xff\x0a\0\0", "JXL"),
    ],
)
def test_what_others_write_is_recognised(head: bytes, name: str) -> None:
    assert sniff(head[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BMW is a car maker, and this is a text.",
        b"P2 is the second of the parameters\n",
        b"P5, P6 and others",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"%PDF-1.7\n",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
        b"\0\0\x01\xba" + bytes(60),
        b"\0\x01\0\0" + bytes(60),
        b"\n\x05\x01" + bytes(10),
        b"DDPM",
        bytes(HEAD_BYTES),
    ],
)
def test_other_files_are_not_taken_for_pictures(head: bytes) -> None:
    assert sniff(head) is None
