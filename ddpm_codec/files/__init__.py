"""Picture files to ``.ddpm`` files and back, as used by the command line: paths, overwriting and reports.

Importing this module does not load torch.
"""

from ddpm_codec.files.decoding import decode_file, describe_file
from ddpm_codec.files.encoding import EncodeOptions, encode, encode_files, encode_progressive_files
from ddpm_codec.files.reports import DecodeReport, EncodeReport, ProgressiveReport, progressive_summary

__all__ = [
    "DecodeReport",
    "EncodeOptions",
    "EncodeReport",
    "ProgressiveReport",
    "decode_file",
    "describe_file",
    "encode",
    "encode_files",
    "encode_progressive_files",
    "progressive_summary",
]
