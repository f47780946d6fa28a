"""The exact network in torch: integers held in float32 and float64, where every operation on them is exact.

Streams and everything between convolutions are float32 [B, h, w, C] with integer values below 2^24, so that a product, a
sum, a fused multiply-add or a power of two gives the same number on any device; rounding is to even. Only the heads take
float64. Tests compare it with an implementation in int64.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ddpm_codec.nn.codec_net import STRIDE, CodecNetConfig
from ddpm_codec.nn.exact.kernels import choose_kernels
from ddpm_codec.nn.exact.layer import ROUND, Layer, Scratch
from ddpm_codec.nn.exact.parameters import (
    COEFFICIENT_INDEX_RANGE,
    INDEX_SHIFT,
    MEAN_SHIFT,
    PICTURE_REACH,
    PICTURE_SHIFT,
    PIXEL_INDEX_RANGE,
    Array,
    Convolution,
    ExactParameters,
)
from ddpm_codec.nn.exact.windows import Window, plan_windows
from ddpm_codec.nn.integer import LOG_VAR_INDICES, IntegerPrediction
from ddpm_codec.workers import Workers

CHUNK_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Pixels that go through the network at once: on a CPU as many as its caches like."""


class ExactTrunk:
    """The layers under the heads on a device, and whatever layers read their output.

    Args:
        config: widths and depths.
        layers: by name, checked; those of a trunk and others that read a stream.
        picture_multiplier: of the noisy picture before the stem, per level.
        device: where to run.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(
        self,
        config: CodecNetConfig,
        layers: Mapping[str, Convolution],
        picture_multiplier: Array,
        device: torch.device,
        kernels: str | None = None,
    ) -> None:
        self.kernels = kernels or choose_kernels(device, layers.values())
        self.device = device
        self._config = config
        scratch = Scratch(device)
        self.layers = {
            name: Layer(_reordered(name, layer), device, self.kernels, scratch) for name, layer in layers.items()
        }
        self._picture_multiplier = torch.from_numpy(picture_multiplier.astype(np.float64)).to(device)

    def __call__(self, picture: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return (the clamped picture in float64, the outer stream) for a picture int64 [B, 3, H, W]."""
        picture = picture.clamp(-PICTURE_REACH, PICTURE_REACH).double()
        scaled = round_shift(picture * self._picture_multiplier[level], PICTURE_SHIFT)
        # The stem reads 16 bits; clamped a little beyond, float32 holds all that matters.
        read = unshuffle(scaled.clamp_(-65536.0, 65536.0).add_(ROUND).float())
        outer = self.layers["stem"](read, level, saturate=True)
        for index in range(self._config.outer_blocks):
            outer = self._block(f"before.{index}", outer, level)
        inner = self.layers["down"](outer, level, saturate=True)
        for index in range(self._config.mid_blocks):
            inner = self._block(f"middle.{index}", inner, level)
        batch, height, width, _ = inner.shape
        # Outputs of `up` are ordered (row, column, channel), see _reordered: a spread-out pixel is a view.
        spread = outer.view(batch, height, 2, width, 2, -1).transpose(2, 3)
        gathered = spread.clone(memory_format=torch.contiguous_format).view(batch, height, width, -1)
        self.layers["up"].add_to(gathered, inner, level)
        spread.copy_(gathered.view(spread.shape))
        for index in range(self._config.outer_blocks):
            outer = self._block(f"after.{index}", outer, level)
        return picture, outer

    def _block(self, name: str, stream: Tensor, level: int) -> Tensor:
        inner = self.layers[f"{name}.first"](stream, level)
        return self.layers[f"{name}.second"].add_to(stream, inner, level)


Integers = tuple[Array, NDArray[np.int16] | None, NDArray[np.int16] | None]


class Executor(Protocol):
    """An exact network that runs somewhere."""

    device: torch.device
    config: CodecNetConfig

    def integers(self, picture: Array, level: int, *, pixels: bool, coefficients: bool) -> Integers:
        """See :meth:`ExactExecutor.integers`."""
        ...


def make_executor(parameters: ExactParameters, device: torch.device) -> Executor:
    """Return the fastest executor of an exact network on a device.

    Args:
        parameters: checked.
        device: where to run.
    """
    if device.type == "cpu":
        # Imported here: the compiler takes some time to load.
        from ddpm_codec.compilation import compiles
        from ddpm_codec.nn.exact.fused import FusedExecutor

        if compiles():
            return FusedExecutor(parameters)
    return ExactExecutor(parameters, device)


class ExactExecutor:
    """An exact network on a device, all of it in torch. Several threads may use it.

    Args:
        parameters: checked.
        device: where to run.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(self, parameters: ExactParameters, device: torch.device, kernels: str | None = None) -> None:
        multiplier, self.config = parameters.heads.picture_multiplier, parameters.config
        self._trunk = ExactTrunk(parameters.config, parameters.layers, multiplier, device, kernels)
        self.kernels, self.device, self._layers = self._trunk.kernels, device, self._trunk.layers
        self._heads = {
            name: torch.from_numpy(values.astype(np.float64)).to(device)
            for name, values in vars(parameters.heads).items()
        }

    @torch.no_grad()
    def integers(self, picture: Array, level: int, *, pixels: bool, coefficients: bool) -> Integers:
        """Apply the network to a picture int64 [B, 3, H, W].

        Args:
            picture: (grey - 127.5) 2**PICTURE_BITS.
            level: row of the tables.
            pixels: whether the variance indices of sub-pixels are wanted.
            coefficients: whether those of coefficients are.

        Returns:
            (mean int64 [B, 3, H, W], variance index int16 of sub-pixels [B, 3, H, W], of coefficients [B, D, H/8, W/8]).
        """
        # A caller's autocast would round the integers of matrix products.
        with torch.autocast(self.device.type, enabled=False):
            found = self._evaluate(torch.from_numpy(picture).to(self.device), level, pixels, coefficients)
        mean, *indices = found
        of_pixels, of_coefficients = (None if one is None else one.to(torch.int16).cpu().numpy() for one in indices)
        return mean.to(torch.int64).cpu().numpy(), of_pixels, of_coefficients

    def _evaluate(
        self, picture: Tensor, level: int, pixels: bool, coefficients: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        picture, outer = self._trunk(picture, level)
        heads, base = self._heads, self._heads["index_base"][level]
        v = self._layers["pixel_head"].sums(outer).double()
        skip = unshuffle(picture * heads["mean_skip"][level])
        mean = torch.addcmul(skip, v[..., :12], heads["mean_multiplier"][level])
        of_pixels = of_coefficients = None
        if pixels:
            index = round_shift(v[..., 12:] * heads["pixel_multiplier"], INDEX_SHIFT).clamp_(*PIXEL_INDEX_RANGE)
            of_pixels = to_picture(index.add_(base).clamp_(0, LOG_VAR_INDICES - 1))
        if coefficients:
            sums = self._layers["variance_second"].sums(self._layers["variance_first"](outer, level)).double()
            logs = torch.addcmul(heads["coefficient_bias"][level], sums, heads["coefficient_multiplier"])
            index = round_shift(logs, INDEX_SHIFT).clamp_(*COEFFICIENT_INDEX_RANGE)
            of_coefficients = index.add_(base).clamp_(0, LOG_VAR_INDICES - 1).permute(0, 3, 1, 2)
        return to_picture(round_shift(mean, MEAN_SHIFT)), of_pixels, of_coefficients


class ExactDenoiser:
    """An :class:`~ddpm_codec.nn.integer.IntegerDenoiser`: an exact network over the levels of one chain.

    Args:
        executor: the network.
        rows: its level for each level of the chain from ``first`` on, cleanest first.
        first: level of the chain below which a pixel decoder takes over: there is nothing to ask for.
    """

    def __init__(self, executor: Executor, rows: tuple[int, ...], first: int = 0) -> None:
        self._executor, self._rows = executor, dict(enumerate(rows, first))

    def coefficients(self, picture: Array, level: int) -> IntegerPrediction:
        """See :class:`~ddpm_codec.nn.integer.IntegerDenoiser`."""
        mean, _, index = self._predict(picture, level, pixels=False, coefficients=True)
        return IntegerPrediction(mean, index)

    def pixels(self, picture: Array, level: int) -> IntegerPrediction:
        """See :class:`~ddpm_codec.nn.integer.IntegerDenoiser`."""
        mean, index, _ = self._predict(picture, level, pixels=True, coefficients=False)
        return IntegerPrediction(mean, index)

    def both(self, picture: Array, level: int) -> tuple[IntegerPrediction, IntegerPrediction]:
        """Return what :meth:`pixels` and :meth:`coefficients` do, for hardly more than one of them."""
        mean, pixels, coefficients = self._predict(picture, level, pixels=True, coefficients=True)
        return IntegerPrediction(mean, pixels), IntegerPrediction(mean, coefficients)

    def _predict(
        self, picture: Array, level: int, *, pixels: bool, coefficients: bool
    ) -> tuple[Array, NDArray[np.int16], NDArray[np.int16]]:
        """Apply the network to some tiles at a time, or to parts of large ones, by as many workers as there are.

        What was not asked for is empty.
        """
        executor, row, (count, _, height, width) = self._executor, self._rows[level], picture.shape
        mean = np.empty(picture.shape, np.int64)
        of_pixels = np.empty(picture.shape if pixels else 0, np.int16)
        eighth = count, executor.config.coefficients, height // STRIDE, width // STRIDE
        of_coefficients = np.empty(eighth if coefficients else 0, np.int16)

        def evaluate(window: Window) -> None:
            images, rows, columns = window
            part = picture[images, :, rows.seen, columns.seen]
            found = executor.integers(part, row, pixels=pixels, coefficients=coefficients)
            mean[images, :, rows.wanted, columns.wanted] = found[0][..., rows.own, columns.own]
            if found[1] is not None:
                of_pixels[images, :, rows.wanted, columns.wanted] = found[1][..., rows.own, columns.own]
            if found[2] is not None:
                into = of_coefficients[images, :, _blocks(rows.wanted), _blocks(columns.wanted)]
                into[:] = found[2][..., _blocks(rows.own), _blocks(columns.own)]

        if count:
            kind = executor.device.type
            workers = Workers(1 if kind == "cuda" else None)
            shape = count, height, width
            workers.map(evaluate, plan_windows(shape, executor.config.reach, workers, CHUNK_PIXELS[kind]))
        return mean, of_pixels, of_coefficients


def _blocks(pixels: slice) -> slice:
    return slice(pixels.start // STRIDE, pixels.stop // STRIDE)


def _reordered(name: str, layer: Convolution) -> Convolution:
    """Order the outputs of ``up`` by (row, column, channel), so that spreading its pixels out is a view."""
    if name != "up" or layer.rescaling is None:
        return layer
    channels = len(layer.offset) // 4
    order = np.arange(4 * channels).reshape(channels, 4).T.ravel()
    scale = layer.rescaling
    rescaling = type(scale)(
        scale.pre_shift[order], scale.multiplier[:, order], scale.bias[:, order], scale.shift[order]
    )
    return type(layer)(layer.weight[order], layer.offset[order], layer.stride, layer.reading, rescaling)


def round_shift(values: Tensor, shift: int) -> Tensor:
    """Return values / 2^shift rounded half to even; values are float64 integers below 2^53."""
    return torch.mul(values, 2.0**-shift).round_()


def unshuffle(picture: Tensor) -> Tensor:
    """Fold [B, C, H, W] into [B, H/2, W/2, 4C], channel = 4 c + 2 row + column."""
    return functional.pixel_unshuffle(picture, 2).permute(0, 2, 3, 1).contiguous()


def to_picture(values: Tensor) -> Tensor:
    """Unfold [B, H/2, W/2, 4C] into [B, C, H, W]."""
    return functional.pixel_shuffle(values.permute(0, 3, 1, 2), 2)
