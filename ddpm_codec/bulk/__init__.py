"""Sets larger than one machine: coding and bounds by many workers on Ray. Needs the extra ``cluster``."""

from typing import TYPE_CHECKING, Any

from ddpm_codec.bulk.decode import DecodeReport, bulk_decode
from ddpm_codec.bulk.encode import BulkOptions, BulkReport, bulk_encode
from ddpm_codec.bulk.engine import Cluster
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.verify import VerifyReport, bulk_verify

if TYPE_CHECKING:
    from ddpm_codec.bulk.bound import BoundOptions, BulkBound, bulk_bpd

__all__ = [
    "BoundOptions",
    "BulkBound",
    "BulkOptions",
    "BulkReport",
    "Cluster",
    "DecodeReport",
    "Progress",
    "Standing",
    "VerifyReport",
    "bulk_bpd",
    "bulk_decode",
    "bulk_encode",
    "bulk_verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any kind
    """Import what needs torch when it is asked for: coding by the fallback, and the driver, do without."""
    if name in ("BoundOptions", "BulkBound", "bulk_bpd"):
        from ddpm_codec.bulk import bound

        return getattr(bound, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
