"""The record of a run: JSON lines always, TensorBoard where it is installed."""

import json
from pathlib import Path
from typing import TextIO

from ddpm_codec.errors import OutputError


class RunLog:
    """JSONL always, TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file: TextIO = (folder / "log.jsonl").open("a")
        except OSError as error:
            raise OutputError(f"{folder}: cannot write the log ({error})") from error
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]

    def write(self, step: int, **values: float) -> None:
        """Append one line of figures at ``step``."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()  # type: ignore[no-untyped-call]
