"""JPEG XL through the C interface of libjxl: its progressive lossless files, and pictures from prefixes of them.

The Pillow plug-in offers neither. The library is the one that the wheels of imagecodecs carry (0.12 from 2026.10 on, which
needs Python 3.12), else that of the system. One thread.

Source: ``jxl/encode.h``, ``jxl/decode.h`` and ``jxl/codestream_header.h`` of libjxl.
"""

import ctypes
import ctypes.util
import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError, MissingDependencyError

Pixels = NDArray[np.uint8]

_EFFORT, _RESPONSIVE, _QUALITY_PROGRESSIVE_AC = 0, 16, 18  # JxlEncoderFrameSettingId
_ENCODER_DONE, _ENCODER_MORE_OUTPUT = 0, 2  # JxlEncoderStatus
_NEED_MORE_INPUT, _NEED_OUTPUT, _BASIC_INFO, _FULL_IMAGE, _FRAME_PROGRESSION = 2, 5, 0x40, 0x1000, 0x8000
_EVERY_PASS: Final = 3  # JxlProgressiveDetail
_OUTPUT_CHUNK: Final = 1 << 18


class _BasicInfo(ctypes.Structure):
    """``JxlBasicInfo``; the last field is room for those of later versions."""

    _fields_ = (
        ("have_container", c_int),
        ("xsize", c_uint32),
        ("ysize", c_uint32),
        ("bits_per_sample", c_uint32),
        ("exponent_bits_per_sample", c_uint32),
        ("intensity_target", c_float),
        ("min_nits", c_float),
        ("relative_to_max_display", c_int),
        ("linear_below", c_float),
        ("uses_original_profile", c_int),
        ("have_preview", c_int),
        ("have_animation", c_int),
        ("orientation", c_int),
        ("num_color_channels", c_uint32),
        ("num_extra_channels", c_uint32),
        ("alpha_bits", c_uint32),
        ("alpha_exponent_bits", c_uint32),
        ("alpha_premultiplied", c_int),
        ("preview", c_uint32 * 2),
        ("animation", c_uint32 * 4),
        ("intrinsic_size", c_uint32 * 2),
        ("padding", c_uint8 * 228),
    )


class _PixelFormat(ctypes.Structure):
    """``JxlPixelFormat``."""

    _fields_ = (("channels", c_uint32), ("data_type", c_int), ("endianness", c_int), ("align", c_size_t))


_RGB: Final = _PixelFormat(3, 2, 0, 0)
_COLOUR_ENCODING_BYTES: Final = 256  # more than a JxlColorEncoding, of which the library alone sees the inside

_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "JxlEncoderVersion": (c_uint32,),
    "JxlEncoderCreate": (c_void_p, c_void_p),
    "JxlEncoderDestroy": (None, c_void_p),
    "JxlEncoderInitBasicInfo": (None, c_void_p),
    "JxlEncoderSetBasicInfo": (c_int, c_void_p, c_void_p),
    "JxlColorEncodingSetToSRGB": (None, c_void_p, c_int),
    "JxlEncoderSetColorEncoding": (c_int, c_void_p, c_void_p),
    "JxlEncoderFrameSettingsCreate": (c_void_p, c_void_p, c_void_p),
    "JxlEncoderSetFrameLossless": (c_int, c_void_p, c_int),
    "JxlEncoderFrameSettingsSetOption": (c_int, c_void_p, c_int, c_int64),
    "JxlEncoderAddImageFrame": (c_int, c_void_p, c_void_p, c_void_p, c_size_t),
    "JxlEncoderCloseInput": (None, c_void_p),
    "JxlEncoderProcessOutput": (c_int, c_void_p, c_void_p, c_void_p),
    "JxlDecoderCreate": (c_void_p, c_void_p),
    "JxlDecoderDestroy": (None, c_void_p),
    "JxlDecoderSubscribeEvents": (c_int, c_void_p, c_int),
    "JxlDecoderSetProgressiveDetail": (c_int, c_void_p, c_int),
    "JxlDecoderSetInput": (c_int, c_void_p, c_char_p, c_size_t),
    "JxlDecoderProcessInput": (c_int, c_void_p),
    "JxlDecoderGetBasicInfo": (c_int, c_void_p, c_void_p),
    "JxlDecoderSetImageOutBuffer": (c_int, c_void_p, c_void_p, c_void_p, c_size_t),
    "JxlDecoderFlushImage": (c_int, c_void_p),
}
"""Result and arguments of each function that is called."""


class Libjxl:
    """The library, loaded.

    Attributes:
        path: of the file.
        version: such as ``0.12.0``.
    """

    def __init__(self, path: str | None = None) -> None:
        """Load the library in ``path``; None: the one that is found.

        Raises:
            MissingDependencyError: there is none, or the file is no libjxl.
        """
        found = path or find_libjxl()
        if found is None:
            raise MissingDependencyError("libjxl is not here: pip install imagecodecs")
        self.path = found
        try:
            self._library = ctypes.CDLL(found)
            for name, (result, *arguments) in _FUNCTIONS.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise MissingDependencyError(f"{found}: cannot be loaded as libjxl") from error
        number = self._library.JxlEncoderVersion()
        self.version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

    def encode(self, pixels: Pixels, *, effort: int = 7, progressive: bool = False) -> bytes:
        """Return a lossless file of ``pixels``, [H, W, 3] sRGB, as ``cjxl -d 0 -e EFFORT`` (``-p``) makes it.

        Progressive: the squeeze transform (``JXL_ENC_FRAME_SETTING_RESPONSIVE``), low frequencies first.

        Raises:
            InputError: other pixels, or libjxl refuses them or the effort.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise InputError("JPEG XL: the pixels must be bytes, [H, W, 3]")
        settings = {_EFFORT: effort} | ({_RESPONSIVE: 1, _QUALITY_PROGRESSIVE_AC: 1} if progressive else {})
        with self._object("Encoder") as encoder:
            return self._encoded(encoder, np.ascontiguousarray(pixels), settings)

    def decode(self, data: bytes) -> Pixels | None:
        """Return the picture, [H, W, 3] sRGB, that a file or a prefix of one shows; None where that is too short for any.

        Raises:
            InputError: the data is damaged or no JPEG XL.
        """
        with self._object("Decoder") as decoder:
            self._library.JxlDecoderSubscribeEvents(decoder, _BASIC_INFO | _FULL_IMAGE | _FRAME_PROGRESSION)
            self._library.JxlDecoderSetProgressiveDetail(decoder, _EVERY_PASS)
            self._library.JxlDecoderSetInput(decoder, data, len(data))
            return self._decoded(decoder)

    def _encoded(self, encoder: int, pixels: Pixels, settings: dict[int, int]) -> bytes:
        library = self._library
        info = _BasicInfo()
        library.JxlEncoderInitBasicInfo(byref(info))
        info.ysize, info.xsize, info.num_color_channels = pixels.shape
        info.bits_per_sample, info.uses_original_profile = 8, 1  # lossless: no conversion to another colour space
        colours = ctypes.create_string_buffer(_COLOUR_ENCODING_BYTES)
        library.JxlColorEncodingSetToSRGB(colours, 0)
        frame = library.JxlEncoderFrameSettingsCreate(encoder, None)
        failed = library.JxlEncoderSetBasicInfo(encoder, byref(info))
        failed |= library.JxlEncoderSetColorEncoding(encoder, colours)
        failed |= library.JxlEncoderSetFrameLossless(frame, 1)
        for setting, value in settings.items():
            failed |= library.JxlEncoderFrameSettingsSetOption(frame, setting, value)
        if failed or library.JxlEncoderAddImageFrame(frame, byref(_RGB), pixels.ctypes.data, pixels.nbytes):
            height, width, _ = pixels.shape
            raise InputError(f"JPEG XL: cannot encode a picture of {width}x{height} at effort {settings[_EFFORT]}")
        library.JxlEncoderCloseInput(encoder)
        return b"".join(self._output(encoder))

    def _output(self, encoder: int) -> Iterator[bytes]:
        chunk = ctypes.create_string_buffer(_OUTPUT_CHUNK)
        status = _ENCODER_MORE_OUTPUT
        while status == _ENCODER_MORE_OUTPUT:
            here, left = c_void_p(ctypes.addressof(chunk)), c_size_t(_OUTPUT_CHUNK)
            status = self._library.JxlEncoderProcessOutput(encoder, byref(here), byref(left))
            yield chunk.raw[: _OUTPUT_CHUNK - left.value]
        if status != _ENCODER_DONE:
            raise InputError("JPEG XL: the encoder failed")

    def _decoded(self, decoder: int) -> Pixels | None:
        pixels: Pixels | None = None
        while True:
            status = self._library.JxlDecoderProcessInput(decoder)
            if status == _NEED_OUTPUT:
                info = _BasicInfo()
                self._library.JxlDecoderGetBasicInfo(decoder, byref(info))
                pixels = np.zeros((info.ysize, info.xsize, 3), np.uint8)
                place = pixels.ctypes.data, pixels.nbytes
                if self._library.JxlDecoderSetImageOutBuffer(decoder, byref(_RGB), *place):
                    raise InputError("JPEG XL: not a picture of 3 channels")
            elif status == _FULL_IMAGE:
                return pixels
            elif status == _NEED_MORE_INPUT:
                return pixels if self._library.JxlDecoderFlushImage(decoder) == 0 else None
            elif status not in (_BASIC_INFO, _FRAME_PROGRESSION):
                raise InputError("JPEG XL: the data is damaged or no JPEG XL")

    @contextmanager
    def _object(self, kind: str) -> Iterator[int]:
        """Yield a new encoder or decoder, which is freed afterwards."""
        made = getattr(self._library, f"Jxl{kind}Create")(None)
        if not made:
            raise MemoryError(f"libjxl cannot make its {kind.lower()}")
        try:
            yield made
        finally:
            getattr(self._library, f"Jxl{kind}Destroy")(made)


def find_libjxl() -> str | None:
    """Return the file of libjxl inside imagecodecs, else what the system calls it, else None."""
    with suppress(ImportError):
        # Its extension knows where the libraries lie that libjxl needs; once they are loaded, libjxl finds them.
        imagecodecs.jpegxl_version()
    try:
        files = importlib.metadata.files("imagecodecs") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if re.match(r"libjxl[-.]", path.name) and path.is_file():
            return str(path)
    return ctypes.util.find_library("jxl")
