"""The frame of the command line: help, version, exit codes, one line for an error, and a light start."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import click
import pytest
import torch

from ddpm_codec import __version__
from ddpm_codec.errors import DdpmCodecError, FormatError, OutputExistsError
from ddpm_codec.workers import Workers
from ddpm_codec_cli import group, options
from ddpm_codec_cli.bulk import COMMANDS as BULK
from ddpm_codec_cli.group import COMMANDS, LazyCommand, cli
from ddpm_codec_cli.main import main
from ddpm_codec_cli.output import (
    format_value,
    print_facts,
    print_json,
    print_table,
    printable,
)

HEAVY = ("torch", "numba", "numpy", "scipy", "PIL", "constriction", "tqdm")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run ``ddpm-codec info x`` with a command that raises what it is given."""

    def run(error: BaseException) -> int:
        @click.command()
        @click.argument("file")
        def broken(file: str) -> None:
            raise error

        monkeypatch.setattr(group, "_broken", broken, raising=False)
        monkeypatch.setitem(cli._lazy, "info", LazyCommand("ddpm_codec_cli.group:_broken", ""))
        return main(["info", "x"])

    return run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and entry.summary[:20] in shown for name, entry in COMMANDS.items())


ALL_COMMANDS = [*COMMANDS, *(f"bulk {name}" for name in BULK)]


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert f"Usage: ddpm-codec {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in ALL_COMMANDS if name != "bulk"])
def test_every_command_speaks_json(name: str) -> None:
    command: click.Command | None = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    assert "--json" in {word for parameter in command.params for word in parameter.opts}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["enocde"], ["encode"], ["encode", "a.png"], ["info", "--nonsense", "a"]])
def test_a_wrong_command_line_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: ddpm-codec" in captured.err


@pytest.mark.parametrize("leaf", [DdpmCodecError, FormatError, OutputExistsError])
def test_an_error_is_one_line_and_exit_1(
    leaf: type[DdpmCodecError], failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(leaf("evil\nname\x1b[31m.ddpm: damaged")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "ddpm-codec: error: evil\\nname\\x1b[31m.ddpm: damaged\n"


def test_an_interruption_is_one_line_and_exit_130(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == "ddpm-codec: error: interrupted"


def test_a_defect_keeps_its_traceback(failing: Callable[[BaseException], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_closed_pipe_is_quiet() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "ddpm_codec_cli", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 1


def test_help_loads_nothing_heavy() -> None:
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    script = (
        "import json, sys; from ddpm_codec_cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    code = main(words)\n"
        f"    loaded = sorted({{*{HEAVY!r}}} & {{*sys.modules}})\n"
        "    if code or loaded: sys.exit(f'{words}: exit code {code}, loads {loaded}')\n"
    )
    done = python("-c", script, json.dumps(lines))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: ddpm-codec") == len(lines) - 1


def test_threads_are_asked_for_until_the_command_ends() -> None:
    before, seen = torch.get_num_threads(), []

    @click.command()
    @options.threads_option
    def command(threads: int | None) -> None:
        options.limit_threads(threads)
        seen.append((Workers().count, torch.get_num_threads()))

    with patch("ddpm_codec.workers.usable_cores", lambda: 7):
        try:
            for words in (["--threads", "3"], []):
                command.main(words, standalone_mode=False)
                torch.set_num_threads(before)
        finally:
            torch.set_num_threads(before)
    assert seen == [(3, 3), (7, before)]


@pytest.mark.parametrize("name", ["encode", "decode", "bpd", "rd", "progressive", "sample"])
def test_commands_that_run_a_network_take_threads(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "--threads" in capsys.readouterr().out


def test_rd_has_threads_in_one_process_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rd", str(tmp_path), "-o", str(tmp_path / "out"), "--workers", "2", "--threads", "2"]
    assert main(words) == 2
    assert "--threads is for one process" in capsys.readouterr().err


def test_runs_as_a_module() -> None:
    assert python("-m", "ddpm_codec_cli", "--version").stdout.strip().endswith(__version__)


def test_train_has_an_option_for_every_key_of_its_configuration() -> None:
    import dataclasses

    from ddpm_codec.training.config import TrainConfig
    from ddpm_codec_cli.train import CONFIG_OPTIONS

    kinds = {field.name: type(field.default) for field in dataclasses.fields(TrainConfig)}
    offered = {key: kind for key, (kind, _) in CONFIG_OPTIONS.items()}
    assert offered | {"data": tuple, "output": str, "fork_from": str} == kinds


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"file": "a\nb", "net_bpd": 3.5})
    assert capsys.readouterr().out == '{"file": "a\\nb", "net_bpd": 3.5}\n'


def test_facts_are_aligned_and_leave_out_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"a": 12345, "b": None, "c": 0.5}, {"a": "first", "b": "second", "c": "the third", "d": "fourth"})
    assert capsys.readouterr().out == "first      12,345\nthe third  0.5000\n"


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "bytes"], [["a", 5], ["long", 12345]])
    assert capsys.readouterr().out == "name   bytes\na          5\nlong  12,345\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (1000, "1,000"),
        (0.25, "0.2500"),
        ([1, 2], "1 2"),
        ("\udcff", "\\udcff"),
        ("é", "é"),
    ],
)
def test_values_as_people_read_them(value: object, shown: str) -> None:
    assert format_value(value) == shown


def test_names_cannot_reach_the_terminal() -> None:
    assert printable("a\x07\u202eb\n") == "a\\x07\\u202eb\\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [("models",), ("models", "--json")])
def test_an_output_that_cannot_be_written_is_one_line(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ddpm_codec_cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("ddpm-codec: error: standard output cannot be written")
    assert done.stderr.count("\n") == 1
