"""The run behind ``ddpm-codec rd``: pictures are measured in parallel and each is stored at once."""

import importlib.metadata
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ddpm_codec.device import pick_device
from ddpm_codec.errors import DdpmCodecError, InputError
from ddpm_codec.isolation import isolated
from ddpm_codec.models import find_model
from ddpm_codec.models.registry import DEFAULT, model_id
from ddpm_codec.plotting import need_matplotlib
from ddpm_codec.rate_distortion.measure import Task, measure_picture, start_worker
from ddpm_codec.rate_distortion.metrics import METRICS, usable_metrics
from ddpm_codec.rate_distortion.peers import PEERS, usable_peers
from ddpm_codec.rate_distortion.pictures import open_pictures
from ddpm_codec.rate_distortion.report import RdReport
from ddpm_codec.rate_distortion.sources import RECONSTRUCTIONS, Sources, codec_sources
from ddpm_codec.rate_distortion.store import PictureRecord, Store
from ddpm_codec.rate_distortion.versions import peer_versions

PACKAGES: Final = ("ddpm-codec", "pillow", "pillow-jxl-plugin", "pytorch-msssim", "ssimulacra2")
"""A new version of one of these may change results, so versions belong to the settings."""


@isolated()
def run_rd(
    data: str,
    output: Path,
    *,
    peers: Sequence[str] = tuple(PEERS),
    metrics: Sequence[str] = tuple(METRICS),
    limit: int | None = None,
    workers: int = 1,
    model: str = DEFAULT,
    device: str = "auto",
    steps: int | None = None,
    reconstructions: Sequence[str] = RECONSTRUCTIONS,
    crop: int | None = None,
    page_pictures: int = 4,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
    sources: Sources | None = None,
) -> RdReport:
    """Measure rate and distortion of this codec and its peers on the same pictures, and write the results to a folder.

    An interrupted run resumes if it is started again with the same settings.

    Args:
        data: DATA of any kind (see :func:`ddpm_codec.rate_distortion.pictures.open_pictures`).
        output: folder.
        peers: names; those not installed are skipped.
        metrics: names; those not installed are skipped.
        limit: use the first ``limit`` pictures.
        workers: processes, each with one torch thread; 1: this process, with all its threads.
        model: name or file.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K, for a DDPM the number of timesteps used; None: the model's own.
        reconstructions: of our pictures.
        crop: crop pictures to their middle, each side at most ``crop`` pixels.
        page_pictures: number of pictures on the page.
        overwrite: replace results of other settings.
        progress: called with (pictures done, total).
        note: called with one line for whatever is skipped.
        sources: our curves; None: those of the codec itself.

    Raises:
        InputError: DATA or a name is unusable.
        MissingDependencyError: matplotlib is not installed.
        ModelError: the model is unknown or unusable.
        OutputExistsError: the folder holds results of other settings.
        OutputError: it cannot be written.
    """
    need_matplotlib("rd")
    _check_apart(data, output)
    hows = _known_reconstructions(reconstructions)
    used_peers = tuple(peer.name for peer in usable_peers(peers, note))
    used_metrics = usable_metrics(metrics, note)
    pick_device(device)
    settings = _settings(used_peers, used_metrics, model, steps, hows, crop)
    pictures = open_pictures(data, limit=limit, crop=crop, note=note)
    curves = sources if sources is not None else codec_sources()
    store = Store.open(output, settings, overwrite=overwrite)

    def tasks() -> Iterator[Task | PictureRecord]:
        shown = 0
        for picture in pictures:
            if picture is None:
                continue
            crops = shown < page_pictures
            shown += 1
            record = store.load(picture)
            if record is not None and (record.crops or not crops):
                yield record
            else:
                yield Task(picture, store, curves, used_peers, used_metrics, model, device, steps, hows, crops)

    records = _measure_all(tasks(), pictures.count, workers, progress)
    for line in dict.fromkeys(line for record in records for line in record.notes):
        note(line)
    if not records:
        raise InputError(f"{data}: holds no 8-bit RGB picture")
    report = RdReport(
        tuple(records), used_metrics, used_peers, hows, {"data": data, **settings}, tuple(pictures.left_out)
    )
    for line in report.remarks():
        note(line)
    _write(report, store, page_pictures)
    return report


def _write(report: RdReport, store: Store, page_pictures: int) -> None:
    from ddpm_codec.rate_distortion.page import write_page
    from ddpm_codec.rate_distortion.plot import chart_html, plot_curves

    report.write(store.folder)
    plot_curves(report, store.folder)
    write_page(report, chart_html(report), store, page_pictures)


def _measure_all(
    tasks: Iterator[Task | PictureRecord], count: int, workers: int, progress: Callable[[int, int], None] | None
) -> list[PictureRecord]:
    """Return the records in picture order."""
    done: dict[int, PictureRecord] = {}
    measured = _in_this_process(tasks) if workers == 1 else _in_processes(tasks, workers)
    for index, record in measured:
        done[index] = record
        if progress is not None:
            progress(len(done), count)
    return [done[index] for index in sorted(done)]


def _in_this_process(tasks: Iterator[Task | PictureRecord]) -> Iterator[tuple[int, PictureRecord]]:
    for index, task in enumerate(tasks):
        yield index, measure_picture(task) if isinstance(task, Task) else task


def _in_processes(tasks: Iterator[Task | PictureRecord], workers: int) -> Iterator[tuple[int, PictureRecord]]:
    """Measure in processes; pictures are read as needed, at most two per process ahead."""
    context = multiprocessing.get_context("spawn")
    started = context.SimpleQueue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(started,))
    waiting: dict[Future[PictureRecord], int] = {}
    try:
        for index, task in enumerate(tasks):
            if not isinstance(task, Task):
                yield index, task
                continue
            waiting[pool.submit(measure_picture, task)] = index
            if len(waiting) >= 2 * workers:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
    except BrokenProcessPool as error:
        raise DdpmCodecError("a worker process died (out of memory?); run the same command again to resume") from error
    except Exception:
        # The others finish, so that their pictures need not be measured again.
        raise
    except BaseException:
        # What they are at would take minutes, and nobody wants it any more.
        while not started.empty():
            with suppress(ProcessLookupError):
                os.kill(started.get(), signal.SIGTERM)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(waiting: dict[Future[PictureRecord], int]) -> Iterator[tuple[int, PictureRecord]]:
    """Wait for at least one picture."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future.result()


def _settings(
    peers: Sequence[str],
    metrics: Sequence[str],
    model: str,
    steps: int | None,
    reconstructions: Sequence[str],
    crop: int | None,
) -> dict[str, Any]:
    """Return everything besides the pixels that the results depend on."""
    ladders = {name: [[setting.label, setting.options] for setting in PEERS[name].ladder] for name in peers}
    return {
        "model": model,
        "model_id": model_id(find_model(model)),
        "steps": steps,
        "crop": crop,
        "reconstructions": list(reconstructions),
        "metrics": list(metrics),
        "ladders": ladders,
        "versions": {package: _version(package) for package in PACKAGES},
        "libraries": peer_versions(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _known_reconstructions(names: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in RECONSTRUCTIONS]
    if unknown or not names:
        wrong = repr(unknown[0]) if unknown else "''"
        raise InputError(f"reconstruction {wrong}: must be one of {', '.join(RECONSTRUCTIONS)}")
    return tuple(dict.fromkeys(names))


def _check_apart(data: str, output: Path) -> None:
    """Refuse an output that the next run would take for input."""
    folder = Path(data)
    if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{output}: is inside {data}, the folder of pictures to measure")
