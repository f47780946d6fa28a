"""Muon orthogonalises, AdamW is torch's, and the state survives a checkpoint."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ddpm_codec.nn.codec_net import SIZES, CodecNet
from ddpm_codec.training.optimizer import MuonAdamW, build_optimizer, orthogonalise


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (16, 16), (1, 40), (128, 1152)])
def test_orthogonalise_keeps_singular_vectors_and_levels_singular_values(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    rank = min(shape)
    left = torch.linalg.qr(torch.randn(shape[0], rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(shape[1], rank, generator=generator)).Q
    values = torch.linspace(0.1, 1.0, rank) * 7e-4
    found = left.T @ orthogonalise(left * values @ right.T) @ right
    assert found.shape == (rank, rank)
    diagonal = found.diagonal()
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    off_diagonal = found - torch.diag(diagonal)
    assert off_diagonal.norm() < 0.05 * diagonal.norm()


def test_orthogonalise_of_zero_is_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_the_adamw_part_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(1)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (7,))]
    theirs = copy.deepcopy(ours)
    optimizer = MuonAdamW([], ours, lr=0.01)
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), eps=1e-10, weight_decay=0)
    for step in range(8):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] = 0.01 / (1 + step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator) * 10.0 ** (step - 4)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_muon_moves_like_adamw_in_size() -> None:
    """0.2 sqrt(max(rows, columns)) times an orthogonal matrix has entries of about 0.2, whatever the gradient's scale."""
    for scale in (1e-6, 1e3):
        weight = nn.Parameter(torch.zeros(32, 32, 3, 3))
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
        MuonAdamW([weight], [], lr=1.0).step()
        assert 0.12 < weight.detach().square().mean().sqrt().item() < 0.24
        assert (weight.detach() * weight.grad).sum() < 0


def test_closures_are_refused() -> None:
    with pytest.raises(ValueError, match="no closure"):
        MuonAdamW([], [nn.Parameter(torch.zeros(1))], lr=1.0).step(lambda: 0.0)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_state_round_trip(name: str) -> None:
    net = CodecNet(SIZES["small"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(net, name, 1e-3)
    for seed in range(2):
        step(net, optimizer, seed)
    other = copy.deepcopy(net)
    restored = build_optimizer(other, name, 1e-3)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in range(2, 4):
        step(net, optimizer, seed)
        step(other, restored, seed)
    weights: dict[str, Tensor] = other.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())


def test_first_and_last_layers_and_vectors_stay_with_adamw() -> None:
    net = CodecNet(SIZES["small"])
    groups = {
        group["muon"]: {id(p) for p in group["params"]} for group in build_optimizer(net, "muon", 1.0).param_groups
    }
    names = {name: id(parameter) for name, parameter in net.named_parameters()}
    muon = {name for name, key in names.items() if key in groups[True]}
    assert groups[True] | groups[False] == set(names.values())
    assert all(name.endswith("weight") for name in muon)
    assert "middle.0.first.conv.weight" in muon
    assert not {name for name in muon if name.startswith(("stem", "pixel_head", "variance", "embedding"))}
    assert [group["muon"] for group in build_optimizer(net, "adamw", 1.0).param_groups] == [False]
