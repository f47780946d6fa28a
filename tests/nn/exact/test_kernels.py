"""Kernels are tried before they are used, and one that saturates is not."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_codec.nn.exact import kernels
from ddpm_codec.nn.exact.kernels import KERNELS, FloatKernel, MatmulKernel, is_exact, pick_kernels

ROOT = Path(__file__).resolve().parents[3]


class Saturating(FloatKernel):
    """Cuts sums off at 16 bits, as byte instructions of older processors do."""

    def __call__(self, q: Tensor) -> Tensor:
        return super().__call__(q).clamp_(-32768.0, 32767.0)


class Missing:
    """A library without the operation."""

    def __init__(self, *_: object) -> None:
        raise AttributeError("no such operation")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    is_exact.cache_clear()


def test_floating_point_is_exact_everywhere() -> None:
    assert is_exact("float32", "cpu")
    assert is_exact("float64", "cpu")


@pytest.mark.parametrize("bad", [Saturating, Missing])
def test_kernels_that_fail_the_trial_are_passed_over(bad: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "onednn", bad)
    monkeypatch.setitem(KERNELS, "matmul", bad)
    assert not is_exact("onednn", "cpu")
    assert pick_kernels(torch.device("cpu")) == "float32"
    is_exact.cache_clear()
    monkeypatch.setitem(KERNELS, "float32", bad)
    assert pick_kernels(torch.device("cpu")) == "float64"


def test_without_onednn_floating_point_serves() -> None:
    with warnings.catch_warnings():
        # Where torch was built without other devices, it warns of their flags.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            assert pick_kernels(torch.device("cpu")) == "float32"


@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "AVX512_CORE", "DEFAULT"])
def test_processors_without_exact_byte_sums_are_found_out(isa: str) -> None:
    """oneDNN made to forget instruction sets: what it picks must be exact, whatever that is."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no oneDNN")
    program = (
        "import torch; from ddpm_codec.nn.exact.kernels import *; name = pick_kernels(torch.device('cpu'));"
        "print(name, is_exact(name, 'cpu'))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    name, exact = done.stdout.split()
    assert exact == "True"
    if isa == "SSE41":
        assert name == "float32"


@pytest.mark.parametrize(("channels", "outputs"), [(3, 5), (8, 16), (24, 24)])
@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, (5, 9)), (2, 2, (4, 6)), (4, 4, (4, 8)), (1, 1, (1, 1))])
def test_padded_matrix_products(channels: int, outputs: int, side: int, stride: int, size: tuple[int, int]) -> None:
    """Sizes that CUDA's rules (more than 16 rows, multiples of 8) make us pad."""
    rng = np.random.default_rng(channels * side)
    q = rng.integers(0, 256, (2, *size, channels))
    weight = rng.integers(-127, 128, (outputs, channels, side, side))
    arguments = (
        torch.from_numpy(weight.astype(np.int8)),
        torch.from_numpy(rng.integers(-99, 99, outputs).astype(np.int32)),
        torch.from_numpy(rng.integers(0, 5, outputs).astype(np.int32)),
        stride,
        4000.0,
    )
    bytes_ = torch.from_numpy(q.astype(np.uint8))
    if not is_exact("matmul", "cpu"):
        pytest.skip("byte matrices are not exact on this processor")
    torch.testing.assert_close(MatmulKernel(*arguments)(bytes_), FloatKernel(*arguments)(bytes_), rtol=0, atol=0)


def test_memory_for_columns_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, zeros = torch.ones((8, 8, 3, 3), dtype=torch.int8), torch.zeros(8, dtype=torch.int32)
    q = torch.randint(0, 256, (1, 34, 18, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for make in (MatmulKernel, FloatKernel):
        whole = make(weight, zeros, zeros, 1, None)(q)
        monkeypatch.setattr(kernels, "MAX_COLUMN_BYTES", 5000)
        torch.testing.assert_close(make(weight, zeros, zeros, 1, None)(q), whole, rtol=0, atol=0)
        monkeypatch.undo()
