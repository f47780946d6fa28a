"""The image of a progressive file while its bytes arrive."""

from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.api.arguments import device_name
from ddpm_codec.container import (
    DEFAULT_MAX_PIXELS,
    SectionReader,
)
from ddpm_codec.container.section_reader import TOO_SHORT
from ddpm_codec.errors import DdpmCodecError, FormatError
from ddpm_codec.image_io import to_image
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, PictureInfo

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.decoder import PictureDecoder
    from ddpm_codec.codecs.session import Model


_LABEL = "<bytes>"
"""Name in messages of a file fed as bytes."""


class ProgressiveDecoder:
    """Decodes a progressive file while its bytes arrive.

    Args:
        model: the model it was coded with, if that does not ship; any other is refused.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: of each call, see :func:`~ddpm_codec.encode`.
        max_pixels: refuse files that declare more pixels.

    Attributes:
        used_bytes: bytes up to the end of the last section used.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> y, x = np.mgrid[0:32, 0:48]
        >>> waves = np.stack([np.sin(x * y / 90), np.sin((x + y) / 5), np.cos((x - y) / 7)], axis=2)
        >>> image = (128 + 60 * waves).astype(np.uint8)
        >>> data = ddpm_codec.encode(image, progressive=True, device="cpu")
        >>> decoder = ddpm_codec.ProgressiveDecoder(device="cpu")
        >>> decoder.feed(data[: len(data) // 2])
        True
        >>> decoder.picture().shape, decoder.lossless
        ((32, 48, 3), False)
        >>> _ = decoder.feed(data[len(data) // 2 :])
        >>> decoder.lossless, np.array_equal(decoder.picture(), image)
        (True, True)
    """

    def __init__(
        self,
        *,
        model: "ModelName | Model | None" = None,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._model, self._device, self._threads = model, device_name(device), threads
        self._reader = SectionReader(max_pixels=max_pixels)
        self._decoder: PictureDecoder | None = None
        self._taken = 0
        self._failed: DdpmCodecError | None = None
        self.used_bytes = 0

    @property
    def info(self) -> PictureInfo | None:
        """The picture without pixels: name, mode, size, metadata; None until the head of the file has arrived."""
        return None if self._decoder is None else self._decoder.info

    @property
    def level(self) -> int | None:
        """Noise level reached by the whole image, 0 the cleanest; -1 is the image itself, None: no level yet."""
        if self._decoder is None or self._decoder.level > self._decoder.parameters.steps:
            return None
        return self._decoder.level

    @property
    def lossless(self) -> bool:
        """Whether the image is complete."""
        return self._decoder is not None and self._decoder.lossless

    def feed(self, data: bytes | bytearray | memoryview, /) -> bool:
        """Feed the next bytes of the file; return whether a better image is available.

        Raises:
            EnvironmentMismatchError: coded in floating point in a different environment.
            FormatError: the bytes are damaged; the image from the bytes before them is still available.
            ModelError: the model it was coded with is not available.
        """
        if self._failed is not None:
            raise self._failed
        before = 0 if self._decoder is None else self._decoder.used
        try:
            with isolated(self._threads):
                self._take(self._reader.feed(bytes(memoryview(data))))
            if self._reader.damaged:
                raise FormatError(f"is damaged after byte {self.used_bytes or self._reader.start}")
        except DdpmCodecError as error:
            # The sections after the one that failed cannot be used: the same error from now on.
            named = str(error) if str(error).startswith(_LABEL) else f"{_LABEL}: {error}"
            self._failed = type(error)(named)
            raise self._failed from None
        return self._decoder is not None and self._decoder.used > before

    def _take(self, payloads: list[bytes]) -> None:
        short = self._reader.short
        if self._decoder is None and short is not None:
            from ddpm_codec.codecs.progressive.decoder import PictureDecoder

            self._decoder = PictureDecoder(short.head, short.info, model=self._model, device=self._device, label=_LABEL)
        decoder = self._decoder
        if decoder is None:
            return
        for place, payload in enumerate(payloads):
            if decoder.takes_tiles:
                self._take_tiles(decoder, payloads[place:])
                return
            decoder.feed(payload)
            self._count(1)

    def _take_tiles(self, decoder: "PictureDecoder", payloads: list[bytes]) -> None:
        damaged = decoder.feed_tiles(payloads)
        if damaged:
            raise FormatError(damaged[0])
        self._count(len(payloads))

    def _count(self, sections: int) -> None:
        self._taken += sections
        self.used_bytes = self._reader.ends[self._taken - 1]

    def picture(self, reconstruction: str = "mean") -> NDArray[np.uint8]:
        """Return the image decoded so far, [H, W, 3] or [H, W, 4].

        Args:
            reconstruction: how missing detail is filled in: ``"mean"`` has the lowest squared error, ``"sample"`` draws it
                from the model and is the most realistic, ``"flow"`` follows the probability-flow ODE. At level 0 ``"sample"``
                draws from the pixel decoder; ``"mean"`` and ``"flow"`` show its mean.

        Raises:
            FormatError: there are too few bytes for a first image.
            InputError: unknown reconstruction.
        """
        return self._shown(reconstruction).array().copy()

    def pil(self, reconstruction: str = "mean") -> PIL.Image.Image:
        """Return the image as a Pillow image; see :meth:`picture`."""
        return to_image(self._shown(reconstruction))

    def _shown(self, reconstruction: str) -> Picture:
        if self._decoder is None or not self._decoder.used:
            raise FormatError(f"{_LABEL}: {TOO_SHORT}")
        with isolated(self._threads):
            return self._decoder.picture(reconstruction)
