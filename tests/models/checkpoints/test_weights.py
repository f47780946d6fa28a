"""Weights of diffusers in half precision and in shards: the library writes them, and what it reads is what we read."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.diffusers import is_diffusers, read_diffusers
from ddpm_codec_cli.main import main

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
KINDS = {True: "safetensors", False: "bin"}
STEM = "diffusion_pytorch_model"

Write = Callable[..., Path]


@pytest.fixture
def write(library: ModuleType, tmp_path: Path) -> Write:
    """Return what lets the library save one random network to a folder, once more each time it is called."""
    torch.manual_seed(3)
    network = library.UNet2DModel(**SMALL)

    def written(half: bool = False, **options: Any) -> Path:  # noqa: ANN401 - as save_pretrained has it
        folder = tmp_path / "toy"
        (copy.deepcopy(network).half() if half else network).save_pretrained(folder, **options)
        library.DDPMScheduler().save_pretrained(folder)
        return folder

    return written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{STEM}*"))


def the_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("layout", ["flat", "pipeline"])
def test_half_precision_alone(write: Write, safe: bool, layout: str) -> None:
    """In the root and below ``unet``; the numbers are those of the full file after rounding to float16."""
    folder = write(half=True)
    expected = read_diffusers(folder).weights
    (folder / f"{STEM}.safetensors").unlink()
    write(half=True, variant="fp16", safe_serialization=safe)
    assert names(folder) == [f"{STEM}.fp16.{KINDS[safe]}"]
    if layout == "pipeline":
        (folder / "unet").mkdir()
        (folder / "scheduler").mkdir()
        for name in ("config.json", *names(folder)):
            (folder / name).rename(folder / "unet" / name)
        (folder / "scheduler_config.json").rename(folder / "scheduler" / "scheduler_config.json")
    assert is_diffusers(folder)
    assert the_same(read_diffusers(folder).weights, expected)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("safe", [True, False])
def test_shards(library: ModuleType, write: Write, safe: bool, variant: str | None) -> None:
    folder = write(half=variant is not None)
    expected = read_diffusers(folder).weights
    (folder / f"{STEM}.safetensors").unlink()
    write(half=variant is not None, variant=variant, safe_serialization=safe, max_shard_size="100KB")
    assert len(names(folder)) > 3
    assert sum(name.endswith(".json") for name in names(folder)) == 1
    assert the_same(read_diffusers(folder).weights, expected)
    assert library.UNet2DModel.from_pretrained(folder, variant=variant, use_safetensors=safe).config.sample_size == 16


def test_full_precision_comes_first(write: Write) -> None:
    """Before the half, in whatever form; a single file before shards."""
    folder = write(max_shard_size="100KB")
    full = read_diffusers(folder).weights
    write(half=True, variant="fp16")
    # The library leaves the shards of another variant alone.
    assert f"{STEM}.fp16.safetensors" in names(folder)
    assert f"{STEM}.safetensors.index.json" in names(folder)
    assert the_same(read_diffusers(folder).weights, full)
    (folder / f"{STEM}.safetensors.index.json").unlink()
    halves = read_diffusers(folder).weights
    assert halves.keys() == full.keys()
    assert not the_same(halves, full)
    write(safe_serialization=False)
    assert the_same(read_diffusers(folder).weights, full)


def test_other_variants_are_other_weights(write: Write) -> None:
    folder = write(variant="non_ema")
    with pytest.raises(ModelError, match=rf"{STEM}\.safetensors: cannot read the weights"):
        read_diffusers(folder)


def test_shards_that_are_links_as_in_a_cache(write: Write, tmp_path: Path) -> None:
    folder = write(max_shard_size="100KB")
    expected = read_diffusers(folder).weights
    (tmp_path / "blobs").mkdir()
    for name in names(folder):
        (folder / name).rename(tmp_path / "blobs" / name)
        (folder / name).symlink_to(tmp_path / "blobs" / name)
    assert the_same(read_diffusers(folder).weights, expected)


def shard_with(folder: Path, key: str) -> Path:
    """Return the shard that the index names for ``key``."""
    index = json.loads((folder / f"{STEM}.safetensors.index.json").read_text())
    return folder / index["weight_map"][key]


def other_shard(folder: Path, key: str) -> Path:
    return next(path for path in sorted(folder.glob("*-of-*.safetensors")) if path != shard_with(folder, key))


def remap(folder: Path, target: object) -> None:
    index = folder / f"{STEM}.safetensors.index.json"
    values = json.loads(index.read_text())
    index.write_text(json.dumps(values | {"weight_map": values["weight_map"] | {"conv_in.weight": target}}))


def lose_a_shard(folder: Path) -> None:
    shard_with(folder, "conv_in.weight").unlink()


def cut_a_shard(folder: Path) -> None:
    path = shard_with(folder, "conv_in.weight")
    path.write_bytes(path.read_bytes()[:-9])


def move(folder: Path, *, keep: bool) -> None:
    path, other = shard_with(folder, "conv_in.weight"), other_shard(folder, "conv_in.weight")
    tensors = load_file(path)
    value = tensors["conv_in.weight"] if keep else tensors.pop("conv_in.weight")
    save_file(tensors, path)
    if keep:
        save_file(load_file(other) | {"conv_in.weight": value.clone()}, other)


def add_a_tensor(folder: Path) -> None:
    path = shard_with(folder, "conv_in.weight")
    save_file(load_file(path) | {"extra": torch.zeros(2)}, path)


def key_twice(folder: Path) -> None:
    index = folder / f"{STEM}.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace('"conv_in.weight":', '"conv_in.weight": "x.safetensors", "conv_in.weight":'))


def no_map(folder: Path) -> None:
    (folder / f"{STEM}.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {}}')


def cut_the_index(folder: Path) -> None:
    index = folder / f"{STEM}.safetensors.index.json"
    index.write_text(index.read_text()[:-5])


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing shard": (lose_a_shard, r"-of-0000\d\.safetensors: is missing, .*\.index\.json names it"),
    "damaged shard": (cut_a_shard, r"-of-0000\d\.safetensors: damaged weights"),
    "missing tensor": (lambda folder: move(folder, keep=False), r"'conv_in\.weight' is missing"),
    "in two shards": (lambda folder: move(folder, keep=True), r"'conv_in\.weight' is unexpected, .* has it in "),
    "extra tensor": (add_a_tensor, r"'extra' is unexpected, .* does not name it"),
    "key twice": (key_twice, r"index\.json: key 'conv_in\.weight' is there twice"),
    "no map": (no_map, "weight_map is missing or empty"),
    "damaged index": (cut_the_index, "not a JSON configuration"),
    "upwards": (
        lambda folder: remap(folder, "../x.safetensors"),
        r"index\.json: \"\.\./x\.safetensors\" is not the name",
    ),
    "absolute": (
        lambda folder: remap(folder, "/x.safetensors"),
        "is not the name of a .safetensors file in this folder",
    ),
    "backslash": (lambda folder: remap(folder, "..\\x.safetensors"), "is not the name of"),
    "pickle": (lambda folder: remap(folder, "x.bin"), "is not the name of a .safetensors file"),
    "number": (lambda folder: remap(folder, 3), "index.json: 3 is not the name"),
    "empty": (lambda folder: remap(folder, ""), "is not the name of"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_shards_are_one_line(write: Write, kind: str) -> None:
    folder = write(max_shard_size="100KB")
    damage, cause = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ModelError, match=cause) as caught:
        read_diffusers(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_the_command_line_opens_them(write: Write, tiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(half=True, variant="fp16", max_shard_size="100KB")
    words = ["bpd", str(tiles), "--model", str(folder), "--limit", "1", "--steps", "4", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1
    lose_a_shard_of = next(folder.glob("*-00001-of-*"))
    lose_a_shard_of.unlink()
    assert main(words) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert f"{lose_a_shard_of.name}: is missing" in captured.err
