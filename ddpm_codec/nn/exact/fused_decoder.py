"""The exact pixel decoder on a CPU, convolutions in torch and all between them in compiled passes."""

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.exact import ends
from ddpm_codec.nn.exact.decoder_parameters import MEAN_LIMIT, ExactPixelDecoder, is_masked_network
from ddpm_codec.nn.exact.fused import FusedTrunk, Way
from ddpm_codec.nn.exact.fused_layer import FusedLayer, Memory, MemoryPool, Read
from ddpm_codec.nn.exact.kernels import choose_kernels
from ddpm_codec.nn.exact.passes import ADD, PASS_ON, SET

_NO_BYTES = np.empty((0, 0, 0, 0), np.uint8)


class FusedPixelDecoder:
    """Evaluates tiles, for :class:`~ddpm_codec.nn.exact.decoder_executor.PixelDecoderExecutor`; several threads may do so.

    Args:
        parameters: checked.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(self, parameters: ExactPixelDecoder, kernels: str | None = None) -> None:
        self._heads, self._config, self._memory = parameters.heads, parameters.config, MemoryPool()
        outer = {name: layer for name, layer in parameters.layers.items() if not is_masked_network(name)}
        self._trunk = FusedTrunk(parameters.config.trunk, outer, parameters.heads.picture_multiplier, kernels)
        masked = {name: layer for name, layer in parameters.layers.items() if is_masked_network(name)}
        chosen = kernels or choose_kernels(torch.device("cpu"), masked.values())
        self._masked = {name: FusedLayer(layer, chosen, whole=True) for name, layer in masked.items()}

    @torch.no_grad()
    def trunk(self, picture: NDArray[np.int64], level: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """See :meth:`~ddpm_codec.nn.exact.decoder_executor.PixelDecoderExecutor.trunk`."""
        heads, head = self._heads, self._trunk.layers["trunk_head"]
        batch, _, height, width = picture.shape
        mean = np.empty(picture.shape, np.int64)
        features = np.empty((batch, height, width, self._config.features), np.uint8)
        # A caller's autocast would round the integers of matrix products.
        with torch.autocast("cpu", enabled=False), self._memory.borrow() as memory:
            picture, skip = np.array(picture, np.int64, order="C"), int(heads.mean_skip[level])
            _, read = self._trunk(picture, level, memory, "trunk_head")
            for strip in head.strips(read):
                place, v = (strip.image, strip.row), head.sums(strip)
                ends.write_mean(v, picture, skip, heads.mean_multiplier[level], place, mean)
                ends.write_features(v, heads.feature_multiplier, place, features)
        return mean.clip(-MEAN_LIMIT, MEAN_LIMIT).astype(np.int32), features

    @torch.no_grad()
    def sums(
        self, mean: NDArray[np.int32], features: NDArray[np.uint8], x_0: NDArray[np.uint8], level: int
    ) -> NDArray[np.int32]:
        """See :meth:`~ddpm_codec.nn.exact.decoder_executor.PixelDecoderExecutor.sums`."""
        batch, _, height, width = x_0.shape
        out = np.empty((batch, height, width, 12), np.int32)
        with torch.autocast("cpu", enabled=False), self._memory.borrow() as memory:
            read = self._through_blocks(mean, features[:, :height, :width], x_0, level, memory)
            head = self._masked["parameter_head"]
            for strip in head.strips(read):
                v = head.sums(strip)
                images = slice(strip.image, strip.image + len(v))
                rows = slice(strip.row, strip.row + v.shape[1])
                out[images, rows] = v
        return out

    def _through_blocks(
        self, mean: NDArray[np.int32], features: NDArray[np.uint8], x_0: NDArray[np.uint8], level: int, memory: Memory
    ) -> Read:
        """Return what the head reads."""
        way, blocks = Way(self._masked, level, memory), self._config.blocks
        batch, _, height, width = x_0.shape
        stream = memory.take("masked stream", (batch, height, width, self._config.channels), np.int16)
        way.into(stream, "feature_stem", Read(np.ascontiguousarray(features), _NO_BYTES), SET)
        mean, x_0, multiplier = (
            np.ascontiguousarray(mean),
            np.ascontiguousarray(x_0),
            int(self._heads.residual_multiplier[level]),
        )
        read = way.bytes_for("masked_stem", batch, height, width)
        ends.read_residual(mean, x_0, multiplier, self._masked["masked_stem"].padding, *read)
        way.into(stream, "masked_stem", read, ADD)
        read = way.bytes_for("step_stem", batch, height, width)
        ends.read_steps(mean, x_0, multiplier, self._config.reach, *read)
        read = way.through("step_stem", read, stream, ADD, "blocks.0.gates" if blocks else "parameter_head")
        for index in range(blocks):
            name, following = f"blocks.{index}", f"blocks.{index + 1}.masked"
            if index:
                read = way.through(f"{name}.masked", read, None, PASS_ON, f"{name}.gates")
            read = way.through(f"{name}.gates", read, None, PASS_ON, f"{name}.mix")
            read = way.through(f"{name}.mix", read, stream, ADD, following if index + 1 < blocks else "parameter_head")
        return read
