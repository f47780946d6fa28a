"""The executor against the reference: the same integers from every kernel, batch, thread count and input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_codec.isolation import isolated
from ddpm_codec.nn.exact import executor, fused_layer
from ddpm_codec.nn.exact.executor import ExactDenoiser, ExactExecutor, Executor, make_executor
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.kernels import KERNELS, is_exact
from ddpm_codec.nn.exact.parameters import PICTURE_REACH, ExactParameters
from ddpm_codec.nn.exact.windows import plan_windows
from ddpm_codec.nn.integer import LOG_VAR_INDICES, MEAN_BITS
from ddpm_codec.workers import Workers
from tests.nn.exact.conftest import GRID, interpret, noisy
from tests.reference import exact_network

CPU = torch.device("cpu")


@pytest.fixture(params=sorted(KERNELS))
def kernels(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not is_exact(name, "cpu"):
        pytest.skip(f"{name} kernels are not exact on this processor, and are not used on it")
    return name


@pytest.fixture(params=["torch", "compiled"])
def make(request: pytest.FixtureRequest, parameters: ExactParameters) -> Callable[[str], Executor]:
    """Return what makes the executor with kernels of a name."""
    if request.param == "torch":
        return lambda kernels: ExactExecutor(parameters, CPU, kernels)
    return lambda kernels: FusedExecutor(parameters, kernels)


@pytest.mark.parametrize("level", range(len(GRID)))
def test_every_kernel_gives_the_integers_of_the_reference(
    kernels: str, level: int, make: Callable[[str], Executor], parameters: ExactParameters
) -> None:
    picture = noisy(level)
    mean, pixel, coefficient = exact_network.forward(parameters, picture, level)
    denoiser = ExactDenoiser(make(kernels), tuple(range(len(GRID))))
    pixels, coefficients = denoiser.pixels(picture, level), denoiser.coefficients(picture, level)
    np.testing.assert_array_equal(pixels.mean, mean)
    np.testing.assert_array_equal(pixels.log_var_index, pixel)
    np.testing.assert_array_equal(coefficients.mean, mean)
    np.testing.assert_array_equal(coefficients.log_var_index, coefficient)
    # Something that could differ is there to compare.
    assert len(np.unique(mean)) > 500
    assert len(np.unique(pixel)) > 10
    assert len(np.unique(coefficient)) > 10


@pytest.mark.parametrize("value", [0, 1, -1, PICTURE_REACH, -PICTURE_REACH, 1 << 40, -(1 << 40)])
def test_pictures_that_no_encoder_makes(
    kernels: str, value: int, make: Callable[[str], Executor], parameters: ExactParameters
) -> None:
    picture = np.full((1, 3, 8, 8), value, np.int64)
    picture[..., ::3] *= -1
    mean, pixel, coefficient = exact_network.forward(parameters, picture, 1)
    denoiser = ExactDenoiser(make(kernels), (1,))
    np.testing.assert_array_equal(denoiser.pixels(picture, 0).mean, mean)
    np.testing.assert_array_equal(denoiser.pixels(picture, 0).log_var_index, pixel)
    np.testing.assert_array_equal(denoiser.coefficients(picture, 0).log_var_index, coefficient)
    assert pixel.min() >= 0
    assert pixel.max() < LOG_VAR_INDICES
    # Four times what a clamped picture gives: no value wraps around.
    assert np.abs(mean).max() <= (PICTURE_REACH >> 6 << MEAN_BITS) * 4


def test_a_batch_is_its_pictures_one_by_one(parameters: ExactParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noisy(2, batch=7)
    denoiser = ExactDenoiser(make_executor(parameters, CPU), (2,))
    whole = denoiser.coefficients(picture, 0)
    for size in (1, 3):
        monkeypatch.setitem(executor.CHUNK_PIXELS, "cpu", size * 16 * 24)
        again = denoiser.coefficients(picture, 0)
        np.testing.assert_array_equal(again.mean, whole.mean)
        np.testing.assert_array_equal(again.log_var_index, whole.log_var_index)
    alone = denoiser.coefficients(picture[4:5], 0)
    np.testing.assert_array_equal(alone.mean, whole.mean[4:5])


@pytest.mark.parametrize("shape", [(8, 24, 40), (1, 200, 72), (1, 72, 200), (1, 136, 144)], ids=str)
def test_threads_change_nothing(shape: tuple[int, int, int], parameters: ExactParameters) -> None:
    """Workers share out pictures, or windows of one."""
    batch, *size = shape
    picture = np.random.default_rng(0).normal(0.0, 60.0 * 64.0, (batch, 3, *size)).astype(np.int64)
    assert len(plan_windows(shape, parameters.config.reach, Workers(6))) > 1
    for executor_ in (ExactExecutor(parameters, CPU), FusedExecutor(parameters)):
        denoiser = ExactDenoiser(executor_, (1,))
        with isolated(1):
            one = denoiser.both(picture, 0)
        for threads in (2, 5, 6):
            with isolated(threads):
                more = denoiser.both(picture, 0)
            for found, wanted in zip(more, one, strict=True):
                np.testing.assert_array_equal(found.mean, wanted.mean)
                np.testing.assert_array_equal(found.log_var_index, wanted.log_var_index)


def test_several_threads_use_one_executor(make: Callable[[str], Executor]) -> None:
    """At once, each on pictures of its own and of other sizes."""
    denoiser = ExactDenoiser(make("float32"), (0, 1))
    pictures = [noisy(1, batch=index % 3 + 1)[..., : 8 + index % 2 * 8, :8] for index in range(12)]
    wanted = [denoiser.both(picture, index % 2) for index, picture in enumerate(pictures)]
    found = Workers(4).map(lambda index: denoiser.both(pictures[index], index % 2), range(12))
    for several, alone in zip(found, wanted, strict=True):
        for one, other in zip(several, alone, strict=True):
            np.testing.assert_array_equal(one.mean, other.mean)
            np.testing.assert_array_equal(one.log_var_index, other.log_var_index)


def test_exact_networks_use_one_thread_of_torch(
    make: Callable[[str], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor_, seen = make("float32"), set[int]()
    integers = type(executor_).integers

    def watched(self: Executor, *args: Any, **values: Any) -> Any:  # noqa: ANN401 - as they come
        seen.add(torch.get_num_threads())
        return integers(self, *args, **values)

    monkeypatch.setattr(type(executor_), "integers", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for threads in (1, 2):
            with isolated(threads):
                ExactDenoiser(executor_, (0,)).both(noisy(0), 0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


def test_strips_and_pieces_change_nothing(parameters: ExactParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noisy(2, batch=3)
    wanted = FusedExecutor(parameters).integers(picture, 2, pixels=True, coefficients=True)
    for strip, chunk in ((1, 1), (300, 100), (1 << 9, 1 << 20), (1 << 30, 7)):
        monkeypatch.setattr(fused_layer, "STRIP_VALUES", strip)
        monkeypatch.setattr(fused_layer, "CHUNK", chunk)
        found = FusedExecutor(parameters).integers(picture, 2, pixels=True, coefficients=True)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def test_passes_are_the_same_without_a_compiler(parameters: ExactParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted they are what a debugger and coverage see."""
    picture = noisy(2)[:1, :, :8, :8]
    wanted = FusedExecutor(parameters).integers(picture, 2, pixels=True, coefficients=True)
    interpret(monkeypatch)
    found = FusedExecutor(parameters).integers(picture, 2, pixels=True, coefficients=True)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_compiler_torch_does_it_all(parameters: ExactParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_executor(parameters, CPU), FusedExecutor)
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    assert isinstance(make_executor(parameters, CPU), ExactExecutor)


def test_autocast_of_the_caller_changes_nothing(kernels: str, make: Callable[[str], Executor]) -> None:
    denoiser = ExactDenoiser(make(kernels), (1,))
    outside = denoiser.coefficients(noisy(1), 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = denoiser.coefficients(noisy(1), 0)
    np.testing.assert_array_equal(inside.mean, outside.mean)
    np.testing.assert_array_equal(inside.log_var_index, outside.log_var_index)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_rounding_that_the_caller_allows_changes_nothing(
    precision: str, kernels: str, make: Callable[[str], Executor], parameters: ExactParameters
) -> None:
    denoiser = ExactDenoiser(make(kernels), (1,))
    mean, _, coefficient = exact_network.forward(parameters, noisy(1), 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = denoiser.coefficients(noisy(1), 0)
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_array_equal(found.log_var_index, coefficient)


def test_no_pictures_have_no_predictions(kernels: str, make: Callable[[str], Executor]) -> None:
    denoiser = ExactDenoiser(make(kernels), (1,))
    for method in ("pixels", "coefficients"):
        one, none = (getattr(denoiser, method)(noisy(1)[:count], 0) for count in (1, 0))
        for shown, empty in ((one.mean, none.mean), (one.log_var_index, none.log_var_index)):
            assert empty.shape == (0, *shown.shape[1:])
            assert empty.dtype == shown.dtype


def test_an_executor_keeps_nothing_of_a_picture(parameters: ExactParameters) -> None:
    denoiser = ExactDenoiser(make_executor(parameters, CPU), (0, 3))
    first = denoiser.coefficients(noisy(0), 0).mean.copy()
    denoiser.coefficients(noisy(3, batch=5), 1)
    denoiser.pixels(noisy(3)[..., :8, :8], 1)
    np.testing.assert_array_equal(denoiser.coefficients(noisy(0), 0).mean, first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("level", range(len(GRID)))
def test_cuda_gives_the_same_integers(level: int, parameters: ExactParameters) -> None:
    picture = noisy(level)
    device = ExactDenoiser(ExactExecutor(parameters, torch.device("cuda")), tuple(range(len(GRID))))
    host = ExactDenoiser(make_executor(parameters, CPU), tuple(range(len(GRID))))
    for method in ("pixels", "coefficients"):
        here, there = getattr(host, method)(picture, level), getattr(device, method)(picture, level)
        np.testing.assert_array_equal(here.mean, there.mean)
        np.testing.assert_array_equal(here.log_var_index, there.log_var_index)
