"""What the documentation names is there: files, links, options of commands, benchmarks; and the Python of the README runs."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

import ddpm_codec
from ddpm_codec_cli.group import cli
from tests.helpers import TINY

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "configs" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GONE = {"models/photo.pt", "models/cifar10.pt", "models/photo_float.pt", "models/cifar10_float.pt"}
"""MODELS.md says of these that they are in the history alone."""

FENCE = "`" * 3


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^{FENCE}{language}\n(.*?)^{FENCE}$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the words of every ``ddpm-codec`` command of a page, in blocks and within lines, without the program."""
    fenced = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(ddpm-codec [a-z]+ [^`]+)`", page.read_text(encoding="utf-8"))
    found = (line.partition(" #")[0] for line in (*fenced, *inline) if line.startswith("ddpm-codec "))
    return [shlex.split(line)[1:] for line in found]


def anchors(page: Path) -> set[str]:
    """Return the fragments that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    Image.open(TINY).save("photo.png")
    image = np.asarray(Image.open(TINY))
    Path("photo.ddpm").write_bytes(ddpm_codec.encode(image))
    Path("set.ddpm").write_bytes(ddpm_codec.encode_archive({"a.png": image, "b.png": image[:9]}))
    progressive = ddpm_codec.encode(image, progressive=True)
    pieces = [progressive[:500], progressive[500:]]
    names: dict[str, Any] = {"first": image, "second": image[:9], "pieces": pieces}
    first_screen, api, plugins = blocks(README, "python")
    exec(first_screen, names)
    assert np.array_equal(names["image"], image)
    exec(api, names)
    assert names["decoder"].lossless
    assert np.array_equal(names["array"], image)
    assert names["picture"].size == (33, 17)
    Path("photo.ddpm").unlink()
    exec(plugins, names)
    assert np.array_equal(ddpm_codec.decode("photo.ddpm"), image)
    names["array"][0, :17, :33] = image
    assert np.array_equal(names["array"][0, :17, :33], image)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_have_options_that_exist(page: Path) -> None:
    for name, *words in commands(page):
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            name = f"{name} {words[0]}"
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, name
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if re.match("--?[a-z]", word)} <= {*known, "--help"}, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_links_and_benchmarks_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "ddpm_codec|cli|tests|benchmarks|examples|models|configs|docs"
    paths = set(re.findall(rf"(?<![\w/.-])(?:{folders})/(?:[\w.-]+/)*[\w*-]+(?:\.[a-z]+)?", text)) - GONE
    assert {path for path in paths if not any(ROOT.glob(path))} == set()
    modules = set(re.findall(r"python -m (benchmarks\.\w+)", text))
    assert {module for module in modules if importlib.util.find_spec(module) is None} == set()
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", text):
        file, _, fragment = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target
