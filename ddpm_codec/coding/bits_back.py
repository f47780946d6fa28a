"""Bits-back coding in Bit-Swap order on the forward Markov chain.

Encoding a batch of pictures x_0:  pop z_0 ~ q(z_0 | x_0), push x_0 ~ p(x_0 | z_0); then for each level t = 1..K pop
z_t ~ q(z_t | z_{t-1}), push z_{t-1} ~ p(z_{t-1} | z_t); at last push z_K ~ p(z_K). The stack grows by the bound of
the chain, sum of ln q - ln p, on average over the popped latents. Decoding is the exact reverse. Sources: Townsend et al.
2019 (BB-ANS); Kingma et al. 2019 (Bit-Swap), algorithm 1.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.prices import Floats, lattice_bits, pixel_bits
from ddpm_codec.padding import pad_to_multiple as pad_to_multiple

Ints = NDArray[np.int64]
Points = NDArray[np.int32]
Pixels = NDArray[np.uint8]

PADDING = 8
"""Pictures are padded to multiples of this."""


class LatticeModel(Protocol):
    """A chain of K steps over lattice latents n_0..n_K, cleanest first; means have MEAN_BITS fractional bits."""

    steps: int

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents of padded pictures of ``shape`` [B, 3, H, W]."""
        ...

    def encode_mean(self, x0: Pixels) -> Ints:
        """Return the mean of n_0 given padded pictures [B, 3, H, W]."""
        ...

    def forward_scale(self, level: int) -> float:
        """Return the scale of q(n_level | n_{level-1}); at level 0, of q(n_0 | x_0)."""
        ...

    def forward_mean(self, n_prev: Points, level: int) -> Ints:
        """Return the mean of n_level given n_{level-1}."""
        ...

    def push_pictures(self, stack: Stack, x0: Pixels, n_0: Points, prices: Floats | None) -> None:
        """Push pictures x0 [B, 3, h, w], without padding, under p(x_0 | n_0); see :func:`encode_batch` for ``prices``."""
        ...

    def pop_pictures(self, stack: Stack, shape: tuple[int, int, int, int], n_0: Points) -> Pixels:
        """Pop what :meth:`push_pictures` pushed, of ``shape`` [B, 3, h, w].

        Raises:
            FormatError: it was not pushed by that.
        """
        ...

    def reverse(self, n_t: Points, level: int) -> tuple[Ints, Points]:
        """Return means and scale indices of p(n_{level-1} | n_level)."""
        ...

    def prior(self, shape: tuple[int, ...]) -> tuple[Ints, Points]:
        """Return means and scale indices of p(n_K)."""
        ...


def push_factorised(stack: Stack, x0: Pixels, law: tuple[Ints, Points], prices: Floats | None) -> None:
    """Push pictures [B, 3, h, w] of independent sub-pixels.

    Args:
        stack: what they go onto.
        x0: the pictures.
        law: means and scale indices of the padded pictures, [B, 3, H, W].
        prices: see :func:`encode_batch`.
    """
    mean, scale = _inside(law, x0.shape)
    stack.push_pixels(x0, mean, scale)
    if prices is not None:
        prices += pixel_bits(x0, mean, scale)


def pop_factorised(stack: Stack, shape: tuple[int, int, int, int], law: tuple[Ints, Points]) -> Pixels:
    """Pop what :func:`push_factorised` pushed.

    Raises:
        FormatError: it was not pushed by that.
    """
    return stack.pop_pixels(*_inside(law, shape))


def _inside(law: tuple[Ints, Points], shape: tuple[int, ...]) -> tuple[Ints, Points]:
    height, width = shape[2:]
    mean, scale = law
    return mean[:, :, :height, :width], scale[:, :, :height, :width]


def encode_batch(stack: Stack, model: LatticeModel, x0: Pixels, prices: Floats | None = None) -> None:
    """Push the pictures x0 [B, 3, h, w], of any size, onto ``stack``.

    Args:
        stack: what they go onto.
        model: the chain.
        x0: the pictures.
        prices: [B], where given: gets the bits that each picture pushes added to it, about. What it pops is a sample
            of the same entropy for each, so that the net bits of two pictures differ by as much.

    Raises:
        StackExhausted: the stack has too few bits to begin with; it is of no use afterwards.
    """
    n = stack.sample_lattice(model.encode_mean(pad_to_multiple(x0, PADDING)), model.forward_scale(0))
    model.push_pictures(stack, x0, n, prices)
    for t in range(1, model.steps + 1):
        noisier = stack.sample_lattice(model.forward_mean(n, t), model.forward_scale(t))
        mean, scale = model.reverse(noisier, t)
        stack.push_lattice(n, mean, scale)
        if prices is not None:
            prices += lattice_bits(n, mean, scale)
        n = noisier
    mean, scale = model.prior(n.shape)
    stack.push_lattice(n, mean, scale)
    if prices is not None:
        prices += lattice_bits(n, mean, scale)


def decode_batch(stack: Stack, model: LatticeModel, shape: tuple[int, int, int, int]) -> Pixels:
    """Pop pictures of ``shape`` [B, 3, h, w] off ``stack``: the inverse of :func:`encode_batch`.

    Raises:
        FormatError: what is on the stack was not pushed by :func:`encode_batch`.
    """
    images, channels, height, width = shape
    padded = (images, channels, height + -height % PADDING, width + -width % PADDING)
    n = stack.pop_lattice(*model.prior(model.latent_shape(padded)))
    for t in range(model.steps, 0, -1):
        cleaner = stack.pop_lattice(*model.reverse(n, t))
        stack.unsample_lattice(n, model.forward_mean(cleaner, t), model.forward_scale(t))
        n = cleaner
    x0 = model.pop_pictures(stack, shape, n)
    stack.unsample_lattice(n, model.encode_mean(pad_to_multiple(x0, PADDING)), model.forward_scale(0))
    return x0
