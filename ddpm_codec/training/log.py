"""The log of a run: JSON lines of figures and of images that are left out, and TensorBoard where it is installed."""

import json
import math
from pathlib import Path
from typing import Any, TextIO

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import OutputError, Untaken


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
            self._left_out = _keep_until(path, step)
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
        # JSON has no infinity, which early bounds can be.
        self._append({"step": step} | {key: value if math.isfinite(value) else None for key, value in values.items()})
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)

    def leave_out(self, step: int, refused: Untaken) -> None:
        """Append a line about an image that is not used, unless there is one already.

        Raises:
            OutputError: the disk is full.
        """
        if refused.path in self._left_out:
            return
        self._left_out.add(refused.path)
        self._append({"step": step, "left_out": refused.path, "reason": refused.reason})

    def _append(self, values: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._file.name}: cannot write the log ({error.strerror})") from error

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _keep_until(path: Path, step: int) -> set[str]:
    """Drop the lines after ``step``, and one that a kill cut short; return the images that the others leave out."""
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _step(line) <= step]
    if kept != lines:
        with new_file(path, overwrite=True) as file:
            file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return {str(values["left_out"]) for values in map(json.loads, kept) if "left_out" in values}


def _step(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
