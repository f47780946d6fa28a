"""Pictures in and out of ordinary image files, exactly: pixel values, mode, palette, transparency and metadata."""

from ddpm_codec.image_io.exact import picture_from_image, to_image
from ddpm_codec.image_io.folders import IMAGE_EXTENSIONS, UNREADABLE_EXTENSIONS
from ddpm_codec.image_io.listing import Listing, list_inputs
from ddpm_codec.image_io.reading import DEFAULT_MAX_PIXELS, check_header, read_picture, read_picture_from
from ddpm_codec.image_io.writing import default_extension, format_for, write_picture
from ddpm_codec.picture import Palette, Picture, PictureInfo

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_EXTENSIONS",
    "UNREADABLE_EXTENSIONS",
    "Listing",
    "Palette",
    "Picture",
    "PictureInfo",
    "check_header",
    "default_extension",
    "format_for",
    "list_inputs",
    "picture_from_image",
    "read_picture",
    "read_picture_from",
    "to_image",
    "write_picture",
]
