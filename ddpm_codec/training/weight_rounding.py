"""Rounding of weights with error feedback: what one weight loses, the weights after it make good.

Plain rounding moves every weight of a row by up to half a step, and on inputs that are alike, as neighbouring pixels are,
the errors add up. Here the columns of a kernel are rounded one after the other, and each error is carried over to the columns
that follow so that the squared error of the layer's output is least,

    W[:, j] <- W[:, j] - (W[:, k] - q s) U[k, j] / U[k, k],   j > k,   U^T U = H^-1 (upper Cholesky factor),

H being the covariance of the layer's rounded inputs. What the mean of the inputs makes of the errors goes into the bias.
Source: Frantar et al. 2022, "GPTQ: Accurate post-training quantization for generative pre-trained transformers", after
Hassibi & Stork 1993 (optimal brain surgeon).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.nn.codec_net import Layer, Trunk
from ddpm_codec.nn.masked_conv import MaskedConv
from ddpm_codec.nn.quantization import WEIGHT_LIMIT, weight_steps

POSITIONS = 300
"""Positions sampled per image and layer."""

DAMPING = 0.002
"""Added to the diagonal of H, as a share of its mean: directions that no sample has are not free."""


class _Moments:
    """Mean and covariance of the windows that a layer reads."""

    def __init__(self, layer: Layer, generator: torch.Generator) -> None:
        self._layer, self._generator = layer, generator
        self._count = 0
        self._sum: Tensor | None = None
        self._products: Tensor | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        conv, y = self._layer.conv, inputs[0].float()
        q = y if self._layer.quantizer is None else self._layer.quantizer(y)
        if not isinstance(conv.padding, str):
            q = functional.pad(q, [conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0]])
        stride = conv.stride[0]
        windows = q.unfold(2, conv.kernel_size[0], stride).unfold(3, conv.kernel_size[1], stride)
        chosen = torch.randint(windows.shape[2] * windows.shape[3], (POSITIONS,), generator=self._generator)
        rows, columns = (part.to(q.device) for part in (chosen // windows.shape[3], chosen % windows.shape[3]))
        sample = windows[:, :, rows, columns].transpose(1, 2).flatten(0, 1).flatten(1).double()
        self._count += len(sample)
        total, products = sample.sum(dim=0), sample.T @ sample
        self._sum = total if self._sum is None else self._sum + total
        self._products = products if self._products is None else self._products + products

    def found(self) -> tuple[Tensor, Tensor]:
        """Return the mean, [K], and the covariance, [K, K]."""
        if self._sum is None or self._products is None:
            raise RuntimeError("the layer was never evaluated")
        mean = self._sum / self._count
        return mean, self._products / self._count - torch.outer(mean, mean)


@torch.no_grad()
def round_weights(network: Trunk, run: Callable[[], object]) -> None:
    """Round the weights of a calibrated network, so that plain rounding changes them no more.

    Args:
        network: its quantisers' steps are chosen; weights and biases are replaced.
        run: evaluates the network on training crops, in as many batches as it likes.
    """
    generator = torch.Generator().manual_seed(0)
    layers = network.layers()
    moments = {name: _Moments(layer, generator) for name, layer in layers.items()}
    handles = [layer.register_forward_pre_hook(moments[name]) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in layers.items():
        _round_layer(layer, *moments[name].found())


def _round_layer(layer: Layer, mean: Tensor, covariance: Tensor) -> None:
    conv = layer.conv
    unit = 1.0 if layer.quantizer is None else layer.quantizer.step[:, None, None]
    kernel = (conv.kernel() if isinstance(conv, MaskedConv) else conv.weight) * unit
    seen = torch.ones_like(kernel[0], dtype=torch.bool)
    if isinstance(conv, MaskedConv):
        seen = conv.mask.bool().expand_as(seen)
    place = seen.flatten()
    steps = weight_steps(kernel).double()
    rows = kernel.flatten(1).double()
    rounded = torch.zeros_like(rows)
    rounded[:, place] = feed_back(rows[:, place], covariance[place][:, place], steps)
    error = rows - rounded * steps[:, None]
    conv.weight.copy_(((rounded * steps[:, None]).view_as(kernel) / unit).to(conv.weight))
    if conv.bias is not None:
        conv.bias.add_((error @ mean).to(conv.bias))


def feed_back(weights: Tensor, covariance: Tensor, steps: Tensor) -> Tensor:
    """Return integers q for which the outputs of q s are nearest to those of ``weights`` over inputs of that covariance.

    The largest weight of a row, which sets its step, stays at its limit: rounding again gives the same integers.

    Args:
        weights: [O, K], float64.
        covariance: of the inputs, [K, K].
        steps: s of each row, [O]: the largest magnitude over 127.
    """
    count = weights.shape[1]
    spread = covariance.diagonal().mean().clamp_min(1e-12)
    damped = covariance + DAMPING * spread * torch.eye(count, dtype=covariance.dtype, device=covariance.device)
    # The inputs that vary most come first, while many columns are left to make good for them.
    order = torch.argsort(damped.diagonal(), descending=True)
    factor = torch.linalg.cholesky(torch.linalg.inv(damped[order][:, order]), upper=True)
    left, out = weights[:, order].clone(), torch.zeros_like(weights)
    largest = weights[:, order].abs().argmax(dim=1)
    limit = torch.sign(weights[:, order].gather(1, largest[:, None])[:, 0]) * WEIGHT_LIMIT
    for k in range(count):
        q = (left[:, k] / steps).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        q = torch.where(largest == k, limit, q)
        out[:, k] = q
        error = (left[:, k] - q * steps) / factor[k, k]
        left[:, k + 1 :] -= error[:, None] * factor[k, k + 1 :]
    return out[:, torch.argsort(order)]
