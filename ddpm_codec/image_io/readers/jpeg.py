"""JPEG files (ITU-T T.81): baseline and progressive, Huffman-coded, 8 bits, one, three or four components.

libjpeg fills in what a scan lacks and says so in warnings that no Python binding passes on. So a file is decoded again with
bytes inserted behind every piece of entropy-coded data: they change the pixels only where data were missing.
"""

import itertools
import random
import re
import struct
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.jpeg_pictures import Behind, pictures_behind
from ddpm_codec.image_io.readers.simple import ceil_div, file_metadata, picture_of
from ddpm_codec.image_io.stored import Header, ReadPicture

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
_DHT, _DQT, _DRI, _SOS, _DNL = 0xC4, 0xDB, 0xDD, 0xDA, 0xDC
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JFIF: Final = (0xE0, b"JFIF\0")
_ADOBE: Final = (0xEE, b"Adobe")
_APP2: Final = 0xE2
_MPF: Final = b"MPF\0"
_APP11: Final = 0xEB
_EXTENSIONS: Final = (b"RESI", b"FINE", b"RFIN", b"ALFA", b"AFIN")
"""Boxes of JPEG XT (ISO/IEC 18477) with samples of their own."""

_PROGRESSIVE: Final = 0xC2
_OTHER_PROCESSES: Final = {
    0xC3: "a lossless",
    0xC5: "a hierarchical",
    0xC6: "a hierarchical",
    0xC7: "a hierarchical lossless",
    0xC9: "an arithmetic-coded",
    0xCA: "an arithmetic-coded progressive",
    0xCB: "an arithmetic-coded lossless",
    0xCD: "an arithmetic-coded hierarchical",
    0xCE: "an arithmetic-coded hierarchical",
    0xCF: "an arithmetic-coded hierarchical lossless",
}
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
# Without the look behind, the time for many bytes 0xFF would be the square of their number.
_END_OF_SCAN: Final = re.compile(rb"(?<!\xff)\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_RESTART: Final = re.compile(rb"(?<!\xff)\xff+[\xd0-\xd7]", re.DOTALL)
_LAST_COEFFICIENT: Final = 63
_PROBES: Final = 2
_MAX_SCANS: Final = 500
"""Each takes a pass over the whole picture; encoders make about a dozen."""

_SEVERAL: Final = "pictures (gain maps for HDR, other views)"


@dataclass(frozen=True)
class _Scan:
    """The header of a scan: components, spectral selection, successive approximation."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int


@dataclass
class _Frame:
    """What the walk along the markers found of the first picture in a file.

    Attributes:
        process: the marker of the frame header, 0 before it was met.
        sampling: horizontal and vertical sampling factor of each component, by its number.
        pieces: the segments that pixels depend on; entropy-coded data are pieces of their own.
        data: which of the pieces are entropy-coded.
        end: offset behind EOI.
        index_at, index_end: where the index of the Multi-Picture Format stands.
    """

    process: int = 0
    precision: int = 0
    size: tuple[int, int] = (0, 0)
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: int = 0
    scans: list[_Scan] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    data: list[int] = field(default_factory=list)
    end: int = 0
    index_at: int = 0
    index_end: int = 0


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`. The file is read to its end: pictures may follow the first."""
    file.seek(0)
    data = file.read()
    frame = _walk(data)
    _check_allowed(frame)
    return Header("JPEG", frame.size, 1 + _behind(data, frame).pictures, "pictures (gain maps for HDR, other views)")


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    data = file.read()
    frame = _walk(data)
    _check_allowed(frame)
    _check_scans(frame)
    behind = _behind(data, frame)
    metadata, notes = file_metadata(data, "JPEG")
    if behind.previews:
        copies = "1 smaller copy" if behind.previews == 1 else f"{behind.previews} smaller copies"
        notes = (*notes, f"has {copies} of the picture behind it, for previews; left out")
    if behind.other_bytes:
        notes = (*notes, f"{behind.other_bytes} bytes behind the picture are left out")
    with opened(b"".join(frame.pieces), "JPEG") as image:
        picture = picture_of(image, name, metadata)
    _check_whole(frame, picture.pixels)
    return ReadPicture(picture, notes)


def _walk(data: bytes, start: int = 0) -> _Frame:
    """Follow the markers from SOI at ``start`` to EOI.

    Raises:
        InputError: a segment or EOI is missing.
    """
    frame, at = _Frame(pieces=[_SOI]), start + 2
    while True:
        match = _MARKER.match(data, at)
        if match is None:
            if at >= len(data):
                raise InputError("is damaged (the file ends before the end of its JPEG data)")
            raise InputError(f"is damaged (no JPEG marker at byte {at})")
        marker, at = match[1][0], match.end()
        if marker == _EOI[1]:
            frame.pieces.append(_EOI)
            frame.end = at
            return frame
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            raise InputError(f"is damaged (a JPEG marker {marker:02X} out of place)")
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) < length - 2:
            raise InputError("is damaged (the file ends before the end of its JPEG data)")
        if marker == _APP2 and body.startswith(_MPF):
            frame.index_at, frame.index_end = at + 2 + len(_MPF), at + length
        at += length
        _take(frame, marker, body)
        if marker == _SOS:
            match = _END_OF_SCAN.search(data, at)
            end = match.start() if match else len(data)
            frame.data.append(len(frame.pieces))
            frame.pieces.append(data[at:end])
            at = end


def _take(frame: _Frame, marker: int, body: bytes) -> None:
    """Take over what a segment says, and keep it if pixels depend on it."""
    if marker in _FRAMES:
        if frame.process:
            raise InputError("is a hierarchical JPEG, or damaged (it has several frame headers)")
        if len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise InputError("is damaged (its frame header has a wrong length)")
        frame.process, frame.precision = marker, body[0]
        height, width = struct.unpack_from(">HH", body, 1)
        frame.size = width, height
        frame.sampling = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)}
        if len(frame.sampling) != body[5]:
            raise InputError("is damaged (its components are not numbered apart)")
    elif marker == _DRI and len(body) == 2:
        (frame.interval,) = struct.unpack(">H", body)
    elif marker == _SOS:
        if not body or len(body) != 4 + 2 * body[0] or not frame.process:
            raise InputError("is damaged (a scan header is out of place or has a wrong length)")
        first, last, bits = body[-3:]
        frame.scans.append(_Scan(tuple(body[1:-3:2]), first, last, bits >> 4, bits & 15))
    elif marker == _APP11 and (body[12:16] in _EXTENSIONS or body.startswith(b"HDR_RI")):
        raise InputError("has a layer of JPEG XT with further bits or alpha, which would be lost")
    elif marker == _DNL:
        raise InputError("is a JPEG whose height follows its data (DNL), which is not read")
    kept = marker in _FRAMES or marker in (_DHT, _DQT, _DRI, _SOS)
    if kept or any(marker == kind and body.startswith(name) for kind, name in (_JFIF, _ADOBE)):
        frame.pieces.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)


def _check_allowed(frame: _Frame) -> None:
    """Refuse what would not come back exactly."""
    if frame.process in _OTHER_PROCESSES:
        raise InputError(f"is {_OTHER_PROCESSES[frame.process]} JPEG, which is not read")
    if not frame.process:
        raise InputError("is damaged (it has no frame header)")
    if frame.precision != 8:
        raise InputError(f"has {frame.precision} bits per colour sample; of JPEG only 8 are read")
    if len(frame.sampling) not in (1, 3, 4):
        raise InputError(f"has {len(frame.sampling)} components; of JPEG only 1, 3 and 4 are read")
    if any(not (1 <= across <= 4 and 1 <= down <= 4) for across, down in frame.sampling.values()):
        raise InputError("is damaged (its sampling factors are not from 1 to 4)")


def _check_scans(frame: _Frame) -> None:
    """Refuse a picture that lacks scans or restart intervals, which libjpeg would make up."""
    if len(frame.scans) > _MAX_SCANS:
        raise InputError(f"has {len(frame.scans)} scans; more than {_MAX_SCANS} are not read")
    missing = {(component, k): 16 for component in frame.sampling for k in range(_LAST_COEFFICIENT + 1)}
    for scan, index in zip(frame.scans, frame.data, strict=True):
        unknown = [component for component in scan.components if component not in frame.sampling]
        if unknown or not scan.components or scan.first > scan.last or scan.last > _LAST_COEFFICIENT:
            raise InputError("is damaged (a scan header does not fit the frame)")
        low = scan.low if frame.process == _PROGRESSIVE else 0
        for component in scan.components:
            for k in range(scan.first, scan.last + 1) if frame.process == _PROGRESSIVE else range(64):
                missing[component, k] = min(missing[component, k], low)
        if frame.interval:
            _check_intervals(frame, scan, frame.pieces[index])
    if any(missing.values()):
        raise InputError("is damaged (not all of its scans are there)")


def _check_intervals(frame: _Frame, scan: _Scan, data: bytes) -> None:
    columns, rows = _blocks(frame, scan.components)
    wanted, found = ceil_div(columns * rows, frame.interval) - 1, len(_RESTART.findall(data))
    if found != wanted:
        raise InputError(f"is damaged (a scan has {found} of {wanted} restart markers)")


def _check_whole(frame: _Frame, pixels: bytes) -> None:
    """Refuse a picture whose pixels depend on what follows its entropy-coded data.

    Raises:
        InputError: data are missing.
    """
    shown = _with_whole_blocks(frame)
    if shown is not frame:
        pixels = _pixels(b"".join(shown.pieces))
    for seed in range(_PROBES):
        if _pixels(_extended(shown, seed)) != pixels:
            raise InputError("is damaged (its entropy-coded data end too early)")


def _with_whole_blocks(frame: _Frame) -> _Frame:
    """Return a picture of which the last row and column of blocks are seen as a whole: little damage shows nowhere else."""
    width, height = (8 * ceil_div(side, 8) for side in frame.size)
    wider = replace(frame, size=(width, height), pieces=list(frame.pieces))
    same_blocks = all(_blocks(frame, (number,)) == _blocks(wider, (number,)) for number in frame.sampling)
    if (width, height) == frame.size or max(width, height) > 65500 or not same_blocks:
        return frame
    at = next(at for at, piece in enumerate(frame.pieces) if piece[:2] == bytes((0xFF, frame.process)))
    piece = frame.pieces[at]
    wider.pieces[at] = piece[:5] + struct.pack(">HH", height, width) + piece[9:]
    return wider


def _blocks(frame: _Frame, components: tuple[int, ...]) -> tuple[int, int]:
    """Return the columns and rows of the units that a scan of some components consists of (T.81, A.2)."""
    across = max(horizontal for horizontal, _ in frame.sampling.values())
    down = max(vertical for _, vertical in frame.sampling.values())
    width, height = frame.size
    if len(components) > 1:
        return ceil_div(width, 8 * across), ceil_div(height, 8 * down)
    own_across, own_down = frame.sampling[components[0]]
    columns, rows = ceil_div(width * own_across, across), ceil_div(height * own_down, down)
    return ceil_div(columns, 8), ceil_div(rows, 8)


def _extended(frame: _Frame, seed: int) -> bytes:
    """Return the file with bytes inserted behind every piece of entropy-coded data."""
    draw = random.Random(seed)
    pieces = list(frame.pieces)
    for index in frame.data:
        # No 0xFF, which would begin a marker. The first bits of all these differ.
        more = bytes([0xA5 ^ 0xFF * (seed % 2), *draw.choices(range(255), k=63)])
        restarts = [match.start() for match in _RESTART.finditer(pieces[index])] if frame.interval else []
        cuts = [0, *restarts, len(pieces[index])]
        pieces[index] = b"".join(pieces[index][start:end] + more for start, end in itertools.pairwise(cuts))
    return b"".join(pieces)


def _pixels(file: bytes) -> bytes:
    with opened(file, "JPEG") as image:
        return image.tobytes()


def _behind(data: bytes, frame: _Frame) -> Behind:
    """Return what follows the first picture."""

    def end_of(start: int) -> int | None:
        try:
            return _walk(data, start).end
        except InputError:
            return None

    return pictures_behind(data, frame.end, data[frame.index_at : frame.index_end], frame.index_at, end_of)
