"""A click group that imports a command when it runs, and not to list it."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a command lives, and what ``--help`` of its group says about it.

    Attributes:
        target: ``module:attribute`` of a :class:`click.Command`.
        summary: one line of help, written here so that listing imports nothing.
    """

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group over a table of commands; each is imported at its first use.

    Importing a command may load numpy or torch (seconds), so ``--help`` and the other commands must not.

    Args:
        lazy: commands by name, in the order in which ``--help`` lists them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None where there is none of that name."""
        entry = self._lazy.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._lazy.items()])
