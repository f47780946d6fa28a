"""Frozen models: one file, the same bytes for the same model, refused where it does not fit."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ddpm_codec.errors import ModelError
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.header import KEY, read_metadata
from ddpm_codec.models.model_file import load_model, model_bytes
from ddpm_codec.nn.codec_net import macs_per_pixel

ONE_LINE = r"\A[^\n]+\Z"


def rewritten(content: bytes, change: dict[str, Any]) -> bytes:
    """Replace entries of the metadata; None drops one."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY]) | change
    kept = {key: value for key, value in metadata.items() if value is not None}
    return save(load(content), {KEY: json.dumps(kept)})


def test_round_trip(frozen: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    path.write_bytes(model_bytes(frozen))
    read = load_model(path)
    for field in dataclasses.fields(FrozenModel):
        found, expected = getattr(read, field.name), getattr(frozen, field.name)
        if field.name == "weights":
            assert found.keys() == expected.keys()
            for key, value in found.items():
                assert value.dtype == (torch.float16 if value.ndim == 4 else torch.float32)
                torch.testing.assert_close(value.float(), expected[key], rtol=1e-3, atol=1e-6)
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
        else:
            assert found == expected
    assert model_bytes(read) == path.read_bytes()


def test_the_same_model_has_the_same_name(frozen: FrozenModel) -> None:
    first = hashlib.sha256(model_bytes(frozen)).hexdigest()
    turned = {key: frozen.weights[key] for key in reversed(frozen.weights)}
    turned = {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in turned.items()
    }
    same = dataclasses.replace(frozen, weights=turned, sigmas=dict(reversed(frozen.sigmas.items())))
    assert hashlib.sha256(model_bytes(same)).hexdigest() == first
    changes: list[dict[str, Any]] = [{"tile": 72}, {"prior_mean": frozen.prior_mean + 1e-9}, {"name": "other"}]
    for change in changes:
        assert hashlib.sha256(model_bytes(dataclasses.replace(frozen, **change))).hexdigest() != first


def test_the_header_says_what_there_is(frozen: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    path.write_bytes(model_bytes(frozen))
    metadata = read_metadata(path)
    denoiser = frozen.denoiser(torch.device("cpu"))
    assert metadata["parameters"] == sum(parameter.numel() for parameter in denoiser.parameters())
    assert metadata["macs_per_pixel"] == macs_per_pixel(frozen.config)


def test_the_denoiser_predicts_as_the_weights_say(frozen: FrozenModel, denoiser: torch.nn.Module) -> None:
    built = frozen.denoiser(torch.device("cpu"))
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
    x_t, log_snr = torch.randn(2, 3, 16, 16), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(built(x_t, log_snr).x0_mean, denoiser(x_t, log_snr).x0_mean, rtol=1e-4, atol=1e-5)


def test_chains(frozen: FrozenModel) -> None:
    assert frozen.chain_sigmas() == frozen.chain_sigmas(2, 0) == frozen.sigmas[0, 2]
    with pytest.raises(ModelError, match=r"model toy has no chain of 9 steps; it has 1 to 3"):
        frozen.chain_sigmas(9)


def test_weights_that_do_not_fit(frozen: FrozenModel) -> None:
    weights = frozen.weights
    for bad in (
        {key: value for key, value in weights.items() if key != "net.stem.conv.bias"},
        weights | {"net.stem.conv.bias": torch.zeros(5)},
        weights | {"net.extra": torch.zeros(5)},
    ):
        with pytest.raises(
            ModelError, match=r"\Amodel toy: weights do not match the network \([^\n]*net\.\w+[^\n]*\)\Z"
        ):
            dataclasses.replace(frozen, weights=bad).denoiser(torch.device("cpu"))
    wide = dataclasses.replace(frozen.config, width=-3)
    with pytest.raises(ModelError, match=ONE_LINE):
        dataclasses.replace(frozen, config=wide).denoiser(torch.device("cpu"))


def test_cut_or_foreign_files_are_one_line(frozen: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    content = model_bytes(frozen)
    header = 8 + int.from_bytes(content[:8], "little")
    deep = b"[" * 100_000
    for bad in (
        *(content[:length] for length in (0, 4, 8, 100, header - 1, header, len(content) - 1)),
        content + b"x",
        b"\xff" * 64,
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"null",
        (5).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc\xfb",
        len(deep).to_bytes(8, "little") + deep,
        save({"a": torch.zeros(1)}),
        save({"a": torch.zeros(1)}, {KEY: "[]"}),
        save({"a": torch.zeros(1)}, {KEY: "{"}),
        save({"a": torch.zeros(1)}, {KEY: '{"format": 3}'}),
    ):
        path.write_bytes(bad)
        with pytest.raises(ModelError, match=r"\A[^\n]*toy\.safetensors: [^\n]+\Z"):
            load_model(path)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ModelError, match=r"cannot read the model"):
            load_model(missing)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 4},
        {"name": None},
        {"config": {"nonsense": 1}},
        {"config": 3},
        {"sigmas": {"x": [1.0, 2.0]}},
        {"sigmas": {"0:2": [1.0, 2.0]}},
        {"sigmas": {"0:2": [0.1, 0.3, 0.2]}},
        {"sigmas": {"0:2": [0.0, 0.1, 0.2]}},
        {"sigmas": {"0:2": [0.1, 0.2, float("nan")]}},
        {"sigmas": {"0:2": ["a", "b", "c"]}},
        {"sigmas": {}},
        {"sigmas": {"2": [0.1, 0.2, 0.3]}},
        {"sigmas": {"1:2": [0.1, 0.2, 0.3]}},
        {"default_steps": 9},
        {"default_crossing": 1},
        {"progressive_steps": 9},
        {"progressive_crossing": 1},
        {"crossings": [3.2]},
    ],
)
def test_metadata_that_makes_no_sense(change: dict[str, Any], frozen: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    path.write_bytes(rewritten(model_bytes(frozen), change))
    with pytest.raises(ModelError, match=r"\A[^\n]*toy\.safetensors: [^\n]+\Z"):
        load_model(path)


@pytest.mark.parametrize("name", ["prior_mean", "prior_variance", "class_mse", "grid_log_snr"])
def test_shapes_that_differ(name: str, frozen: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    change: dict[str, Any] = {name: np.zeros(3)}
    path.write_bytes(model_bytes(dataclasses.replace(frozen, **change)))
    with pytest.raises(ModelError, match="shapes of its prior and calibration do not match"):
        load_model(path)
