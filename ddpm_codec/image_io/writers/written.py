"""What a writer of a format returns."""

from dataclasses import dataclass, field

from ddpm_codec.picture import MetadataKey


@dataclass(frozen=True)
class Written:
    """A picture file.

    Attributes:
        file: its bytes.
        metadata: what must be found when it is read again.
        notes: a line for each piece of metadata that is not, or not quite, and why.
    """

    file: bytes
    metadata: dict[MetadataKey, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
