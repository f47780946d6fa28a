"""Image sets for training and for bounds: folders, zips, arrays, the CIFAR-10 folder, sheets."""

from ddpm_codec.image_sets.image_set import Header, ImageSet, Opened, Pixels, concatenate, from_array
from ddpm_codec.image_sets.opening import open_images
from ddpm_codec.image_sets.saying import SHOWN, Change, change_lines, left_out_lines, listed, read_all, refusal

__all__ = [
    "SHOWN",
    "Change",
    "Header",
    "ImageSet",
    "Opened",
    "Pixels",
    "change_lines",
    "concatenate",
    "from_array",
    "left_out_lines",
    "listed",
    "open_images",
    "read_all",
    "refusal",
]
