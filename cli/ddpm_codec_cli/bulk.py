"""``ddpm-codec bulk``: sets larger than one machine, coded and checked by many workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError, LeftOutError, Untaken
from ddpm_codec_cli import options
from ddpm_codec_cli.group import LazyCommand, LazyGroup
from ddpm_codec_cli.output import echo, print_facts, print_json, print_note, print_table, printable

if TYPE_CHECKING:
    from ddpm_codec.bulk import Cluster, Standing

SHOWN = 10
COMMANDS = {
    "encode": LazyCommand("ddpm_codec_cli.bulk:encode", "Encode a set of pictures into shards; goes on where it was."),
    "decode": LazyCommand(
        "ddpm_codec_cli.bulk:decode", "Decode shards into picture files or tars; goes on where it was."
    ),
    "bpd": LazyCommand("ddpm_codec_cli.bulk:bpd", "Bound the bits/dim of a model over a set, as `bpd` does."),
    "verify": LazyCommand("ddpm_codec_cli.bulk:verify", "Decode every shard and compare it with the manifest."),
}
SOURCE_HELP = (
    "SRC is a folder, a picture, a pattern such as 'photos/*/*.png', a tar of pictures (webdataset) or a pattern of such "
    "tars: a path, or an address that fsspec knows, such as s3://bucket/folder."
)
ENCODE_LABELS = {
    "pictures": "pictures",
    "failed": "pictures that failed",
    "shards": "shards",
    "kept_shards": "  finished before",
    "pixels": "pixels",
    "file_bytes": "file bytes",
    "file_bpd": "file bits/dim (including headers)",
    "fallback_pictures": "pictures coded by the fallback",
    "seconds": "seconds",
    "workers": "workers",
    "device": "device",
}
DECODE_LABELS = {
    "shards": "shards",
    "kept_shards": "  decoded before",
    "pictures": "pictures written",
    "seconds": "seconds",
    "workers": "workers",
    "device": "device",
}
VERIFY_LABELS = {
    "shards": "shards",
    "pictures": "pictures that are as the manifest says",
    "failures": "pictures that the manifest names as failed",
    "seconds": "seconds",
    "workers": "workers",
    "device": "device",
}
Command = Callable[..., Any]


@click.group(cls=LazyGroup, lazy=COMMANDS)
def bulk() -> None:
    """Code sets larger than one process or one machine, on Ray (pip install 'ddpm-codec[cluster]')."""


def _on_cluster(command: Command) -> Command:
    """Add the options that say where the work runs."""
    address = options.text(
        "--address",
        "local: workers on this machine, for this run; auto: the Ray cluster that this machine belongs to; ray://HOST:PORT: "
        "another one.",
        metavar="local|auto|ray://...",
        default="local",
    )
    workers = options.whole_number("--workers", "Workers.  [default: one a core, or one a GPU]")
    for decorate in (address, workers, options.device_option, options.json_option):
        command = decorate(command)
    return command


def _place(name: str) -> Callable[[Command], Command]:
    return click.argument(name.lower(), metavar=name, type=options.NotEmpty(data=True))


@click.command(epilog=SOURCE_HELP)
@_place("SRC")
@_place("DST")
@options.whole_number("--shard-pixels", "Pixels per shard at most.  [default: 16777216]")
@options.whole_number("--shard-images", "Pictures per shard, instead; headers are not read before the start then.")
@options.model_option
@options.steps_option
@options.tile_option
@options.whole_number(
    "--block-pixels",
    "Pixels per block of a shard, the unit of damage and of random access.",
    default=DEFAULT_BLOCK_PIXELS,
)
@options.switch("--first-frame", "Encode the first frame of pictures that have several.")
@options.switch("--strip", "Leave out all metadata.")
@options.switch("--verify", "Decode every shard and compare it before it appears.")
@click.option(
    "--strict/--keep-going",
    default=False,
    help="Refuse an SRC with files that are not pictures, or leave these out.  [default: --keep-going]",
)
@_on_cluster
@click.pass_context
def encode(
    ctx: click.Context,
    /,
    src: str,
    dst: str,
    address: str,
    workers: int | None,
    device: str,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - fields of BulkOptions
) -> None:
    """Encode a set of pictures into shards, .ddpm archives of some minutes of work each.

    Writes DST/shard-000000.ddpm and so on, a sidecar each, the plan, and at the end report.html and manifest.parquet: one row
    a picture, and one a picture that failed, with its reason. The same command goes on after an interruption of any kind, and
    codes no finished shard again. A picture that fails stops no other; the exit code is 1 then.
    """
    from ddpm_codec.bulk import BulkOptions, bulk_encode

    try:
        how = BulkOptions(**values)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    try:
        with progress_bar() as progress:
            report = bulk_encode(src, dst, how, _cluster(address, workers, device), progress=progress)
    except LeftOutError as error:
        _print_untaken("left out", error.left_out)
        raise
    if as_json:
        print_json(report.to_json())
    else:
        facts = report.to_json()
        hidden = {key: facts[key] or None for key in ("failed", "kept_shards", "fallback_pictures", "workers")}
        print_facts(facts | hidden, ENCODE_LABELS)
    _print_untaken("left out", report.left_out, note=True)
    for note in report.notes[:SHOWN]:
        print_note(note)
    _print_untaken("failed", report.failures, total=report.failed)
    ctx.exit(1 if report.failed else 0)


@click.command()
@_place("SRC")
@_place("DST")
@options.choice("--to", ("files", "tar"), "Picture files, or one webdataset tar a shard.", default="files")
@options.coded_model_option
@_on_cluster
@click.pass_context
def decode(
    ctx: click.Context,
    /,
    src: str,
    dst: str,
    to: str,
    model: str | None,
    address: str,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Decode what `bulk encode` wrote to SRC into lossless picture files in DST, or one tar a shard.

    A picture keeps its name, with the extension png, or tiff or npy where png does not hold it. The same command goes on
    after an interruption; where it has finished, or something else lies, it writes nothing.
    """
    from ddpm_codec.bulk import bulk_decode

    with progress_bar() as progress:
        cluster = _cluster(address, workers, device)
        report = bulk_decode(src, dst, cluster, kind=to, model=model, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        facts = report.to_json()
        print_facts(facts | {key: facts[key] or None for key in ("kept_shards", "workers")}, DECODE_LABELS)
    for note in report.notes[:SHOWN]:
        print_note(note)
    _print_untaken("failed", report.failed)
    ctx.exit(1 if report.failed else 0)


@click.command()
@_place("SRC")
@options.coded_model_option
@_on_cluster
@click.pass_context
def verify(
    ctx: click.Context, /, src: str, model: str | None, address: str, workers: int | None, device: str, as_json: bool
) -> None:
    """Check what `bulk encode` wrote to SRC: every picture is in the manifest once, and every shard decodes to its pixels.

    The exit code is 1 if anything is wrong.
    """
    from ddpm_codec.bulk import bulk_verify

    with progress_bar() as progress:
        report = bulk_verify(src, _cluster(address, workers, device), model=model, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        print_facts(report.to_json() | {"failures": report.failures or None}, VERIFY_LABELS)
    _print_untaken("wrong", report.wrong)
    ctx.exit(1 if report.wrong else 0)


@click.command(epilog=SOURCE_HELP)
@_place("SRC")
@options.model_option
@options.bound_options
@options.text(
    "--keep", "Folder for finished parts, so that the same command goes on after an interruption.", metavar="DIR"
)
@_on_cluster
@click.pass_context
def bpd(
    ctx: click.Context,
    /,
    src: str,
    keep: str | None,
    address: str,
    workers: int | None,
    device: str,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - fields of BoundOptions
) -> None:
    """Bound the bits/dim of a model over a set, term by term, with the standard error.

    The figures are those of `bpd` on the same files, whatever the number of workers: the noise of an image depends on --seed
    and on its place in the set alone. An image that cannot be used stops no other; the exit code is 1 then.
    """
    from ddpm_codec.bulk import BoundOptions, bulk_bpd
    from ddpm_codec_cli.bpd import LABELS

    with progress_bar() as progress:
        cluster = _cluster(address, workers, device)
        found = bulk_bpd(src, BoundOptions(**values), cluster, keep=keep, progress=progress)
    facts = found.to_json()
    if as_json:
        print_json(facts)
    else:
        labels = LABELS | {"seconds": "seconds, of all workers", "wall_seconds": "seconds", "workers": "workers"}
        print_facts(facts, labels)
        print_table(["step", "bits/dim"], found.report.step_rows())
    _print_untaken("left out", found.left_out, note=True)
    for change, number in sorted(found.changed.items()):
        print_note(f"{change}: {number:,} image{'s' if number > 1 else ''}")
    _print_untaken("failed", found.failures)
    ctx.exit(1 if found.failures else 0)


def _cluster(address: str, workers: int | None, device: str) -> "Cluster":
    from ddpm_codec.bulk import Cluster

    return Cluster(address, workers, device)


def _print_untaken(word: str, found: Sequence[Untaken], *, total: int | None = None, note: bool = False) -> None:
    """Print a line for each of the first, and one about the others."""
    where = " (the manifest names all)" if total is not None else " (--json names all)"
    lines = [f"{word}: {one}" for one in found[:SHOWN]]
    more = (len(found) if total is None else total) - len(lines)
    if more > 0:
        lines.append(f"{word}: {more:,} more{where}")
    for line in lines:
        if note:
            print_note(line)
        else:
            echo(f"ddpm-codec: {printable(line)}", err=True)


@contextmanager
def progress_bar() -> "Iterator[Callable[[Standing], None]]":
    """Give a ``progress`` that draws a bar on standard error, where that is a terminal."""
    import sys
    import time

    from tqdm import tqdm

    started = time.monotonic()
    with tqdm(desc="starting", unit="picture", unit_scale=True, leave=False, file=sys.stderr, disable=None) as bar:

        def progress(standing: "Standing") -> None:
            bar.total = standing.total
            # Until then pictures are listed, and Ray starts, which takes some seconds.
            if standing.pictures or standing.dims:
                bar.set_description_str("", refresh=False)
            if standing.dims:
                rate = standing.dims / 1e6 / max(time.monotonic() - started, 1e-3)
                facts = f"{rate:.2f} MB/s"
                if standing.coded_dims:
                    facts += f", {8 * standing.coded_bytes / standing.coded_dims:.3f} bits/dim"
                bar.set_postfix_str(facts, refresh=False)
            bar.update(standing.pictures - bar.n)

        yield progress
