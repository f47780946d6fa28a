"""Picture files to ``.ddpm`` files and back, as used by the command line: paths, overwriting and reports.

Importing this module does not load torch.
"""

from ddpm_codec.files.decoding import decode_file, describe_file
from ddpm_codec.files.encoding import encode, encode_files, encode_progressive_files
from ddpm_codec.files.options import EncodeOptions
from ddpm_codec.files.reports import (
    DecodeReport,
    EncodeReport,
    ProgressiveReport,
    ProgressiveReports,
    progressive_summary,
)
from ddpm_codec.files.streams import StreamPicture

__all__ = [
    "DecodeReport",
    "EncodeOptions",
    "EncodeReport",
    "ProgressiveReport",
    "ProgressiveReports",
    "StreamPicture",
    "decode_file",
    "describe_file",
    "encode",
    "encode_files",
    "encode_progressive_files",
    "progressive_summary",
]
