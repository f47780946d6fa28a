"""The file of a pixel decoder: what comes back, what is refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.header import KEY
from ddpm_codec.models.model_file import load_model
from ddpm_codec.models.pixel_decoder_model import (
    PixelDecoderModel,
    load_pixel_decoder,
    pixel_decoder_bytes,
    pixel_decoder_facts,
)
from ddpm_codec.nn.pixel_decoder import DECODERS, PixelDecoder
from tests.golden.regenerate import FLOAT

CONFIG = DECODERS["decoder-tiny"]


@pytest.fixture
def decoder() -> PixelDecoderModel:
    network = PixelDecoder(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return PixelDecoderModel("mine", "for tests", CONFIG, (3.2, 8.2), network.state_dict(), {"steps": 4})


@pytest.fixture
def file(decoder: PixelDecoderModel, tmp_path: Path) -> Path:
    path = tmp_path / "decoder.safetensors"
    path.write_bytes(pixel_decoder_bytes(decoder))
    return path


def test_what_was_saved_comes_back(decoder: PixelDecoderModel, file: Path) -> None:
    found = load_pixel_decoder(file)
    assert (found.name, found.description, found.config) == ("mine", "for tests", CONFIG)
    assert (found.crossings, found.training) == ((3.2, 8.2), {"steps": 4})
    assert pixel_decoder_bytes(found) == file.read_bytes()
    for key, value in decoder.weights.items():
        torch.testing.assert_close(found.weights[key].float(), value, rtol=1e-3, atol=1e-4)
    facts = pixel_decoder_facts(file)
    assert facts["masked_macs_per_pixel"] == 2 * 3 * 24 * 8 + 8 * 8 + 2 * 3 * 64 + 5 * 64 + 12 * 8
    assert facts["parameters"] == sum(parameter.numel() for parameter in PixelDecoder(CONFIG).parameters())
    assert facts["id"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_likelihood_is_the_networks(decoder: PixelDecoderModel, file: Path) -> None:
    found = load_pixel_decoder(file)
    x_0 = torch.randint(0, 256, (2, 3, 16, 16)) / 127.5 - 1.0
    level = torch.full((2,), 7.4)
    z_0 = x_0 + 0.025 * torch.randn(x_0.shape)
    exact, rounded = (
        found.likelihood(torch.device("cpu"), dtype).parameters_given(z_0.double(), level, x_0)[0].log_likelihood(x_0)
        for dtype in ("float32", "bf16")
    )
    own, _ = found.network(torch.device("cpu")).parameters_given(z_0, level, x_0)
    assert torch.equal(exact, own.log_likelihood(x_0))
    assert not torch.equal(rounded, exact)
    assert rounded.mean().item() == pytest.approx(exact.mean().item(), rel=0.02)
    maps = found.likelihood(torch.device("cpu"), "float32").trunk(z_0, level)
    assert maps.mean.dtype == torch.float32
    assert not maps.mean.requires_grad


def test_crossings_are_asked_for_by_name(decoder: PixelDecoderModel) -> None:
    assert decoder.crossing(None) == 3.2
    assert decoder.crossing(8.24) == 8.2
    with pytest.raises(InputError, match=r"crossing 5: pixel decoder mine was trained at 3\.2, 8\.2 grey levels"):
        decoder.crossing(5.0)


def test_decoders_and_denoisers_are_told_apart(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a pixel decoder, not a denoiser"):
        load_model(file)
    with pytest.raises(ModelError, match="is a denoiser, not a pixel decoder; pass it as --model"):
        load_pixel_decoder(FLOAT)
    with pytest.raises(ModelError, match="cannot read the model"):
        load_pixel_decoder(tmp_path / "none")


def changed(file: Path, **values: object) -> bytes:
    """Return the file with other metadata."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY]) | values
    return save(load(content), {KEY: json.dumps(metadata)})


@pytest.mark.parametrize(
    "values",
    [
        {"crossings": []},
        {"crossings": [8.2, 3.2]},
        {"crossings": [-1.0]},
        {"crossings": ["x"]},
        {"crossings": None},
        {"config": {}},
        {"config": None},
        {"config": CONFIG.to_dict() | {"channels": 9}},
        {"config": CONFIG.to_dict() | {"channels": 4096, "reach": 1501}},
        {"config": CONFIG.to_dict() | {"channels": -1}},
        {"training": 3},
    ],
)
def test_metadata_that_do_not_hold_together(values: dict[str, object], file: Path) -> None:
    file.write_bytes(changed(file, **values))
    with pytest.raises(ModelError, match=r"\A[^\n]*decoder\.safetensors[^\n]*\Z"):
        load_pixel_decoder(file)


def test_damaged_files(file: Path) -> None:
    whole = file.read_bytes()
    for content in (b"", whole[:7], whole[:100], whole[:-1], whole + b"x"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=r"\A[^\n]+\Z"):
            load_pixel_decoder(file)
    other = {key: value for key, value in load(whole).items() if "stem" not in key}
    length = int.from_bytes(whole[:8], "little")
    file.write_bytes(save(other, json.loads(whole[8 : 8 + length])["__metadata__"]))
    with pytest.raises(ModelError, match="weights do not match"):
        load_pixel_decoder(file)


def test_weights_beyond_half_precision(decoder: PixelDecoderModel, file: Path) -> None:
    decoder.weights["stem.conv.weight"][0] = 1e6
    file.write_bytes(pixel_decoder_bytes(decoder))
    with pytest.raises(ModelError, match=r"weight 'stem.conv.weight' must hold finite floating-point values"):
        load_pixel_decoder(file)


def test_opening_leaves_the_callers_random_numbers_alone(file: Path) -> None:
    before = torch.random.get_rng_state()
    load_pixel_decoder(file).network(torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
