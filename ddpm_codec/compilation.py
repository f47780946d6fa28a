"""Functions compiled by numba when they are first called."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers; it releases the interpreter, and what was compiled is kept where that can be.

    Nothing is contracted or reassociated: floating point is that of IEEE 754, operation by operation.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        # There is no folder where it could be kept.
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def compiles() -> bool:
    """Return whether functions are compiled at all: under ``NUMBA_DISABLE_JIT`` they run as they are, slowly."""
    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]  # set while numba is imported
