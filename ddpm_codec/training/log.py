"""The log of a run: JSON lines, and TensorBoard where it is installed."""

import json
import math
from pathlib import Path
from typing import TextIO

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import OutputError


class RunLog:
    """Writes ``log.jsonl``, and TensorBoard events where it is installed.

    Args:
        folder: of the run; an existing log is continued.
        step: of the checkpoint that the run resumes from; later log lines are dropped, because they will come again.

    Raises:
        OutputError: the log cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        path = folder / "log.jsonl"
        try:
            _keep_until(path, step)
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: cannot write the log ({error.strerror})") from error
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """Append one line of figures at ``step``.

        Raises:
            OutputError: the disk is full.
        """
        try:
            # JSON has no infinity, which early bounds can be.
            written = {key: value if math.isfinite(value) else None for key, value in values.items()}
            self._file.write(json.dumps({"step": step} | written) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._file.name}: cannot write the log ({error.strerror})") from error
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _keep_until(path: Path, step: int) -> None:
    """Drop the lines after ``step``, and one that a kill cut short."""
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _step(line) <= step]
        if kept != lines:
            with new_file(path, overwrite=True) as file:
                file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
