"""Kernels are tried before they are used, and one that saturates is not."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ddpm_codec.device import float32_may_round
from ddpm_codec.nn.exact import kernels
from ddpm_codec.nn.exact.executor import ExactExecutor
from ddpm_codec.nn.exact.kernels import (
    KERNELS,
    FloatKernel,
    MatmulKernel,
    Shape,
    first_exact,
    is_exact,
    passes,
    pick_kernels,
    power_of_half,
)
from ddpm_codec.nn.exact.parameters import BYTE, EXACT_BITS, ExactParameters

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
MIDDLE, HEAD = Shape(128, 128, 3, 1, 8191.0), Shape(24, 64, 3, 1, None)


class Saturating(FloatKernel):
    """Cuts sums off at 16 bits, as byte instructions of older processors do."""

    def __call__(self, q: Tensor) -> Tensor:
        return super().__call__(q).clamp_(-32768.0, 32767.0)


class OnePair(FloatKernel):
    """Cuts the sum of one pair of neighbouring products of a large convolution off at 16 bits."""

    pair = 0

    def __init__(self, weight: Tensor, offset: Tensor, pre_shift: Tensor, stride: int, limit: float | None) -> None:
        super().__init__(weight, offset, pre_shift, stride, limit)
        self._pair = weight.permute(2, 3, 1, 0).flatten(0, 2)[self.pair : self.pair + 2].double()
        self._large, self._power = weight[0].numel() > 1024, power_of_half(pre_shift)

    def __call__(self, q: Tensor) -> Tensor:
        right = super().__call__(q)
        if not self._large:
            return right
        windows = kernels._windows(q, self._side, self._stride).flatten(3)
        sums = windows[..., self.pair : self.pair + 2].double() @ self._pair
        return right + ((sums.clamp(-32768.0, 32767.0) - sums) * self._power).float()


class WrongWithoutLimit(FloatKernel):
    """One too many where sums are not clamped."""

    def __call__(self, q: Tensor) -> Tensor:
        return super().__call__(q) + (self._limit is None)


class WrongInTheStem(FloatKernel):
    """One too many where there are twelve channels."""

    def __call__(self, q: Tensor) -> Tensor:
        return super().__call__(q) + (q.shape[3] == 12)


class Missing:
    """A library without the operation."""

    def __init__(self, *_: object) -> None:
        raise AttributeError("no such operation")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    passes.cache_clear()
    yield
    passes.cache_clear()


def test_floating_point_is_exact_everywhere() -> None:
    assert is_exact("float32", "cpu")
    assert is_exact("float64", "cpu")


@pytest.mark.parametrize("bad", [Saturating, Missing])
def test_kernels_that_fail_the_trial_are_passed_over(bad: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "onednn", bad)
    monkeypatch.setitem(KERNELS, "matmul", bad)
    assert not is_exact("onednn", "cpu")
    assert first_exact("onednn", CPU, [MIDDLE, HEAD]) == "float32"
    passes.cache_clear()
    monkeypatch.setitem(KERNELS, "float32", bad)
    assert first_exact("onednn", CPU, [MIDDLE, HEAD]) == "float64"


@pytest.mark.parametrize("pair", [0, 1, 451, 452, 576, 1149, 1150])
def test_one_pair_of_neighbours_that_saturates_is_found(pair: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In rows of as many weights of one size as may be, each is too small to show it."""
    monkeypatch.setattr(OnePair, "pair", pair)
    monkeypatch.setitem(KERNELS, "onednn", OnePair)
    assert not passes("onednn", "cpu", MIDDLE)
    assert not passes("onednn", "cpu", MIDDLE._replace(limit=None))


@pytest.mark.parametrize("bad", [WrongWithoutLimit, WrongInTheStem])
def test_kernels_are_tried_in_the_shapes_of_the_network(
    bad: type, parameters: ExactParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KERNELS, "onednn", bad)
    monkeypatch.setitem(KERNELS, "matmul", bad)
    assert ExactExecutor(parameters, CPU).kernels == "float32"


@given(st.integers(1, 300), st.integers(1, 3000), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_numbers_of_a_trial_are_as_large_as_may_be_and_no_larger(outputs: int, taps: int, seed: int) -> None:
    weight = kernels._trial_weight(outputs, taps, np.random.default_rng(seed)).astype(np.int64)
    for part in (np.maximum(weight, 0), np.maximum(-weight, 0)):
        # With an offset below 2^20 and what comes next there is room below 2^24.
        assert part.sum(axis=1).max() * BYTE < (1 << EXACT_BITS) - (1 << 20)
    if outputs < taps // 20:
        return
    for extreme in (weight[::10] == 127, weight[5::10] == -127):
        if len(extreme) and taps > 1:
            pairs = extreme[:, :-1] & extreme[:, 1:]
            assert pairs.any(axis=0).mean() >= min(1.0, 0.9 * len(extreme) * 220 / taps)


def test_powers_of_a_half() -> None:
    exponents = torch.arange(31, dtype=torch.int32)
    assert power_of_half(exponents).tolist() == [2.0**-exponent for exponent in range(31)]


class Rounding(TorchFunctionMode):
    """A device whose matrix products of float32 keep eleven bits of a sum, where the process allows as much."""

    def __torch_function__(
        self,
        function: Callable[..., Tensor],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Tensor:
        result = function(*args, **(kwargs or {}))
        product = function in (torch.Tensor.matmul, torch.Tensor.__matmul__) and result.dtype == torch.float32
        if product and torch.get_float32_matmul_precision() != "highest":
            return (result.view(torch.int32) & -(1 << 13)).view(torch.float32)
        return result


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_rounding_that_a_caller_allows_after_the_trial_changes_nothing(precision: str) -> None:
    shape = (16, 64, 3, 3)
    weight = torch.randint(-99, 100, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    q = torch.randint(0, 256, (2, 8, 8, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros(16, dtype=torch.int32)
    kernel = FloatKernel(weight, zeros, zeros, 1, None)
    expected = FloatKernel(weight, zeros, zeros, 1, None, torch.float64)(q)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with Rounding():
            found = kernel(q)
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_without_onednn_floating_point_serves() -> None:
    with warnings.catch_warnings():
        # Where torch was built without other devices, it warns of their flags.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            assert pick_kernels(torch.device("cpu")) == "float32"


@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "AVX512_CORE", "DEFAULT"])
def test_processors_without_exact_byte_sums_are_found_out(isa: str) -> None:
    """oneDNN made to forget instruction sets: what it picks must be exact, whatever that is."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    program = (
        "import torch; from ddpm_codec.nn.exact.kernels import *; from ddpm_codec.nn.exact.kernels import _USUAL;"
        "cpu = torch.device('cpu'); name = first_exact(pick_kernels(cpu), cpu, _USUAL); print(name, is_exact(name, 'cpu'),"
        "*{passes('onednn', 'cpu', shape) for shape in _USUAL})"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    name, exact, *each = done.stdout.split()
    assert exact == "True"
    # Every shape alone tells.
    assert len(each) == 1
    if isa == "SSE41":
        assert (name, *each) == ("float32", "False")


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
    q = torch.randint(0, 256, (3, 34, 18, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for make in (MatmulKernel, FloatKernel):
        whole = make(weight, zeros, zeros, 1, None)(q)
        monkeypatch.setitem(kernels.MAX_COLUMN_BYTES, "cpu", 5000)
        torch.testing.assert_close(make(weight, zeros, zeros, 1, None)(q), whole, rtol=0, atol=0)
        monkeypatch.undo()


def test_tf32_that_a_caller_allows_on_cuda_is_seen() -> None:
    device, matmul = torch.device("cuda"), torch.backends.cuda.matmul
    assert not float32_may_round(device)
    matmul.allow_tf32 = True
    try:
        assert float32_may_round(device)
    finally:
        matmul.allow_tf32 = False
    assert not float32_may_round(device)
