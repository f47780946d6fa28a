"""Sets larger than one machine: coding and bounds by many workers on Ray. Needs the extra ``cluster``."""

from ddpm_codec.bulk.decode import DecodeReport, bulk_decode
from ddpm_codec.bulk.encode import BulkOptions, BulkReport, bulk_encode
from ddpm_codec.bulk.engine import Cluster
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.verify import VerifyReport, bulk_verify

__all__ = [
    "BulkOptions",
    "BulkReport",
    "Cluster",
    "DecodeReport",
    "Progress",
    "Standing",
    "VerifyReport",
    "bulk_decode",
    "bulk_encode",
    "bulk_verify",
]
