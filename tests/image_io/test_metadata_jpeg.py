"""Metadata of JPEG files: several segments joined, extended XMP merged, damage named."""

import struct
from xml.etree import ElementTree

import pytest

from ddpm_codec.image_io.metadata import read_metadata
from tests.image_io.metadata_files import (
    EXIF,
    ICC,
    IPTC,
    NOTE,
    RDF,
    XMP,
    app1_exif,
    app1_xmp,
    app2_icc,
    app13,
    extended_xmp,
    jpeg,
    packet,
    resource,
    segment,
)

LONG_EXIF = EXIF + bytes(range(256)) * 500
LONG_ICC = bytes(range(250)) * 900
EXTENSION = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:q="urn:q"><r:RDF xmlns:r="{RDF}">'
    f'<r:Description r:about="" q:depth="{"0123456789" * 20_000}"/>'
    '<r:Description r:about="" xmlns:q="urn:other"><q:say>é &amp; &lt;</q:say></r:Description></r:RDF></x:xmpmeta>'
).encode()


def main_packet(name: str, *, element: bool) -> bytes:
    if element:
        inside = f"<n:HasExtendedXMP>{name}</n:HasExtendedXMP><d:x>1 > 0</d:x>"
        return packet(f'<rdf:Description rdf:about="" xmlns:n="{NOTE}" xmlns:d="urn:d">{inside}</rdf:Description>')
    attributes = f'xmlns:n="{NOTE}" xmlns:d="urn:d" d:x="1 > 0" n:HasExtendedXMP="{name}"'
    return packet(f'<rdf:Description rdf:about="" {attributes} d:y="2"/>')


def properties(xmp: bytes) -> list[tuple[str, str]]:
    """Return (name, value) of every property of a packet."""
    found = []
    for description in ElementTree.fromstring(xmp).iter(f"{{{RDF}}}Description"):
        found += [(name, value) for name, value in description.items() if name != f"{{{RDF}}}about"]
        found += [(child.tag, child.text or "") for child in description]
    return sorted(found)


def test_everything_at_once() -> None:
    file = jpeg(
        *app1_exif(LONG_EXIF),
        app1_xmp(XMP),
        *reversed(app2_icc(LONG_ICC)),
        app13(resource(1005, bytes(16)), resource(1028, IPTC, b"odd")),
        segment(0xFE, b"first"),
        segment(0xFE, "zweiter é".encode()),
        jfif=struct.pack(">BHH", 1, 300, 150),
    )
    metadata, notes = read_metadata(file, "JPEG")
    assert metadata == {
        "density": b"300 150 inch",
        "exif": LONG_EXIF,
        "xmp": XMP,
        "icc": LONG_ICC,
        "iptc": IPTC,
        "comment": "first\nzweiter é".encode(),
    }
    assert notes == []


@pytest.mark.parametrize(
    ("jfif", "expected"),
    [
        ((2, 118, 59), b"118 59 cm"),
        ((0, 4, 3), b"4 3 none"),
        ((0, 1, 1), None),
        ((1, 0, 0), None),
    ],
)
def test_densities(jfif: tuple[int, int, int], expected: bytes | None) -> None:
    metadata, notes = read_metadata(jpeg(jfif=struct.pack(">BHH", *jfif)), "JPEG")
    assert (metadata.get("density"), notes) == (expected, [])


def test_iptc_is_spread_over_segments() -> None:
    whole = resource(1000, bytes(5)) + resource(1028, IPTC * 20)
    cuts = (whole[:37], whole[37:])
    parts = [segment(0xED, b"Photoshop 3.0\0" + part) for part in cuts]
    metadata, notes = read_metadata(jpeg(*parts), "JPEG")
    assert metadata == {"iptc": IPTC * 20}
    assert notes == ["image resources of Photoshop that are not kept: 1000"]


@pytest.mark.parametrize("element", [False, True])
def test_extended_xmp_is_merged(element: bool) -> None:
    name, pieces = extended_xmp(EXTENSION)
    assert len(pieces) == 4
    main = main_packet(name, element=element)
    metadata, notes = read_metadata(jpeg(app1_xmp(main), *reversed(pieces)), "JPEG")
    assert notes == []
    expected = [*properties(main), *properties(EXTENSION)]
    expected.remove((f"{{{NOTE}}}HasExtendedXMP", name))
    assert properties(metadata["xmp"]) == sorted(expected)
    # Outside of rdf:RDF, the main packet stays as it is.
    assert metadata["xmp"].startswith(main[: main.index(b"<rdf:Description")])
    assert metadata["xmp"].endswith(b'</rdf:RDF></x:xmpmeta>    <?xpacket end="w"?>')


@pytest.mark.parametrize(
    ("main", "extension", "drop", "why"),
    [
        (None, EXTENSION, 1, "it is incomplete"),
        (None, EXTENSION, 3, "it is incomplete or damaged"),
        (None, b"<broken", None, "XMP is not well-formed"),
        (None, b'<!DOCTYPE x [<!ENTITY e "e">]><x/>', None, "XMP has a document type"),
        (None, packet(""), None, "it has no descriptions"),
        (None, EXTENSION.decode().encode("utf-16"), None, "XMP is not in UTF-8"),
        (packet('<rdf:Description rdf:about=""/>'), EXTENSION, None, "the main packet does not name it"),
        (b"", EXTENSION, None, "the main packet does not name it"),
    ],
)
def test_extended_xmp_that_cannot_be_merged(main: bytes | None, extension: bytes, drop: int | None, why: str) -> None:
    name, pieces = extended_xmp(extension)
    main = main_packet(name, element=False) if main is None else main
    left = [piece for at, piece in enumerate(pieces) if at != drop]
    metadata, (note,) = read_metadata(jpeg(*([app1_xmp(main)] if main else []), *left), "JPEG")
    assert metadata == ({"xmp": main} if main else {})
    assert note.startswith(f"extended XMP is left out: {why}")


def test_another_extension_than_the_one_named_is_ignored() -> None:
    name, pieces = extended_xmp(EXTENSION)
    _, others = extended_xmp(b"stale")
    metadata, notes = read_metadata(jpeg(app1_xmp(main_packet(name, element=True)), *others, *pieces), "JPEG")
    assert b"urn:other" in metadata["xmp"]
    assert notes == []


@pytest.mark.parametrize("change", ["missing", "twice", "count"])
def test_incomplete_profiles_are_named(change: str) -> None:
    pieces = app2_icc(LONG_ICC)
    if change == "missing":
        pieces = pieces[1:]
    elif change == "twice":
        pieces[1] = pieces[1].replace(b"ICC_PROFILE\0\2", b"ICC_PROFILE\0\1")
    else:
        pieces = [piece[:17] + b"\7" + piece[18:] for piece in pieces]
    metadata, (note,) = read_metadata(jpeg(*pieces, *app2_icc(ICC)[:0]), "JPEG")
    assert metadata == {}
    assert "the ICC profile is left out" in note


def test_other_segments_are_named_in_one_line() -> None:
    parts = [segment(0xE2, b"MPF\0" + bytes(9)), segment(0xEB, b"JP\0\1"), segment(0xE0, b"JFXX\0\x10")]
    metadata, notes = read_metadata(jpeg(*parts), "JPEG")
    assert metadata == {}
    assert notes == ["JPEG segments that are not kept: APP0 JFXX, APP11 JP, APP2 MPF"]


def test_damaged_resources_are_named() -> None:
    metadata, (note,) = read_metadata(jpeg(app13(resource(1028, IPTC), b"8BIM\4\5\0\0\xff\xff\xff\xff")), "JPEG")
    assert metadata == {"iptc": IPTC}
    assert "cut short; the rest of them is left out" in note


def test_cut_files_raise_nothing() -> None:
    file = jpeg(*app1_exif(EXIF), app1_xmp(XMP), *app2_icc(ICC), app13(resource(1028, IPTC)), segment(0xFE, b"x"))
    for length in range(0, len(file), 7):
        read_metadata(file[:length], "JPEG")
