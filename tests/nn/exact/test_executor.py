"""The executor against the reference: the same integers from every kernel, batch, thread count and input."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ddpm_codec.nn.exact import executor
from ddpm_codec.nn.exact.executor import ExactDenoiser, ExactExecutor, Executor, make_executor
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.kernels import KERNELS, is_exact
from ddpm_codec.nn.exact.parameters import PICTURE_REACH, ExactParameters
from ddpm_codec.nn.integer import LOG_VAR_INDICES, MEAN_BITS
from tests.nn.exact.conftest import GRID, noisy
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


def test_threads_change_nothing(parameters: ExactParameters) -> None:
    picture = noisy(1, batch=8)
    denoiser = ExactDenoiser(make_executor(parameters, CPU), (1,))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = denoiser.coefficients(picture, 0)
        torch.set_num_threads(2)
        two = denoiser.coefficients(picture, 0)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.log_var_index, two.log_var_index)


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
