"""Pictures in and out of ordinary image files, exactly: pixel values, mode, palette, transparency and metadata."""

from ddpm_codec.image_io.exact import to_image
from ddpm_codec.image_io.folders import IMAGE_EXTENSIONS, UNREADABLE_EXTENSIONS
from ddpm_codec.image_io.images import picture_from_image
from ddpm_codec.image_io.listing import Listing, list_inputs
from ddpm_codec.image_io.reading import DEFAULT_MAX_PIXELS, ImageSource, check_header, read_picture, read_stored
from ddpm_codec.image_io.stored import ReadPicture
from ddpm_codec.image_io.writing import default_extension, format_for, write_picture
from ddpm_codec.picture import Palette, Picture, PictureInfo

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_EXTENSIONS",
    "UNREADABLE_EXTENSIONS",
    "ImageSource",
    "Listing",
    "Palette",
    "Picture",
    "PictureInfo",
    "ReadPicture",
    "check_header",
    "default_extension",
    "format_for",
    "list_inputs",
    "picture_from_image",
    "read_picture",
    "read_stored",
    "to_image",
    "write_picture",
]
