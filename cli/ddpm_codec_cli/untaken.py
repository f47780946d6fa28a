"""Says on standard error what was not taken of the inputs."""

from collections.abc import Sequence

from ddpm_codec.errors import Untaken
from ddpm_codec_cli.output import echo, print_note, printable

LEFT_OUT_SHOWN = 10


def print_left_out(left_out: Sequence[Untaken]) -> None:
    """Print a note for each of the first files that were left out, and one about the others."""
    for one in left_out[:LEFT_OUT_SHOWN]:
        print_note(f"left out: {one}")
    if len(left_out) > LEFT_OUT_SHOWN:
        print_note(f"left out: {len(left_out) - LEFT_OUT_SHOWN:,} more (--json lists them all)")


def print_refused(refused: Sequence[Untaken]) -> None:
    """Print a line for each input that was refused."""
    for one in refused:
        echo(f"ddpm-codec: refused: {printable(str(one))}", err=True)
