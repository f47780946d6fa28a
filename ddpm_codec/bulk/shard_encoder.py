"""Encodes a shard: reads its pictures, codes those that can be used, and writes the shard and then its sidecar."""

import hashlib
import io
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ddpm_codec.bulk.entries import Entry
from ddpm_codec.bulk.finished import finished_shard
from ddpm_codec.bulk.places import Place, UnreachableError
from ddpm_codec.bulk.rows import ROUTES, SHARD, SIDECAR, Row, ShardFacts, pack
from ddpm_codec.bulk.source import Source
from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, ArchiveEncoder
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, checked_options
from ddpm_codec.container import ROUTE_FALLBACK, ByteSource, read_container
from ddpm_codec.errors import InputError, ModelError, Untaken, one_line
from ddpm_codec.files.verification import UNLIMITED, compare, picture_digest
from ddpm_codec.image_io import read_stored
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import DEFAULT, ModelName, find_model, model_id, shipped_models
from ddpm_codec.picture import Picture
from ddpm_codec.stopwatch import Stopwatch
from ddpm_codec.units import bytes_to_bpd

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession

_NOTES = 20
"""Notes that a sidecar keeps."""


@dataclass(frozen=True)
class Setting:
    """How shards are encoded; see :class:`ddpm_codec.files.EncodeOptions`.

    Attributes:
        source: where the pictures are.
        destination: where shards go.
        plan: identity of the plan.
        model: name or file of a model; ``none`` for the fallback alone.
        model_id: SHA-256 that the model must have, hexadecimal; empty: none.
        device: ``cpu`` or ``cuda``.
        steps: K.
        tile: side of the tiles.
        block_pixels: pixels of a block, the unit of damage and of random access.
        first_frame: take the first frame of pictures with several.
        strip: leave out all metadata.
        verify: decode every shard and compare it before it appears.
    """

    source: str
    destination: str
    plan: str
    model: ModelName = DEFAULT
    model_id: str = ""
    device: str = "cpu"
    steps: int | None = None
    tile: int | None = None
    block_pixels: int = DEFAULT_BLOCK_PIXELS
    first_frame: bool = False
    strip: bool = False
    verify: bool = False


class Task(NamedTuple):
    """A shard to encode.

    Attributes:
        shard: its name, without an extension.
        entries: its pictures.
    """

    shard: str
    entries: list[Entry]


class ShardEncoder:
    """Encodes shards one after the other; a model is opened once.

    Args:
        setting: how.

    Raises:
        ModelError: the model does not exist, is damaged, or has no such chain.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._source, self._place = Source(setting.source), Place(setting.destination)
        self._session = None if setting.model == "none" else _open_session(setting)
        own_tile = 256 if self._session is None else self._session.model.tile
        self._cut = checked_options(setting.block_pixels, own_tile if setting.tile is None else setting.tile)

    def run(self, task: Task, said: Said = lambda _: None) -> ShardFacts:
        """Encode a shard, write it, and then its sidecar, which says that it is finished; one that is finished stays.

        The same pictures give the same file. What cannot be used is a row with its reason. A shard may be finished where its
        worker died before it could say so, or where another run is at work.

        Raises:
            FormatError: with ``verify``, the shard does not decode to the same pictures.
            OutputError: it cannot be written.
            UnreachableError: the source cannot be reached; nothing is written.
        """
        before = finished_shard(self._place, self._setting.plan, task.shard, self._place.size(task.shard + SHARD))
        if before is not None:
            said(Tally(before.pictures + before.failures, before.dims, before.file_bytes))
            return before
        with Stopwatch() as watch, isolated(None if self._session is None else 1):
            coding = _Coding(ArchiveEncoder(self._session, self._cut, io.BytesIO()), task.shard, self._source.label)
            for entry, data in self._source.read_ahead(task.entries):
                coding.add(entry, self._picture, data, said)
            file = coding.finished(task.shard + SHARD)
            if self._setting.verify and file:
                self._verify(file, task.shard + SHARD, coding.digests)
            if file:
                self._place.write(task.shard + SHARD, file)
        facts = replace(coding.facts(file), plan=self._setting.plan, seconds=watch.seconds)
        self._place.write(task.shard + SIDECAR, pack(coding.rows, facts))
        said(Tally(file_bytes=len(file)))
        return facts

    def _picture(self, entry: Entry, data: bytes) -> tuple[Picture, tuple[str, ...]]:
        found = read_stored(data, first_frame=self._setting.first_frame, name=entry.name)
        return found.picture.without_metadata() if self._setting.strip else found.picture, found.notes

    def _verify(self, file: bytes, name: str, digests: list[bytes]) -> None:
        container = read_container(ByteSource(file, name, name), max_pixels=UNLIMITED)
        model = self._setting.model if container.head.needs_model else None
        compare(ArchiveDecoder(container, model=model, device=self._setting.device), digests)


class _Coding:
    """One shard on its way."""

    def __init__(self, encoder: ArchiveEncoder, shard: str, label: Callable[[Entry], str]) -> None:
        self._encoder, self._shard, self._label = encoder, shard, label
        self.digests: list[bytes] = []
        self.rows: list[Row] = []
        self._notes: list[str] = []

    def add(
        self,
        entry: Entry,
        read: Callable[[Entry, bytes], tuple[Picture, tuple[str, ...]]],
        data: Callable[[], bytes],
        said: Said,
    ) -> None:
        """Add a picture, or a row that says why it cannot be used."""
        source = self._label(entry)
        row = Row(source, entry.name, self._shard + SHARD)
        try:
            picture, notes = read(entry, data())
        except UnreachableError:
            # May pass: the shard is left for another time, and the picture is not said to be at fault.
            raise
        except Exception as error:  # one picture, of whatever kind its damage is, must not stop the others
            known = isinstance(error, InputError)
            reason = Untaken.of(entry.name, error).reason.removeprefix(f"{source}: ") if known else _unknown(error)
            self.rows.append(replace(row, failure=reason))
            said(Tally(1))
            return
        self._notes += [f"{source}: {note}" for note in notes[: _NOTES - len(self._notes)]]
        info, index = picture.info, len(self.digests)
        pixels = hashlib.sha256(picture.pixels).digest()
        width, height = info.size
        self.rows.append(replace(row, index=index, sha256=pixels, width=width, height=height, mode=info.mode))
        self.digests.append(picture_digest(picture))
        self._encoder.add(picture)
        said(Tally(1, info.pixel_count * info.layout.channels))

    def finished(self, name: str) -> bytes:
        """Return the file, empty if it has no pictures, and complete the rows."""
        if not self.digests:
            return b""
        self._encoder.finish()
        out = io.BytesIO()
        self._encoder.write(out, file_name=name)
        coded = self._encoder.coded
        for place, row in enumerate(self.rows):
            if row.index >= 0:
                one, info = coded[row.index], self._encoder.infos[row.index]
                bpd = bytes_to_bpd(one.bytes, info.pixel_count * info.layout.channels)
                self.rows[place] = replace(row, bytes=one.bytes, bpd=bpd, route=ROUTES[one.route])
        return out.getvalue()

    def facts(self, file: bytes) -> ShardFacts:
        """Return what the sidecar says."""
        infos = self._encoder.infos
        return ShardFacts(
            plan="",
            shard=self._shard,
            file_bytes=len(file),
            sha256=hashlib.sha256(file).hexdigest(),
            pictures=len(infos),
            failures=len(self.rows) - len(infos),
            pixels=sum(info.pixel_count for info in infos),
            dims=sum(info.pixel_count * info.layout.channels for info in infos),
            fallback_pictures=sum(row.route == ROUTES[ROUTE_FALLBACK] for row in self.rows),
            seconds=0.0,
            notes=tuple(self._notes),
        )


def _unknown(error: Exception) -> str:
    return f"cannot be read ({type(error).__name__}: {one_line(error)})"


def _open_session(setting: Setting) -> "CodingSession":
    from ddpm_codec.codecs.session import CodingSession

    check_model(setting.model, setting.model_id)
    return CodingSession.for_encoding(setting.model, setting.device, setting.steps)


def check_model(model: ModelName, identity: str) -> None:
    """Check that the model of that name here is the one of the run.

    Raises:
        ModelError: it is another one, or missing.
    """
    if model_id(find_model(model)) != identity:
        raise ModelError(f"{model}: is another model on {platform.node()} than where the run was started")


def model_address(model: ModelName) -> str:
    """Return what workers call a model: its name if it ships, else its path from the root."""
    name = os.fspath(model)
    if name == "none":
        return name
    path = find_model(name)
    return name if path in shipped_models() else os.path.abspath(path)
