"""Every error that the toolkit raises on purpose, under one root.

The command line turns a :class:`DdpmCodecError` into one line and exit code 1; anything else is a defect and keeps its
traceback. Each leaf also inherits the builtin that fits, so that library users can catch either.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Untaken(NamedTuple):
    """A file that was not taken, and why.

    Attributes:
        path: the file, as the user would name it.
        reason: what is said of it, without the path.
    """

    path: str
    reason: str

    @classmethod
    def of(cls, path: str, error: Exception) -> "Untaken":
        """Return the file that an error is about, whose line may begin with the path."""
        return cls(path, str(error).removeprefix(f"{path}: "))

    def __str__(self) -> str:
        """Return both as one line."""
        return f"{self.path}: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """Return both by name."""
        return self._asdict()


class DdpmCodecError(Exception):
    """Root of all errors raised on purpose."""


class InputError(DdpmCodecError, ValueError):
    """What the user gave (a picture, a data set, an option) cannot be used."""


class RefusedInputsError(InputError):
    """Some of the given pictures cannot be used, so that none was.

    Attributes:
        refused: all of them, with the reasons.
        left_out: files of the given folders that are not pictures, with the reasons.
    """

    def __init__(self, refused: Sequence[Untaken], given: int, left_out: Sequence[Untaken] = ()) -> None:
        self.refused, self.left_out = tuple(refused), tuple(left_out)
        if len(self.refused) == 1:
            super().__init__(str(self.refused[0]))
        else:
            super().__init__(f"{len(self.refused)} of {given} inputs are refused; nothing was written")


class LeftOutError(InputError):
    """The given folders have files that would be left out, and none may be.

    Attributes:
        left_out: all of them, with the reasons.
        refused: empty.
    """

    def __init__(self, left_out: Sequence[Untaken]) -> None:
        self.left_out, self.refused = tuple(left_out), ()
        if len(self.left_out) == 1:
            super().__init__(f"{self.left_out[0]}; nothing may be left out")
        else:
            super().__init__(f"{len(self.left_out)} files would be left out; nothing was written")


class FormatError(DdpmCodecError, ValueError):
    """A ``.ddpm`` file is damaged, cut short, or not one at all."""


class ModelError(DdpmCodecError, ValueError):
    """A model file or checkpoint is unknown, damaged, or does not fit."""


class EnvironmentMismatchError(DdpmCodecError, RuntimeError):
    """A file coded in floating point meets an environment that may not reproduce its numbers."""


class OutputExistsError(DdpmCodecError, FileExistsError):
    """The output is there already and overwriting was not asked for."""


class OutputError(DdpmCodecError, OSError):
    """The output could not be written (disk full, no permission)."""


class MissingDependencyError(DdpmCodecError, ImportError):
    """An optional package (an extra of the distribution) is needed and not installed."""


def one_line(error: Exception) -> str:
    """Return the first line of another library's error, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
