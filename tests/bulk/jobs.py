"""Jobs for tests of the engine; workers import them by this name."""

import os
import time
from pathlib import Path

from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.errors import FormatError, ModelError, OutputError


class Echo:
    """Does what a task says.

    Args:
        folder: where it leaves a file for every attempt.
    """

    def __init__(self, folder: str) -> None:
        if folder == "no model":
            raise ModelError("no such model")
        self._folder = Path(folder)

    def run(self, task: str, said: Said) -> tuple[str, int, str | None]:
        """Return the task, the process and its number of threads; or fail, or die."""
        number = len(list(self._folder.glob(f"{task}.*")))
        (self._folder / f"{task}.{number}").touch()
        said(Tally(1, 10))
        if task == "dies" or (task == "dies once" and not number):
            os.kill(os.getpid(), 9)
        if task == "damaged":
            raise FormatError("is damaged")
        if task == "defect":
            raise ZeroDivisionError("by zero\nand more")
        if task == "disk full":
            raise OutputError("No space left on device")
        time.sleep(0.05)
        return task, os.getpid(), os.environ.get("OMP_NUM_THREADS")
