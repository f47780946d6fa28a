"""A model with a pixel decoder: its file, its chains above every crossing, and that the denoiser is not asked at level 0."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ddpm_codec.codecs.session import Model
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.errors import ModelError
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.header import KEY, read_metadata
from ddpm_codec.models.model_file import load_model, model_bytes
from ddpm_codec.models.registry import describe
from ddpm_codec.nn.codec_net import macs_per_pixel, parameter_count
from ddpm_codec.nn.pixel_decoder import decoder_macs_per_pixel
from tests.toy_exact import LONGEST, NOISE, TOY_CROSSINGS, toy_exact, write_toy_exact

CPU = torch.device("cpu")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_exact(tmp_path_factory.mktemp("toy"))


def same(one: object, other: object) -> bool:
    """Return whether two trees of dataclasses, dictionaries, sequences and arrays hold the same numbers."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, np.asarray(other))
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and same(vars(one), vars(other))
    return one == other


def test_round_trip(file: Path) -> None:
    read, model = load_model(file), toy_exact()
    for field in dataclasses.fields(FrozenModel):
        found, expected = getattr(read, field.name), getattr(model, field.name)
        if field.name in ("sigmas", "rows"):
            found, expected = sorted(found.items()), sorted(expected.items())
        assert same(found, expected), field.name
    assert model_bytes(read) == file.read_bytes()


def test_json_has_chains_by_crossing_and_steps(file: Path) -> None:
    metadata = read_metadata(file)
    keys = {f"{crossing}:{steps}" for crossing in range(2) for steps in range(1, LONGEST + 1)}
    assert metadata["sigmas"].keys() == metadata["rows"].keys() == keys
    assert len(metadata["sigmas"]["1:3"]) == len(metadata["rows"]["1:3"]) + 1 == 4
    assert metadata["crossings"] == list(TOY_CROSSINGS)


def test_chains_begin_at_their_crossing() -> None:
    model = toy_exact()
    for crossing, grey_levels in enumerate(TOY_CROSSINGS):
        for steps in range(1, LONGEST + 1):
            sigmas = model.chain_sigmas(steps, crossing)
            assert len(sigmas) == steps + 1
            assert model.has_chain(steps, crossing)
            assert sigmas[0] * 127.5 == pytest.approx(grey_levels, rel=1e-12)
    assert model.chain_sigmas() == model.chain_sigmas(2, 0)
    assert not model.has_chain(LONGEST + 1, 1)
    assert not model.has_chain(1, 2)
    with pytest.raises(ModelError, match=r"\Amodel toy-exact has no chain of 9 steps; it has 1 to 8\Z"):
        model.chain_sigmas(9, 1)
    with pytest.raises(ModelError, match=r"\Amodel toy-exact has no crossing 2; it has 2 crossings\Z"):
        model.chain_sigmas(1, 2)


@pytest.mark.parametrize("schedule", ["dp", "even"])
def test_the_bound_is_over_the_same_chain(schedule: Any) -> None:  # noqa: ANN401 - a Schedule
    model = toy_exact()
    for crossing in (0, 1):
        chain = model.bound_setting(4, schedule, None, crossing).chain
        assert chain.log_snr[0] == pytest.approx(log_snr_at(TOY_CROSSINGS[crossing]), rel=1e-12)
        levels = -2.0 * np.log(NOISE / 127.5)
        assert all(np.isclose(levels, level, atol=1e-12).any() for level in chain.log_snr[1:])
        if schedule == "dp":
            np.testing.assert_allclose(
                np.exp(-0.5 * np.array(chain.log_snr)), model.chain_sigmas(4, crossing), rtol=1e-9
            )


def test_an_exact_denoiser_above_a_crossing_is_not_asked_at_level_0() -> None:
    model = toy_exact()
    picture = np.random.default_rng(0).integers(-4000, 4000, (1, 3, 16, 16))
    denoiser = model.integer_denoiser(3, 1, CPU, "")
    for ask in (denoiser.pixels, denoiser.coefficients):
        with pytest.raises(KeyError):
            ask(picture, 0)
    # Level 1 of the higher crossing is level 4 of a chain above the lower one: the same tables, the same numbers.
    first = model.rows[1, 3][0]
    lower = model.integer_denoiser(LONGEST, 0, CPU, "")
    assert model.rows[0, LONGEST][first] == first
    np.testing.assert_array_equal(denoiser.coefficients(picture, 1).mean, lower.coefficients(picture, first + 1).mean)


def test_sessions_of_every_crossing(file: Path) -> None:
    model = Model.open(file, device="cpu")
    default, other = model.session(), model.session(3, 1)
    assert (default.steps, default.crossing, other.steps, other.crossing) == (2, 0, 3, 1)
    assert model.session(3, 1) is other
    assert model.session(3, 0) is not other
    assert other.chain.sigmas[0] == pytest.approx(TOY_CROSSINGS[1], rel=1e-12)
    with pytest.raises(ModelError, match="has no chain of 9 steps"):
        model.session(9, 1)


def test_sizes_and_work(file: Path) -> None:
    info, model = describe(file), toy_exact()
    assert model.decoder is not None
    trunk, masked = decoder_macs_per_pixel(model.decoder.config)
    assert info.decoder_macs_per_pixel == trunk + masked
    assert info.macs_per_pixel_total == 2 * macs_per_pixel(model.config) + trunk + masked
    assert info.parameters > parameter_count(model.config)
    assert (info.crossings, info.crossing, info.progressive_crossing) == (TOY_CROSSINGS, 3.2, 8.2)
    assert (info.steps, info.progressive_steps, info.bytes) == (2, 2, file.stat().st_size)


def rewritten(content: bytes, change: Change, drop: str = "") -> bytes:
    """Change the metadata of a model file, and leave out the tensors whose names begin so."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY])
    change(metadata)
    tensors = {key: value for key, value in load(content).items() if not drop or not key.startswith(drop)}
    return save(tensors, {KEY: json.dumps(metadata)})


CHANGES: dict[str, tuple[Change, str]] = {
    "no crossings": (lambda m: m.update(crossings=[]), ""),
    "one crossing less": (lambda m: m.update(crossings=[3.2]), ""),
    "crossings that fall": (lambda m: m.update(crossings=[8.2, 3.2]), ""),
    "a crossing that is no number": (lambda m: m.update(crossings=[3.2, math.nan]), ""),
    "a crossing where no chain begins": (lambda m: m.update(crossings=[3.2, 8.3]), ""),
    "crossings of letters": (lambda m: m.update(crossings="ab"), ""),
    "no sizes": (lambda m: m.pop("decoder_config"), ""),
    "other sizes": (lambda m: m["decoder_config"].update(channels=5), ""),
    "an even reach": (lambda m: m["decoder_config"].update(reach=4), ""),
    "no such default": (lambda m: m.update(default_crossing=2), ""),
    "no such progressive crossing": (lambda m: m.update(progressive_crossing=-1), ""),
    "no such progressive chain": (lambda m: m.update(progressive_steps=LONGEST + 1), ""),
    "a row at level 0": (lambda m: m["rows"].update({"0:2": [0, 1, 2]}), ""),
    "a row beyond the tables": (lambda m: m["rows"].update({"1:1": [len(NOISE)]}), ""),
    "a chain of another crossing": (lambda m: m["sigmas"].update({"1:1": m["sigmas"]["0:1"]}), ""),
    "a tensor less": (lambda m: None, "decoder.heads.scale_base"),
    "no decoder": (lambda m: None, "decoder."),
    "no denoiser": (lambda m: None, "exact."),
}


def test_an_unchanged_file_is_the_model(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(rewritten(file.read_bytes(), lambda m: None))
    assert same(load_model(path).decoder, toy_exact().decoder)


@pytest.mark.parametrize("what", CHANGES)
def test_a_decoder_and_its_crossings_belong_together(what: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(rewritten(file.read_bytes(), *CHANGES[what]))
    with pytest.raises(ModelError, match=r"\A[^\n]*m\.safetensors: [^\n]+\Z"):
        load_model(path)


def test_files_of_pre_releases_say_so(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    path.write_bytes(rewritten(file.read_bytes(), lambda m: m.update(format=2)))
    with pytest.raises(
        ModelError, match=r"\A[^\n]*old\.safetensors: made by a pre-release of ddpm-codec \(model format 2\)[^\n]*\Z"
    ):
        load_model(path)


def test_a_file_made_before_a_layer_existed_says_which(file: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.safetensors"
    old.write_bytes(rewritten(file.read_bytes(), lambda m: None, "decoder.step_stem."))
    with pytest.raises(
        ModelError, match=r"\A[^\n]*old\.safetensors: lacks step_stem\.[a-z.]+: made by a pre-release\Z"
    ):
        load_model(old)
