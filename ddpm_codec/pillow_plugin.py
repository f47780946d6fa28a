"""``.ddpm`` files in Pillow. Importing this module registers the format.

Example::

    import ddpm_codec.pillow_plugin
    from PIL import Image

    with Image.open("photo.ddpm") as image:  # size, mode and metadata; no model is loaded
        image.load()  # decodes
    image.save("copy.ddpm")  # lossless
    image.save("small.ddpm", progressive=True, bpp=1.0)
    image.save("set.ddpm", save_all=True, append_images=others)

**Opening.** The pictures of an archive are frames (``n_frames``, ``seek``, ``tell``; ``names`` has their names), each
with its own size, mode and ``info``. ``Image.open`` raises ``UnidentifiedImageError`` where a file is cut short or its
table damaged, or anything of a file of one picture, ``load`` raises ``OSError`` where a frame cannot be decoded. A
progressive file that is cut short opens; ``load`` raises ``OSError``, as for other formats, unless
``ImageFile.LOAD_TRUNCATED_IMAGES = True`` asks for the picture as far as the file goes. A file that was written with
``bpp`` or ``psnr`` is whole, and loads although it is lossy. Files of a model that does not ship need :func:`register`
with ``model``.

**Saving.** Options: ``model``, ``steps``, ``tile``, ``device``, ``threads``, and for single pictures ``progressive``,
``bpp``, ``psnr``, all as in :func:`ddpm_codec.encode`. ``save_all`` writes an archive, with ``names`` for its
pictures. ICC, EXIF, XMP, comment and density in ``info`` are kept; ``icc_profile``, ``exif``, ``xmp``, ``comment`` and
``dpi`` replace them, and an empty value leaves them out. An option that cannot be used raises ``ValueError``.

imageio reads and writes the format through Pillow; to write to bytes, name the plugin (``plugin="pillow"``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Final, cast

from PIL import Image, ImageFile, ImagePalette, UnidentifiedImageError

from ddpm_codec.api.archive import Archive, open_archive
from ddpm_codec.api.coding import encode, encode_archive
from ddpm_codec.api.facts import info
from ddpm_codec.container.layout import SIGNATURE
from ddpm_codec.errors import DdpmCodecError, InputError, ModelError
from ddpm_codec.image_io.metadata.pillow_info import metadata_to_info
from ddpm_codec.picture import MODES, PictureInfo

FORMAT: Final = "DDPM"
MIME: Final = "image/x-ddpm"
EXTENSION: Final = ".ddpm"

_EXIF_PREFIX: Final = b"Exif\0\0"
_NO_LIMIT: Final = 1 << 62
"""Pillow has a limit of its own, a frame: ``Image.MAX_IMAGE_PIXELS``."""

_INFO_KEYS: Final = ("icc_profile", "exif", "xmp", "comment", "dpi")
_SHARED_OPTIONS: Final = ("model", "steps", "tile", "device", "threads")
_SINGLE_OPTIONS: Final = ("progressive", "bpp", "psnr")


@dataclass
class _Decoding:
    """How frames are decoded, see :func:`register`."""

    model: str | None = None
    device: str = "auto"
    threads: int | None = None


_decoding = _Decoding()


class DdpmImageFile(ImageFile.ImageFile):
    """An opened ``.ddpm`` file, see the module.

    Attributes:
        n_frames: pictures in the file.
        is_animated: whether they are several.
        names: what they are called.
    """

    format = FORMAT
    format_description = "ddpm-codec picture or archive"

    n_frames: int = 1
    is_animated: bool = False
    names: tuple[str, ...] = ()
    # A copy made by pickling has its pixels and no file: for it, frame 0 is loaded.
    _archive: Archive | None = None
    _frame: int = 0
    _loaded: int = 0

    def _open(self) -> None:
        self._loaded = -1
        self.tile = []
        try:
            self._archive = self._open_archive(None)
        except InputError as error:
            raise OSError(str(error)) from error
        except DdpmCodecError as error:
            # A SyntaxError, the other choice, would lose the reason: Image.open has its own text for it.
            raise UnidentifiedImageError(str(error)) from error
        self._infos = tuple(self._archive.infos)
        self.names = tuple(self._archive.names)
        self.n_frames = len(self._infos)
        self.is_animated = self.n_frames > 1
        if not any(_is_shown(info) for info in self._infos):
            raise UnidentifiedImageError(_unshown(self._infos[0]))
        if not _is_shown(self._infos[0]):
            self._frame = next(index for index, info in enumerate(self._infos) if _is_shown(info))
        self._describe()

    def seek(self, frame: int) -> None:
        """Go to a frame; its pixels are decoded when it is loaded.

        Raises:
            EOFError: there is no such frame.
            OSError: Pillow has no mode for its samples, such as 16-bit colour.
        """
        if not self._seek_check(frame):
            return
        if not _is_shown(self._infos[frame]):
            raise OSError(_unshown(self._infos[frame]))
        # Image.open has looked at the first frame only.
        Image._decompression_bomb_check(self._infos[frame].size)
        self._frame = frame
        self._describe()

    def tell(self) -> int:
        """Return the number of the frame."""
        return self._frame

    def load(self) -> Any:  # noqa: ANN401 - Pillow's own class of it has no public name
        """Decode the frame, if that has not been done.

        Raises:
            OSError: it is damaged or cut short, or its model is not here.
            ValueError: the file is closed.
        """
        if self._loaded != self._frame:
            image = self._decode()
            self.im, self.palette, self.readonly = image.im, image.palette, 0
            self._loaded = self._frame
            if self.n_frames == 1:
                self._finish()
        return Image.Image.load(self)

    def __exit__(self, *args: object) -> None:
        self._close_archive()
        super().__exit__(*args)

    def _describe(self) -> None:
        """Take over what the table says of the frame."""
        frame = self._infos[self._frame]
        self._mode, self._size = frame.mode, frame.size
        self.palette = _palette(frame)
        self.info = _pillow_info(frame)
        self._exif = None

    def _decode(self) -> Image.Image:
        if self._archive is None:
            raise ValueError("Operation on closed image")
        try:
            self._check_whole()
            return self._frame_image(self._archive)
        except DdpmCodecError as error:
            raise OSError(str(error)) from error

    def _frame_image(self, archive: Archive) -> Image.Image:
        """Return the frame, with the model that it names, or the one that :func:`register` was given."""
        try:
            return archive.pil(self.names[self._frame])
        except ModelError:
            if _decoding.model is None:
                raise
        again = self._open_archive(_decoding.model)
        self._close_archive()
        self._archive = again
        return again.pil(self.names[self._frame])

    def _check_whole(self) -> None:
        """Refuse a progressive file that is cut short, unless Pillow is told to take what there is.

        Raises:
            OSError: it is cut.
        """
        if self.n_frames > 1 or ImageFile.LOAD_TRUNCATED_IMAGES:
            return
        if info(self._rewound()).cut:
            raise OSError("image file is truncated (ImageFile.LOAD_TRUNCATED_IMAGES = True shows what there is of it)")

    def _open_archive(self, model: str | None) -> Archive:
        return open_archive(
            self._rewound(), model=model, device=_decoding.device, threads=_decoding.threads, max_pixels=_NO_LIMIT
        )

    def _rewound(self) -> BinaryIO:
        if self.fp is None:
            raise ValueError("Operation on closed image")
        self.fp.seek(0)
        return cast("BinaryIO", self.fp)

    def _finish(self) -> None:
        """Let go of the file: there is nothing more in it."""
        self._close_archive()
        if self._exclusive_fp and self.fp is not None:
            self.fp.close()
        self.fp = None

    def _close_archive(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _close_fp(self) -> None:
        self._close_archive()
        super()._close_fp()


def _is_shown(picture: PictureInfo) -> bool:
    return picture.layout.in_pillow and picture.white is None


def _unshown(picture: PictureInfo) -> str:
    white = "" if picture.white is None else f" that are white at {picture.white}"
    return f"{picture.name}: Pillow has no mode for samples of mode {picture.mode}{white}"


def _pillow_info(picture: PictureInfo) -> dict[str | tuple[int, int], Any]:
    """Return what Pillow keeps in ``info``; EXIF with the prefix that its other formats give and expect."""
    found: dict[str | tuple[int, int], Any] = {}
    for key, value in metadata_to_info(picture.metadata).items():
        found[key] = value
    if "exif" in found:
        found["exif"] = _EXIF_PREFIX + found["exif"]
    if picture.transparency is not None:
        found["transparency"] = picture.transparency
    return found


def _palette(picture: PictureInfo) -> ImagePalette.ImagePalette | None:
    if picture.palette is None:
        return None
    return ImagePalette.ImagePalette("RGB" if picture.palette.channels == 3 else "RGBA", picture.palette.colours)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(SIGNATURE)


def _save(image: Image.Image, file: IO[bytes], _filename: str | bytes) -> None:
    options = _options(image, (*_SHARED_OPTIONS, *_SINGLE_OPTIONS))
    file.write(encode(_with_metadata(image, image), **options))


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    images = [image, *image.encoderinfo.get("append_images", ())]
    count = sum(getattr(each, "n_frames", 1) for each in images)
    if count == 1 and "names" not in image.encoderinfo:
        _save(image, file, filename)
        return
    single = [name for name in _SINGLE_OPTIONS if image.encoderinfo.get(name)]
    if single:
        raise InputError(f"{single[0]}: belongs to files of one picture, not to an archive of {count}")
    names = list(image.encoderinfo.get("names", [f"{index:06d}.png" for index in range(count)]))
    if len(names) != count:
        raise InputError(f"names: has {len(names)} of them for {count} pictures")
    pairs = zip(names, _frames(image, images), strict=True)
    file.write(encode_archive(pairs, **_options(image, _SHARED_OPTIONS)))


def _frames(first: Image.Image, images: list[Image.Image]) -> Iterator[Image.Image]:
    """Yield every frame of every image, and leave the images where they were."""
    for image in images:
        count, at = getattr(image, "n_frames", 1), image.tell()
        try:
            for number in range(count):
                image.seek(number)
                frame = _with_metadata(image, first)
                # The next seek changes the image, which whoever takes the frames may still hold.
                yield frame.copy() if frame is image and count > 1 else frame
        finally:
            image.seek(at)


def _options(image: Image.Image, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: image.encoderinfo[name] for name in names if image.encoderinfo.get(name) is not None}


def _with_metadata(image: Image.Image, first: Image.Image) -> Image.Image:
    """Return the image with the metadata that the options of ``first`` give.

    Raises:
        OSError: its mode cannot be written.
    """
    if image.mode not in MODES:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    given = {key: first.encoderinfo[key] for key in _INFO_KEYS if key in first.encoderinfo}
    if not given:
        return image
    changed = image.copy()
    for key, value in given.items():
        changed.info.pop(key, None)
        if value:
            changed.info[key] = value.tobytes() if isinstance(value, Image.Exif) else value
    return changed


def register(*, model: str | None = None, device: str = "auto", threads: int | None = None) -> None:
    """Make the format known to Pillow; may be called again to change how frames are decoded from then on.

    Args:
        model: name or file of a model for files whose own does not ship; None: those that ship are enough.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: as in :func:`ddpm_codec.decode`.
    """
    _decoding.model, _decoding.device, _decoding.threads = model, device, threads
    Image.register_open(FORMAT, DdpmImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME)


register()
