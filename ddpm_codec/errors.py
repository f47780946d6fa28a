"""Every error that the toolkit raises on purpose, under one root.

The command line turns a :class:`DdpmCodecError` into one line and exit code 1; anything else is a defect and keeps its
traceback. Each leaf also inherits the builtin that fits, so that library users can catch either.
"""


class DdpmCodecError(Exception):
    """Root of all errors raised on purpose."""


class InputError(DdpmCodecError, ValueError):
    """What the user gave (a picture, a data set, an option) cannot be used."""


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
