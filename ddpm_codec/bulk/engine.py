"""Runs tasks on Ray: actors with a core each, which load what they need once, and are replaced when they die.

Plain actors and not ray.data: a task is a shard, named and written by whoever codes it, and nothing flows from one stage to
the next that Ray would have to keep in memory.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.errors import DdpmCodecError, InputError, MissingDependencyError, ModelError, OutputError, one_line
from ddpm_codec.workers import usable_cores

T = TypeVar("T")
R = TypeVar("R")
TaskIn = TypeVar("TaskIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)

ATTEMPTS: Final = 3
"""Workers that may die over a task before it is given up."""

_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_LONGEST_FOLDER = 24
_STORE_BYTES = 1 << 27
"""Nothing but small messages goes through the object store."""


class Job(Protocol[TaskIn, ResultOut]):
    """What a worker does."""

    def run(self, task: TaskIn, said: Said) -> ResultOut:
        """Do a task, and tell about it meanwhile."""
        ...


@dataclass(frozen=True)
class Cluster:
    """Where the work runs.

    Attributes:
        address: ``local`` for workers on this machine, which end with the run; ``auto`` for the Ray cluster of this machine;
            ``ray://HOST:PORT`` or ``HOST:PORT`` for another one.
        workers: how many; None: one a GPU where there are GPUs and the model may use them, otherwise one a core.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    address: str = "local"
    workers: int | None = None
    device: str = "auto"


class Failed(NamedTuple):
    """A task that gave no result, and why, in a line.

    Attributes:
        reason: why.
        fatal: the error that it is, where no other task can succeed either: a model that does not load, a full disk.
    """

    reason: str
    fatal: type[DdpmCodecError] | None = None

    def error(self) -> DdpmCodecError:
        """Return it as an error."""
        return (self.fatal or OutputError)(self.reason)


def raise_fatal(result: object) -> None:
    """Raise what a task has instead of a result, where no other task can succeed either."""
    if isinstance(result, Failed) and result.fatal is not None:
        raise result.error()


class _Died(NamedTuple):
    """A worker that died over a task, and what Ray says of it."""

    reason: str


class _Trial(NamedTuple, Generic[T]):
    """A task, its number, and which attempt at it this is."""

    key: int
    task: T
    attempt: int = 1


class Outcome(NamedTuple, Generic[T, R]):
    """What became of a task: its result, or a :class:`Failed`."""

    task: T
    result: R | Failed


@contextmanager
def connected(cluster: Cluster) -> Iterator["Pool"]:
    """Connect to Ray, or start it, and give the workers' pool; everything that was started ends with the block.

    Raises:
        InputError: the cluster cannot be reached, or has no core or GPU.
        MissingDependencyError: Ray is not installed.
    """
    with _own_signals():
        ray = _ray()
    local = cluster.address == "local"
    if ray.is_initialized():
        raise InputError("Ray runs in this process already; shut it down, or start another process")
    with _folder(local=local) as folder:
        try:
            try:
                with _own_signals():
                    _start(ray, cluster, folder)
            except Exception as error:  # connection and start-up errors of many kinds
                raise InputError(f"Ray at {cluster.address}: cannot be reached ({_why_unreached(error)})") from error
            yield Pool(ray, cluster, local=local)
        finally:
            ray.shutdown()


def _why_unreached(error: Exception) -> str:
    """Return why there is no connection; that a token is missing stands in the text of some cause alone."""
    cause: BaseException | None = error
    while cause is not None:
        if "AuthenticationError" in f"{type(cause).__name__} {cause}":
            return "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token has none"
        cause = cause.__cause__
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def _check_somebody_listens(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals that this program has, where Ray puts its own in their place."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if main and handler is not None:
                signal.signal(number, handler)


def _folder(*, local: bool) -> AbstractContextManager[str]:
    """Return a context with a folder for Ray's logs and sockets, which is gone afterwards."""
    if not local:
        return nullcontext("")
    # Paths of sockets must be short.
    place = None if len(tempfile.gettempdir()) <= _LONGEST_FOLDER else "/tmp"
    return tempfile.TemporaryDirectory(prefix="ddpm-ray-", dir=place, ignore_cleanup_errors=True)


def _ray() -> Any:  # noqa: ANN401 - a module
    # Asked when it is imported: no statistics of use are sent.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray warns of what it does by default: to ask for a token, as it should.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("bulk work needs pip install 'ddpm-codec[cluster]'") from error
    return ray


def _start(ray: Any, cluster: Cluster, folder: str) -> None:  # noqa: ANN401 - a module
    """Start Ray on this machine, or connect to a cluster, whose workers run the code of their own installation."""
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    if cluster.address != "local":
        _check_somebody_listens(cluster.address)
        with warnings.catch_warnings():
            # Of a connection that fails, ahead of the error.
            warnings.simplefilter("ignore")
            ray.init(address=cluster.address, **quiet)
        return
    # A logical core for each worker, and some for Ray's own actors.
    cores = (cluster.workers or usable_cores()) + 2
    own = {"include_dashboard": False, "object_store_memory": _STORE_BYTES, "_temp_dir": folder}
    ray.init(address="local", num_cpus=cores, **own, **quiet)


class Pool:
    """Workers on a cluster; see :func:`connected`.

    Attributes:
        device: of each worker.
        size: how many workers there are.
    """

    def __init__(self, ray: Any, cluster: Cluster, *, local: bool) -> None:  # noqa: ANN401 - a module
        self._ray = ray
        has = ray.cluster_resources()
        gpus, cores = int(has.get("GPU", 0)), int(has.get("CPU", 0))
        self.device = "cuda" if cluster.device == "cuda" or (cluster.device == "auto" and gpus) else "cpu"
        if self.device == "cuda" and not gpus:
            raise InputError("device cuda: the cluster has no GPU")
        available = gpus if self.device == "cuda" else (usable_cores() if local else cores)
        self.size = cluster.workers or available
        if self.size < 1 or (self.size > available and not (local and self.device == "cpu")):
            kind = "GPUs" if self.device == "cuda" else "cores"
            hint = "" if local else "; `ray status` shows when its machines are there"
            raise InputError(f"{self.size} workers: the cluster has {available} {kind}{hint}")

    def run(
        self, make: Callable[[], Job[T, R]], tasks: Iterable[T], standing: Callable[[Tally], None]
    ) -> Iterator[Outcome[T, R]]:
        """Give tasks to workers, and yield what became of each as it ends, in no order.

        A task whose worker dies goes to a new one, ATTEMPTS times in all. What no task can succeed after ends the run.

        Args:
            make: makes the job of a worker, in its process; picklable.
            tasks: taken as workers become free.
            standing: told about twice a second what has been done in all, the unfinished tasks included.

        Raises:
            DdpmCodecError: a failure that is fatal, or the loss of the cluster.
        """
        from ray.exceptions import RayError

        try:
            for outcome in _Run(self._ray, self.device, make, standing).outcomes(tasks, self.size):
                raise_fatal(outcome.result)
                yield outcome
        except (ConnectionError, RayError) as error:
            raise OutputError(f"Ray: the cluster was lost ({one_line(error)}); the same command goes on") from error


class _Run:
    """One list of tasks on its way through the workers."""

    def __init__(
        self,
        ray: Any,  # noqa: ANN401 - a module
        device: str,
        make: Callable[[], Job[Any, Any]],
        standing: Callable[[Tally], None],
    ) -> None:
        self._ray, self._make, self._standing = ray, make, standing
        self._gpus = 1 if device == "cuda" else 0
        self._looked, self._some_ended = 0.0, False
        # Where it restarts, what tasks that have ended told it is lost to the progress bar, and to nothing else.
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()

    def outcomes(self, tasks: Iterable[T], workers: int) -> Iterator[Outcome[T, Any]]:
        """Yield what becomes of each task."""
        waiting = (_Trial(key, task) for key, task in enumerate(tasks))
        again: deque[_Trial[T]] = deque()
        idle = list(range(workers))
        actors: dict[int, Any] = {}
        running: dict[Any, tuple[int, _Trial[T]]] = {}
        while True:
            while idle and (trial := again.popleft() if again else next(waiting, None)) is not None:
                number = idle.pop()
                if number not in actors:
                    actors[number] = self._actor()
                running[actors[number].run.remote(trial.key, trial.task)] = number, trial
            if not running:
                break
            done = self._ended_of(list(running))
            for reference in done:
                number, trial = running.pop(reference)
                idle.append(number)
                result = self._result(reference)
                if isinstance(result, _Died):
                    del actors[number]
                    if trial.attempt < ATTEMPTS:
                        again.append(trial._replace(attempt=trial.attempt + 1))
                        continue
                    result = self._given_up(result)
                else:
                    self._some_ended = True
                yield Outcome(trial.task, result)
            self._look()

    def _ended_of(self, running: list[Any]) -> list[Any]:
        """Wait a moment, and return what has ended of what is running."""
        try:
            done, _ = self._ray.wait(running, timeout=_LOOK_SECONDS)
        except SystemError as error:
            # What a signal's handler raises while Ray waits comes out as the cause of this.
            cause: BaseException | None = error
            while cause is not None and isinstance(cause, Exception):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None
        return list(done)

    def _actor(self) -> Any:  # noqa: ANN401 - a handle
        # One core and one thread each: a worker never waits for another.
        return self._ray.remote(num_cpus=1, num_gpus=self._gpus)(Worker).remote(self._make, self._board)

    def _result(self, reference: Any) -> Any:  # noqa: ANN401 - of any task
        """Return a task's result, or how its worker died."""
        from ray.exceptions import RayActorError, RayError

        try:
            return self._ray.get(reference)
        except RayActorError as error:
            return _Died(one_line(error))
        except RayError as error:
            return Failed(one_line(error))

    def _given_up(self, died: "_Died") -> Failed:
        """Return why a task has no result over which workers died; fatal if no worker has ever ended a task."""
        reason = f"its worker died {ATTEMPTS} times ({died.reason}); there may not be enough memory"
        return Failed(reason, None if self._some_ended else OutputError)

    def _look(self) -> None:
        from ray.exceptions import RayError

        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            self._standing(Tally(*self._ray.get(self._board.total.remote(), timeout=_LOOK_SECONDS)))
        except RayError:
            # It comes back; a look at how far the work is can wait.
            return


class Board:
    """Adds up what workers have done; an actor."""

    def __init__(self) -> None:
        self._ended, self._running = Tally(), dict[int, Tally]()

    def tell(self, key: int, done: Tally, ended: bool = False) -> None:
        """Note how far a task is; one that begins again, after its worker died, begins at nothing."""
        if ended:
            self._running.pop(key, None)
            self._ended = self._ended.plus(Tally(*done))
        else:
            self._running[key] = Tally(*done)

    def total(self) -> Tally:
        """Return the sum over all tasks."""
        return Tally(*map(sum, zip(self._ended, *self._running.values(), strict=True)))


class Worker:
    """Does tasks, one after the other; an actor. The job is made at the first one, so that a failure has somebody to tell."""

    def __init__(self, make: Callable[[], Job[Any, Any]], board: Any) -> None:  # noqa: ANN401 - a handle
        self._make, self._board = make, board
        self._job: Job[Any, Any] | None = None
        self._key, self._done, self._told = 0, Tally(), time.monotonic()

    def run(self, key: int, task: Any) -> Any:  # noqa: ANN401 - of any job
        """Return the task's result, or why there is none."""
        self._key, self._done = key, Tally()
        try:
            if self._job is None:
                self._job = self._make()
        except Exception as error:  # whatever keeps a job from starting keeps all of them
            return _fatal(error)
        try:
            result = self._job.run(task, self._say)
        except (ModelError, OutputError) as error:
            return _fatal(error)
        except Exception as error:  # of one task; the others go on
            known = isinstance(error, DdpmCodecError)
            return Failed(str(error) if known else f"{type(error).__name__}: {one_line(error)}")
        finally:
            self._tell(ended=True)
        return result

    def _say(self, done: Tally) -> None:
        self._done = self._done.plus(done)
        if time.monotonic() - self._told > _LOOK_SECONDS:
            self._tell()

    def _tell(self, *, ended: bool = False) -> None:
        self._board.tell.remote(self._key, self._done, ended)
        self._told = time.monotonic()


def _fatal(error: Exception) -> Failed:
    for kind in (InputError, ModelError, OutputError):
        if isinstance(error, kind):
            return Failed(str(error), kind)
    words = str(error) if isinstance(error, DdpmCodecError) else f"{type(error).__name__}: {one_line(error)}"
    return Failed(f"a worker cannot start ({words})", OutputError)


def job(kind: Callable[..., Job[T, R]], *arguments: Any) -> Callable[[], Job[T, R]]:  # noqa: ANN401 - of the job
    """Return what makes a job in a worker's process."""
    return partial(kind, *arguments)
