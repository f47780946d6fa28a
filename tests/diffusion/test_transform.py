"""The block transform: orthonormal in floating point, exact in integers."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm_codec.diffusion.transform import TRANSFORMS, BlockTransform, by_name
from ddpm_codec.errors import InputError

transforms = pytest.mark.parametrize("transform", [by_name(name) for name in TRANSFORMS], ids=list(TRANSFORMS))


def pictures(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=dtype)


def assert_comes_back(transform: BlockTransform, x: NDArray[np.int64]) -> None:
    """M^T (L N^-1) M = L I in integers, L = lcm(N)."""
    common = int(np.lcm.reduce(transform.norms2))
    weights = (common // transform.norms2)[None, :, None, None]
    np.testing.assert_array_equal(transform.inverse_exact(weights * transform.forward_exact(x)), common * x)


@transforms
def test_rows_are_orthogonal_integers(transform: BlockTransform) -> None:
    assert transform.matrix.dtype == np.int64
    assert transform.dims == 3 * transform.block**2
    np.testing.assert_array_equal(transform.matrix @ transform.matrix.T, np.diag(transform.norms2))


@transforms
def test_forward_keeps_lengths_and_inverse_undoes_it(transform: BlockTransform) -> None:
    x = pictures()
    y = transform.forward(x)
    assert y.shape == (2, transform.dims, 16 // transform.block, 24 // transform.block)
    torch.testing.assert_close(y.square().sum(dim=(1, 2, 3)), x.square().sum(dim=(1, 2, 3)), rtol=1e-12, atol=0)
    torch.testing.assert_close(transform.inverse(y), x, rtol=0, atol=1e-13)
    single = pictures(torch.float32)
    torch.testing.assert_close(transform.inverse(transform.forward(single)), single, rtol=0, atol=5e-6)


@transforms
def test_noise_stays_white(transform: BlockTransform) -> None:
    """W N(0, I) is N(0, I): so q(x_t | x_0) is the same Gaussian in either domain."""
    noise = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = transform.forward(noise).transpose(0, 1).flatten(1)
    deviation = y @ y.T / y.shape[1] - torch.eye(transform.dims, dtype=torch.float64)
    # The largest of D^2 nearly normal deviations of standard error about sqrt(2 / n).
    assert deviation.abs().max().item() < 6.0 * (2.0 / y.shape[1]) ** 0.5


@transforms
def test_floating_point_is_the_integers_normalised(transform: BlockTransform) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (2, 3, 16, 24))
    integers = transform.forward_exact(grey)
    expected = integers / np.sqrt(transform.norms2)[None, :, None, None]
    ours = transform.forward(torch.from_numpy(grey).double()).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-9)


@transforms
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_integer_round_trip(transform: BlockTransform, data: st.DataObject) -> None:
    blocks = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)))
    shape = (blocks[0], 3, blocks[1] * transform.block, blocks[2] * transform.block)
    x: NDArray[np.int64] = data.draw(npst.arrays(np.int64, shape, elements=st.integers(-255, 255)))
    assert_comes_back(transform, x)


@transforms
def test_integer_round_trip_of_the_largest_pictures(transform: BlockTransform) -> None:
    """Greys 0 and 255 in the pattern of each row of M: the largest coefficients that can occur."""
    signs = np.where(transform.matrix > 0, 255, 0)
    b = transform.block
    x = signs.reshape(-1, 3, b, b)
    assert_comes_back(transform, x)


def test_grey_picture_has_one_coefficient_a_block() -> None:
    transform = by_name("colour-8x8")
    y = transform.forward_exact(np.full((1, 3, 8, 8), 7))
    assert np.flatnonzero(y).tolist() == [0]


def test_coefficients_come_in_order_colour_row_column() -> None:
    transform = by_name("colour-8x8")
    wave = np.tile(np.arange(8) < 4, (8, 1)).astype(np.int64)
    y = transform.forward_exact(np.stack([wave, 0 * wave, -wave])[None])[0, :, 0, 0].reshape(3, 8, 8)
    # Red minus blue, constant down the rows, odd along the columns.
    assert (y[[0, 2]] == 0).all()
    assert (y[1, 1:] == 0).all()
    assert y[1, 0, 1] != 0


@transforms
def test_inputs_that_would_overflow_are_refused(transform: BlockTransform) -> None:
    b = transform.block
    low = np.full((1, 3, b, b), np.iinfo(np.int64).min)
    with pytest.raises(InputError, match="too large"):
        transform.forward_exact(low)


def test_bad_transforms_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown transform 'fourier'.*colour-8x8"):
        by_name("fourier")
    with pytest.raises(InputError, match="not orthogonal"):
        BlockTransform("bent", np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]), np.eye(1, dtype=np.int64), 1)
