"""Archives: many pictures in one file, coded block by block and decoded in order or individually.

One picture alone becomes a file of a shorter layout, which is read as an archive of one.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ddpm_codec.codecs.lossless.choice import CodingTotals
from ddpm_codec.codecs.lossless.holders import block_holders
from ddpm_codec.codecs.lossless.layout import MODEL, BlockHeader
from ddpm_codec.codecs.lossless.opening import open_session
from ddpm_codec.codecs.lossless.single import (
    SinglePicture,
    decode_indexed_body,
    encode_single,
    fits_single,
    single_of_fallback,
)
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import (
    CODEC_BITS_BACK,
    CODEC_FALLBACK,
    CODEC_SINGLE,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ROUTE_MODEL,
    Container,
    ContainerWriter,
    Head,
    ImageEntry,
)
from ddpm_codec.errors import FormatError
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.stopwatch import Stopwatch
from ddpm_codec.varint import Reader

if TYPE_CHECKING:
    from ddpm_codec.codecs.lossless.decoder import LosslessDecoder
    from ddpm_codec.codecs.lossless.encoder import EncodedBlock
    from ddpm_codec.codecs.session import CodingSession, Model


class CodedPicture(NamedTuple):
    """How a picture was coded.

    Attributes:
        route: ``ROUTE_MODEL``, ``ROUTE_INDEXED`` or ``ROUTE_FALLBACK``.
        bytes: of its blocks, its share of those that it shares with others: what the coder spent on it, in proportion.
    """

    route: int
    bytes: int


class ArchiveEncoder:
    """Encodes pictures one after another and assembles the file at the end.

    Args:
        session: the model; None to use the fallback only.
        options: block and tile sizes.
        spool: an empty file, open for reading and writing, that stores blocks until the end.

    Attributes:
        infos: the pictures so far, without pixels.
        coding: stopwatch of block coding.
        network_seconds: time of it that was spent in networks; known when all is encoded.
    """

    def __init__(self, session: "CodingSession | None", options: CodingOptions, spool: BinaryIO) -> None:
        from ddpm_codec.codecs.lossless.encoder import LosslessEncoder

        self.infos: list[PictureInfo] = []
        self.coding, self.network_seconds = Stopwatch(), 0.0
        self._session, self._options = session, options
        self._network_before = 0.0 if session is None else session.network_seconds
        self._writer = ContainerWriter(spool)
        self._encoder = LosslessEncoder(None if session is None else session.lattice, options)
        self._routes: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        # The first picture waits for a second one.
        self._first: Picture | None = None
        self._single: SinglePicture | None = None

    @property
    def totals(self) -> CodingTotals:
        """Total size of what has been coded."""
        return self._encoder.totals if self._single is None else self._single.totals

    @property
    def used_model(self) -> bool:
        """Whether the model coded anything."""
        return self.totals.net_dims > 0

    @property
    def coded(self) -> list[CodedPicture]:
        """How each picture was coded, in order; known when all are encoded."""
        if self._single is not None:
            return [CodedPicture(self._single.short.route, len(self._single.body))]
        return [CodedPicture(self._routes[index], self._bytes[index]) for index in range(len(self.infos))]

    def add(self, picture: Picture) -> None:
        """Encode the next picture, or queue it until its block is full.

        Raises:
            OSError: the spool cannot be written.
        """
        self.infos.append(picture.info)
        if len(self.infos) == 1:
            self._first = picture
            return
        first, self._first = self._first, None
        for one in (first, picture):
            if one is not None:
                with self.coding:
                    blocks = self._encoder.add(one)
                self._keep(blocks)

    def finish(self) -> None:
        """Encode the queued pictures.

        Raises:
            OSError: the spool cannot be written.
        """
        self._finish()
        if self._session is not None:
            self.network_seconds = self._session.network_seconds - self._network_before

    def _finish(self) -> None:
        first, self._first = self._first, None
        with self.coding:
            if first is not None and fits_single(first.info, self._session, self._options):
                self._single = encode_single(first, self._session, self._options)
                return
            blocks = [] if first is None else self._encoder.add(first)
            blocks += self._encoder.finish()
        if first is not None and blocks[0].header.kind != MODEL:
            # Only what the model codes needs blocks.
            self._single = single_of_fallback(first.info, blocks[0].body)
            return
        self._keep(blocks)

    def write(self, out: BinaryIO, *, file_name: str = "") -> int:
        """Write the file and return its size in bytes.

        Args:
            out: the file.
            file_name: its name; that of a single picture is not stored if it follows from it.

        Raises:
            InputError: names or metadata exceed the limits of the format.
            OSError: the file cannot be written.
        """
        if self._single is not None:
            return out.write(self._single.to_bytes(file_name))
        images = [ImageEntry(info, self._routes[index]) for index, info in enumerate(self.infos)]
        return self._writer.finish(out, self._head(), images)

    def _keep(self, blocks: "list[EncodedBlock]") -> None:
        for block in blocks:
            self._writer.add_block(block.data)
            route = ROUTE_MODEL if block.header.kind == MODEL else ROUTE_FALLBACK
            self._routes.update(dict.fromkeys(block.header.pictures, route))
            for index, size in zip(block.header.pictures, block.picture_bytes, strict=True):
                self._bytes[index] = self._bytes.get(index, 0) + size

    def _head(self) -> Head:
        session = self._session
        if session is None or not self.used_model:
            return Head(CODEC_FALLBACK)
        parameters: dict[str, int | str] = {
            "block_pixels": self._options.block_pixels,
            "tile": self._options.tile,
            "steps": session.steps,
        }
        if session.crossing:
            parameters["crossing"] = session.crossing
        identity = bytes.fromhex(session.model_id)
        return Head(CODEC_BITS_BACK, session.model.name, identity, session.fingerprint(), parameters)


def encode_archive(
    pictures: Iterable[Picture], session: "CodingSession | None", options: CodingOptions, *, file_name: str = ""
) -> bytes:
    """Encode pictures to an archive; see :class:`ArchiveEncoder`."""
    encoder = ArchiveEncoder(session, options, io.BytesIO())
    for picture in pictures:
        encoder.add(picture)
    encoder.finish()
    out = io.BytesIO()
    encoder.write(out, file_name=file_name)
    return out.getvalue()


@dataclass(frozen=True)
class DecodedBlock:
    """Result of decoding a block.

    Attributes:
        index: index of the block.
        pictures: pictures completed by it, with their indices in the image table.
        damage: why it could not be decoded, or None.
    """

    index: int
    pictures: tuple[tuple[int, Picture], ...]
    damage: FormatError | None = None


class ArchiveDecoder:
    """Decodes blocks of an archive on demand.

    Args:
        container: the archive.
        model: the model it was coded with; None to look for it among the shipped models.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.

    Attributes:
        container: the archive.
        infos: its pictures, without pixels.
        session: the model; None if none is needed.
        coding: stopwatch of block coding.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the coding parameters are damaged.
        ModelError: the model is not available.
    """

    def __init__(self, container: Container, *, model: "ModelName | Model | None" = None, device: str = "auto") -> None:
        self.container = container
        self.infos = [entry.info for entry in container.images]
        self.coding = Stopwatch()
        self._options, self.session = open_session(container, model, device)
        self._network_before = 0.0 if self.session is None else self.session.network_seconds

    @property
    def network_seconds(self) -> float:
        """Time spent in the network."""
        return 0.0 if self.session is None else self.session.network_seconds - self._network_before

    def blocks(self) -> Iterator[DecodedBlock]:
        """Decode block after block. Damaged blocks yield an error instead of pictures; missing blocks are skipped."""
        yield from self._blocks(self._decoder())

    def _blocks(self, decoder: "LosslessDecoder") -> Iterator[DecodedBlock]:
        for index, block in enumerate(self.container.blocks):
            if block is None:
                continue
            try:
                yield DecodedBlock(index, tuple(self._decode(decoder, index).items()))
            except FormatError as error:
                yield DecodedBlock(index, (), error)

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Decode all pictures, block by block.

        Raises:
            FormatError: at the first damaged block, or at the end if a picture is in no block.
        """
        decoder = self._decoder()
        for block in self._blocks(decoder):
            if block.damage is not None:
                raise block.damage
            yield from block.pictures
        missing = decoder.missing()
        if missing:
            raise FormatError(f"{self.container.label}: {len(missing)} pictures are in no block")

    def pictures_beside(self, index: int) -> dict[int, Picture]:
        """Decode only the block that holds a picture, or the blocks that hold its regions.

        Returns:
            The picture and all others in its block, by index in the image table.

        Raises:
            FormatError: the block is damaged or missing.
        """
        decoder = self._decoder()
        found: dict[int, Picture] = {}
        damage: FormatError | None = None
        # A header is read before its checksum: a damaged one may claim pictures of other blocks.
        for block in self.blocks_of(index):
            try:
                found |= self._decode(decoder, block)
            except FormatError as error:
                damage = damage or error
        if index not in found:
            raise damage or FormatError(f"{self.container.label}: no undamaged block holds {self.infos[index].name}")
        return found

    def blocks_of(self, index: int) -> tuple[int, ...]:
        """Return the blocks that hold a picture, or its regions, as their headers say (checked on decoding)."""
        return tuple(self._holders.get(index, ()))

    @cached_property
    def _holders(self) -> dict[int, list[int]]:
        return block_holders(self.container)

    def _decoder(self) -> "LosslessDecoder":
        from ddpm_codec.codecs.lossless.decoder import LosslessDecoder

        lattice = None if self.session is None else self.session.lattice
        return LosslessDecoder(lattice, self._options, self.infos, len(self.container.blocks))

    def _decode(self, decoder: "LosslessDecoder", index: int) -> dict[int, Picture]:
        """Decode one block; errors are reported as one line that names the file and block."""
        single = self.container.head.codec == CODEC_SINGLE
        with self.coding:
            payload = self.container.read_block(index)
            try:
                with nullcontext() if self.session is None else self.session.environment():
                    return self._decode_single(decoder, payload) if single else dict(decoder.decode(payload))
            except FormatError as error:
                what = "" if single else f"block {index} "
                raise FormatError(f"{self.container.label}: {what}cannot be decoded: {error}") from error

    def _decode_single(self, decoder: "LosslessDecoder", body: bytes) -> dict[int, Picture]:
        route = self.container.images[0].route
        if route == ROUTE_INDEXED and self.session is not None:
            picture = decode_indexed_body(self.session, self.container.head, self.infos[0], Reader(body))
            decoder.note_complete(0)
            return {0: picture}
        return dict(decoder.decode_body(BlockHeader(route, 0, (0,)), Reader(body)))
