"""Arithmetic of its own in a process of somebody else: what the caller has set neither changes results nor is changed.

numpy's error state, torch's default device, inference mode and number of threads belong to a thread, and are set inside
:func:`isolated` for the thread that calls. What belongs to the whole process (default dtype, random state, warnings, flags of
backends) is never set; the library names the dtypes and generators that it uses.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.forked import forked_with_torch

T = TypeVar("T")

_ASKED_FOR: ContextVar[int | None] = ContextVar("threads", default=None)
"""Threads that the call around asks for."""


def threads_asked_for() -> int | None:
    """Return the threads of the innermost :func:`isolated` that names a number; None: the caller leaves it open."""
    return _ASKED_FOR.get()


def ask_for_threads(threads: int) -> None:
    """Ask for so many threads from here on in this thread, which is the only one of a process that somebody else started."""
    _ASKED_FOR.set(threads)


def checked_threads(threads: int | None) -> int | None:
    """Return a number of threads, or None.

    Raises:
        InputError: not a positive number.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads = {threads!r}: must be a positive integer")
    return threads


@contextmanager
def isolated(threads: int | None = None) -> Iterator[None]:
    """Give the block, in the thread that runs it, numpy and torch as they are in a new process. Also a decorator.

    Args:
        threads: CPU threads inside the block: those of torch, and :class:`~ddpm_codec.workers.Workers`; None: as many as
            before. In a forked process torch has one.

    Raises:
        InputError: not a positive number.
    """
    checked_threads(threads)
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"), ExitStack() as stack:
        if threads is not None:
            token = _ASKED_FOR.set(threads)
            stack.callback(_ASKED_FOR.reset, token)
        # Where torch is not loaded yet, nobody has set anything.
        if threads is not None or "torch" in sys.modules:
            import torch

            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
            if not torch.is_grad_enabled():
                stack.enter_context(torch.enable_grad())
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            stack.enter_context(torch_threads(threads))
        yield


@contextmanager
def torch_threads(threads: int | None, *, exactly: bool = False) -> Iterator[None]:
    """Let torch use so many CPU threads inside the block, for what this thread computes; None leaves its own choice.

    ``torch.set_num_threads`` also sets the number for every thread that uses torch for the first time later, so OpenMP and
    MKL are told directly. Where that is not possible (Windows, builds of torch without MKL), torch is told, and the number
    for later threads is put back at once: a thread that uses torch for the first time in between keeps the other number.

    Args:
        threads: how many.
        exactly: no other number will do. Otherwise, a forked process uses one.

    Raises:
        InputError: ``exactly`` in a forked process, which has only one.
    """
    if threads is None or (forked_with_torch() and not exactly):
        threads = 1 if forked_with_torch() else None
    if threads is None:
        yield
        return
    if threads > 1 and forked_with_torch():
        raise InputError(
            f"needs {threads} threads of torch, which do not survive a fork; start processes by spawn or forkserver"
        )
    import torch

    # Asked first, because torch sets the number of a thread when it is first used.
    before = torch.get_num_threads()
    if before == threads and not exactly:
        yield
        return
    undo = _set_locally(threads, before) or _set_and_restore_default(threads, before)
    try:
        yield
    finally:
        undo()


def _set_locally(threads: int, before: int) -> Callable[[], object] | None:
    """Set the number of this thread alone; return what undoes it, or None where it cannot be done."""
    import torch

    library = _torch_library()
    if library is None:
        return None
    library.omp_set_num_threads(threads)
    mkl_before = library.MKL_Set_Num_Threads_Local(threads)

    def undo() -> None:
        library.omp_set_num_threads(before)
        library.MKL_Set_Num_Threads_Local(mkl_before)

    # Otherwise MKL may use fewer, and round differently; this is for the process, as torch.set_num_threads does it too.
    library.MKL_Set_Dynamic(0)
    if (torch.get_num_threads(), library.MKL_Get_Max_Threads()) == (threads, threads):
        return undo
    undo()
    return None


_FUNCTIONS = ("omp_set_num_threads", "MKL_Set_Num_Threads_Local", "MKL_Get_Max_Threads", "MKL_Set_Dynamic")
"""Of C: what OpenMP and MKL spell in small letters alone is for Fortran, and takes pointers."""


@cache
def _torch_library() -> ctypes.CDLL | None:
    """Return the library of torch that has the functions of OpenMP and MKL; None: there is none, or not in this form."""
    import torch

    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        if not (folder / name).exists():
            continue
        try:
            library = ctypes.CDLL(str(folder / name))
            for function in _FUNCTIONS:
                getattr(library, function)
        except (OSError, AttributeError):
            return None
        return library
    return None


_DEFAULT_LOCK = threading.Lock()


def _set_and_restore_default(threads: int, before: int) -> Callable[[], None]:
    """Set the number of this thread by torch itself, and that of later threads back at once."""
    import torch

    def change(number: int) -> None:
        with _DEFAULT_LOCK:
            default = _in_a_new_thread(torch.get_num_threads)
            torch.set_num_threads(number)
            _in_a_new_thread(lambda: torch.set_num_threads(default))

    change(threads)
    return lambda: change(before)


def _in_a_new_thread(call: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]
