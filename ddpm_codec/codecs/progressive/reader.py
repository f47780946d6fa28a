"""A progressive file, or what there is of one, used section by section as far as a caller wants.

Importing this loads no torch.
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


@dataclass(frozen=True)
class DecodeLimits:
    """How far to decode, and how to show what is known there.

    Attributes:
        max_bpp: use no section that ends beyond so many bits a pixel; None: use all.
        level: stop when the latents of this level are known; None: do not.
        reconstruction: ``mean``, ``sample`` or ``flow``.
        keep_going: of a damaged file use the sections before the damage.
    """

    max_bpp: float | None = None
    level: int | None = None
    reconstruction: str = "mean"
    keep_going: bool = False


@dataclass(frozen=True)
class DecodedPicture:
    """A picture, and how much of its file it took.

    Attributes:
        picture: the picture.
        level: whose latents are known of all of it; -1 is the picture itself.
        used_bytes: of the file.
        damage: why an earlier section than the limits allow was the last; empty: it was not.
    """

    picture: Picture
    level: int
    used_bytes: int
    damage: str = ""

    @property
    def lossless(self) -> bool:
        """Whether this is the picture itself."""
        return self.level < 0


class ProgressiveReader:
    """A file and its decoder.

    Args:
        file: what there is of the file.
        model: the model that it was coded with, where the caller says which it is.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        keep_going: take a file with a damaged section up to there.

    Attributes:
        file: see above.
        decoder: where it stands.

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: the file is damaged, or too short for a first picture.
        ModelError: the model that it was coded with is not here.
    """

    decoder: "PictureDecoder"

    def __init__(
        self, file: SectionFile, *, model: ModelName | None = None, device: str = "auto", keep_going: bool = False
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
        """Sections that were used, that of the alpha plane not counted."""
        return self.decoder.used

    @property
    def remaining(self) -> int:
        """Sections that have not been used."""
        return len(self.file.sections) - self._first - self.used

    @property
    def used_bytes(self) -> int:
        """Bytes of the file up to the last section used."""
        count = self.used + self._first
        return self.file.ends[count - 1] if count else self.file.start

    @property
    def next_end(self) -> int:
        """Bytes of the file up to the end of the next section."""
        return self.file.ends[self._first + self.used]

    def feed(self) -> None:
        """Use the next section.

        Raises:
            FormatError: it cannot be decoded.
        """
        self.decoder.feed(self.file.sections[self._first + self.used])

    def decode(self, limits: DecodeLimits, progress: Callable[[int, int], None] | None = None) -> DecodedPicture:
        """Return the picture as far as the file and the limits go.

        Args:
            limits: see there.
            progress: called with (sections used, sections).

        Raises:
            FormatError: a section is damaged; with ``keep_going``, the first.
            InputError: the limits allow no picture at all, or make no sense.
        """
        pixels, label = self.file.info.pixel_count, self.file.label
        if limits.max_bpp is not None and not 0 < limits.max_bpp < math.inf:
            raise InputError(f"bpp = {limits.max_bpp:g}: must be a positive number")
        steps = self.decoder.parameters.steps
        if limits.level is not None and not 0 <= limits.level <= steps:
            raise InputError(f"level = {limits.level}: the file has levels 0 to {steps}")
        damage = self._feed(limits, progress)
        if not self.used and damage:
            raise FormatError(damage)
        if not self.used:
            raise InputError(f"{label}: the first picture takes {8 * self.next_end / pixels:.3f} bits a pixel")
        picture = self.decoder.picture(limits.reconstruction)
        return DecodedPicture(picture, self.decoder.level, self.used_bytes, damage)

    def _feed(self, limits: DecodeLimits, progress: Callable[[int, int], None] | None) -> str:
        """Use sections as far as the limits go; with ``keep_going``, return why an earlier one was the last."""
        most = math.inf if limits.max_bpp is None else limits.max_bpp * self.file.info.pixel_count / 8
        while self.remaining and self.next_end <= most:
            if limits.level is not None and self.decoder.level <= limits.level:
                break
            try:
                self.feed()
            except FormatError as error:
                if not limits.keep_going:
                    raise
                return str(error)
            if progress is not None:
                progress(self.used, self.used + self.remaining)
        return ""
