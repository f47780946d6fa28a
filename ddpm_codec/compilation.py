"""Functions compiled by numba when they are first called.

What was compiled is kept beside the module, else in a folder of the user, where either can be written; where neither can,
every process compiles anew. numba itself, which takes half a second to load, is loaded by the first function that is made.
"""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
"""Nothing is contracted or reassociated: floating point is that of IEEE 754, operation by operation."""


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers when it is first called; it releases the interpreter.

    A copy that was kept is taken as long as the source of its module, and of those that its functions and numbers come from,
    is what it was.
    """
    import numba

    _watch()
    try:
        made = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # There is no folder where it could be kept.
        return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]
    kept = _cache_of(made)
    if kept is not None and hasattr(kept, "_source_stamp"):
        # numba itself would look at one file alone, and keep code with old parts from others.
        kept._source_stamp = _digest(function.__module__)
    return made  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Compile a function that only :func:`compiled` functions call: as a part of each of them, without a copy of its own."""
    import numba

    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function)  # type: ignore[no-any-return]


def compiles() -> bool:
    """Return whether functions are compiled at all: under ``NUMBA_DISABLE_JIT`` they run as they are, slowly."""
    import numba

    return not numba.config.DISABLE_JIT


def when_compiling(tell: Callable[[bool], None]) -> None:
    """Have ``tell`` called once, before the next function of this package that is compiled and not found among those kept.

    It is called with whether what is compiled will be kept for later runs.
    """
    _TELL[:] = [tell]


_TELL: list[Callable[[bool], None]] = []


@cache
def _watch() -> None:
    """Have numba report each function that it compiles."""
    from numba.core import event

    class Watcher(event.Listener):  # type: ignore[misc]  # numba has no types
        def on_start(self, event: Any) -> None:  # noqa: ANN401 - numba's own
            dispatcher = event.data.get("dispatcher")
            function = getattr(dispatcher, "py_func", None)
            if _TELL and _root(getattr(function, "__module__", None)) == _root(__name__):
                _TELL.pop()(_cache_of(dispatcher) is not None)

        def on_end(self, event: Any) -> None:  # noqa: ANN401 - as above
            pass

    event.register("numba:compile", Watcher())


def _cache_of(dispatcher: object) -> Any:  # noqa: ANN401 - numba's own
    """Return the index of what is kept of a function; None where nothing is."""
    return getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)


def _root(module: object) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


@cache
def _digest(name: str) -> str:
    """Return a digest of the source of a module, and of those of its package that what it names is from."""
    found: dict[str, str] = {}
    _collect(name, found)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _collect(name: str, found: dict[str, str]) -> None:
    module = sys.modules[name]
    try:
        source = Path(module.__file__ or "").read_bytes()
    except OSError:
        source = b""
    numbers = [(key, repr(value)) for key, value in sorted(vars(module).items()) if isinstance(value, int | float)]
    found[name] = hashlib.sha256(source + repr(numbers).encode()).hexdigest()
    for value in list(vars(module).values()):
        # A compiled function says what it was made of, and so does an intrinsic.
        part = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value
        owner = getattr(part, "__module__", None)
        if _root(owner) == _root(name) and owner not in found and owner in sys.modules:
            _collect(owner, found)
