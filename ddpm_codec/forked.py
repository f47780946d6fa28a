"""Whether this process was forked from one that had loaded torch.

Threads do not survive a fork. If OpenMP had started any in the parent, a parallel region in the child waits for them for
ever.
"""

import os
import sys


class _State:
    """What is known of this process."""

    with_torch = False


def forked_with_torch() -> bool:
    """Return whether this process was forked while torch was loaded, so that torch has one usable thread here."""
    return _State.with_torch


def _note_torch() -> None:
    _State.with_torch = _State.with_torch or "torch" in sys.modules


def _is_fork_of_multiprocessing() -> bool:
    """Return whether multiprocessing has forked this process, perhaps before this module was imported."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and type(process.current_process()).__name__ == "ForkProcess"


if _is_fork_of_multiprocessing():
    _note_torch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_torch)
