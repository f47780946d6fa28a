"""Decodes a progressive file, possibly incomplete, section by section up to given limits.

Importing this module does not load torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_codec.container.section_reader import TOO_SHORT, SectionFile
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.decoder import PictureDecoder
    from ddpm_codec.codecs.session import Model


@dataclass(frozen=True)
class DecodeLimits:
    """Where decoding stops, and how the picture is reconstructed there.

    Attributes:
        max_bpp: use only sections that end within this many bits per pixel; None: no limit.
        level: stop once the latents of this level are known; None: no limit.
        reconstruction: ``mean``, ``sample`` or ``flow``.
        keep_going: decode a damaged file up to the damage.
    """

    max_bpp: float | None = None
    level: int | None = None
    reconstruction: str = "mean"
    keep_going: bool = False


@dataclass(frozen=True)
class DecodedPicture:
    """A picture, and how much of its file was used.

    Attributes:
        picture: the picture.
        level: level reached by the whole picture; -1 is the picture itself.
        used_bytes: bytes of the file used.
        damage: what could not be decoded within the limits, one line each.
    """

    picture: Picture
    level: int
    used_bytes: int
    damage: tuple[str, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether the picture is lossless."""
        return self.level < 0


class ProgressiveReader:
    """A file and its decoder.

    Args:
        file: the file, possibly incomplete.
        model: the model it was coded with; None to look for it among the shipped models.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        keep_going: accept a damaged file and decode it up to the damage.

    Attributes:
        file: see above.
        decoder: the decoder, with its state.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the file is damaged, or too short for a first picture.
        ModelError: the model is not available.
    """

    decoder: "PictureDecoder"

    def __init__(
        self,
        file: SectionFile,
        *,
        model: "ModelName | Model | None" = None,
        device: str = "auto",
        keep_going: bool = False,
    ) -> None:
        from ddpm_codec.codecs.progressive.decoder import PictureDecoder

        self.file = file
        if not keep_going:
            file.require_whole()
        self._first = 1 if file.info.mode == "RGBA" else 0
        if len(file.sections) <= self._first:
            raise FormatError(f"{file.label}: {TOO_SHORT}")
        self.decoder = PictureDecoder(file.head, file.info, model=model, device=device, label=file.label)
        for payload in file.sections[: self._first]:
            self.decoder.feed(payload)

    @property
    def used(self) -> int:
        """Number of sections used, not counting the alpha plane."""
        return self.decoder.used

    @property
    def remaining(self) -> int:
        """Number of sections not yet used."""
        return len(self.file.sections) - self._first - self.used

    @property
    def used_bytes(self) -> int:
        """Bytes of the file up to the end of the last section used."""
        # Tiles that were rescued behind damage lie beyond the sections that count.
        count = min(self.used + self._first, len(self.file.ends))
        return self.file.ends[count - 1] if count else self.file.start

    @property
    def next_end(self) -> int:
        """Bytes of the file up to the end of the next section."""
        return self.file.ends[self._first + self.used]

    def feed(self) -> None:
        """Use the next section.

        Raises:
            FormatError: the section cannot be decoded.
        """
        self.decoder.feed(self.file.sections[self._first + self.used])

    def feed_tiles(self, count: int) -> list[str]:
        """Use the next sections, which are tiles, at once; return a line for each that cannot be decoded."""
        first = self._first + self.used
        return self.decoder.feed_tiles(self.file.sections[first : first + count])

    def decode(self, limits: DecodeLimits, progress: Callable[[int, int], None] | None = None) -> DecodedPicture:
        """Decode the picture as far as the file and the limits allow.

        Args:
            limits: where to stop.
            progress: called with (sections used, total sections).

        Raises:
            FormatError: a section is damaged; with ``keep_going``, the first one.
            InputError: a limit is out of range, or allows no picture at all.
        """
        pixels, label = self.file.info.pixel_count, self.file.label
        if limits.max_bpp is not None and not 0 < limits.max_bpp < math.inf:
            raise InputError(f"bpp = {limits.max_bpp:g}: must be a positive number")
        steps = self.decoder.parameters.steps
        if limits.level is not None and not 0 <= limits.level <= steps:
            raise InputError(f"level = {limits.level}: the file has levels 0 to {steps}")
        damage = self._feed(limits, progress)
        if not self.used and damage:
            raise FormatError(damage[0])
        if not self.used:
            raise InputError(f"{label}: the first picture takes {8 * self.next_end / pixels:.3f} bits/pixel")
        picture = self.decoder.picture(limits.reconstruction)
        return DecodedPicture(picture, self.decoder.level, self.used_bytes, tuple(damage))

    def _feed(self, limits: DecodeLimits, progress: Callable[[int, int], None] | None) -> list[str]:
        """Use sections up to the limits; with ``keep_going``, return the damage that stopped it earlier."""
        most = math.inf if limits.max_bpp is None else limits.max_bpp * self.file.info.pixel_count / 8
        whole = limits.max_bpp is None
        while self.remaining and self.next_end <= most:
            if limits.level is not None and self.decoder.level <= limits.level:
                whole = False
                break
            damage = self._feed_next(most, limits.keep_going)
            if damage:
                return damage
            if progress is not None:
                progress(self.used, self.used + self.remaining)
        if whole and limits.keep_going and self.decoder.takes_tiles and not self.decoder.lossless and self.file.rescued:
            lost = sum(payload is None for payload in self.file.rescued)
            damage = self.decoder.feed_tiles(self.file.rescued)
            return [f"{self.file.label}: is damaged after byte {self.file.used_bytes} (tiles lost: {lost})", *damage]
        return []

    def _feed_next(self, most: float, keep_going: bool) -> list[str]:
        """Use the next section, or all the tiles within ``most`` bytes."""
        if self.decoder.takes_tiles:
            ends = self.file.ends[self._first + self.used :]
            damage = self.feed_tiles(sum(end <= most for end in ends))
            if damage and not keep_going:
                raise FormatError(damage[0])
            return damage
        try:
            self.feed()
        except FormatError as error:
            if not keep_going:
                raise
            return [str(error)]
        return []
