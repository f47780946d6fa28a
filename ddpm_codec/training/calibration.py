"""Calibration: choose quantiser steps on training crops, and which inputs need two bytes.

Each channel gets the step that minimises the squared rounding error of its sampled values. Layers that read the same
residual stream share its integer unit: with f the unit's reciprocal (in u = 4x/3, the argument of the dyadic hard-swish) an
activation rounds in steps of 2^p / (8 f^2) and a plain reading in steps of 2^e / f, so f is chosen for which the wanted steps
lie nearest to such powers, and they are moved there. :mod:`ddpm_codec.nn.exact` has the arithmetic behind this.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ddpm_codec.diffusion.gaussian import q_sample
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.nn.codec_net import Layer, Trunk
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.quantization import BYTE, LARGEST_SHIFT, LOBE, STREAM_LIMIT, WIDE, Quantizer, unit_offset
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.objective import CLEAN_JITTER
from ddpm_codec.training.validation import validation_bound_bpd
from ddpm_codec.training.weight_rounding import round_weights

SAMPLES = 1500
"""Positions sampled per layer and batch."""

STREAM_MARGIN = 1.25
"""Headroom of a stream, as a factor over the largest magnitude that calibration saw, before it saturates."""

WIDE_FROM_BPD = 0.004
"""Inputs whose rounding to one byte costs more bits/dim than this get two bytes."""

LEVELS = 12
"""Number of noise levels to sample."""

CROP_PIXELS = 3 << 16
"""Pixels of all crops to sample, over all levels."""

_TOPS = 28


class _Watch:
    """Records what layers read and how far streams reach while a network runs."""

    def __init__(self, net: Trunk) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        self.reach: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)
        self._handles = []
        for name, layer in net.layers().items():
            if layer.quantizer is not None:
                self._handles.append(layer.register_forward_pre_hook(self._read(name)))
        for name, stream in net.streams().items():
            for block in stream.blocks:
                self._handles.append(block.register_forward_hook(self._pass(name)))

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()

    def _read(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().float().permute(0, 2, 3, 1).flatten(0, 2)
            chosen = torch.randint(len(values), (SAMPLES,), generator=self._generator)
            self.inputs.setdefault(name, []).append(values[chosen.to(values.device)])

        return hook

    def _pass(self, stream: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            for values in (inputs[0], output):
                most = values.detach().float().abs().amax(dim=(0, 2, 3))
                self.reach[stream] = torch.maximum(self.reach.get(stream, most), most)

        return hook


def calibrate_on(
    denoiser: CodecDenoiser, sampler: CropSampler, transform: BlockTransform, config: TrainConfig, device: torch.device
) -> None:
    """Calibrate on random training crops and round the weights.

    Levels are spread over the whole range of the run (see :func:`calibrate`).
    """
    count = max(LEVELS, CROP_PIXELS // config.crop**2)
    x_0 = to_model_values(sampler.batch(0, count, slice(None)), device)
    x_0 = x_0.contiguous(memory_format=torch.channels_last)
    levels = torch.linspace(config.log_snr_max + CLEAN_JITTER, config.log_snr_min, LEVELS, dtype=torch.float32)
    exact = replace(config, dtype="float32")
    calibrate(denoiser, x_0, levels, lambda: validation_bound_bpd(denoiser, transform, x_0[: count // 2], exact))
    round_weights(denoiser.net, lambda: run_at_levels(denoiser, x_0, levels, whole=False))


@torch.no_grad()
def calibrate(denoiser: CodecDenoiser, x_0: Tensor, log_snr: Tensor, cost: Callable[[], float]) -> None:
    """Choose every step of the denoiser's network.

    Args:
        denoiser: float weights, on the device of x_0; its quantisers are overwritten and stay switched off.
        x_0: training crops in model values, [B, 3, H, W].
        log_snr: the levels to watch, [G]; crop k is noised to level k mod G.
        cost: bound of the denoiser in bits/dim, as it computes now.
    """
    calibrate_network(denoiser.net, lambda: run_at_levels(denoiser, x_0, log_snr, whole=False), cost)
    head, variance = (_quantizer(layer) for layer in (denoiser.net.pixel_head, denoiser.net.variance_first))
    variance.step.copy_(head.step)
    variance.wide.copy_(head.wide)


@torch.no_grad()
def calibrate_network(net: Trunk, run: Callable[[], object], cost: Callable[[], float]) -> None:
    """Choose every step of a network, and the units of its streams.

    Args:
        net: float weights; its quantisers are overwritten and stay switched off.
        run: evaluates the network on training crops, in as many batches as it likes.
        cost: what coding costs with the network as it computes now, in bits/dim.
    """
    net.quantize(False)
    watch = _Watch(net)
    try:
        run()
    finally:
        watch.stop()
    layers = net.layers()
    for name, seen in watch.inputs.items():
        quantizer = _quantizer(layers[name])
        quantizer.wide.zero_()
        quantizer.step.copy_(best_steps(torch.cat(seen), quantizer))
    finest: dict[str, Tensor] = {}
    for stream, (_, names) in net.streams().items():
        readers = [_quantizer(layers[name]) for name in names]
        offset = getattr(net, f"{stream}_offset")
        offset.copy_(_share_unit(readers, watch.reach[stream]))
        finest |= {name: _finest(reader, offset) for name, reader in zip(names, readers, strict=True)}
    _choose_wide(layers, finest, cost)


@torch.no_grad()
def measure_reach(net: Trunk, run: Callable[[], object]) -> dict[str, Tensor]:
    """Return the largest magnitude of every layer's output, per channel, with rounded weights and activations.

    Args:
        net: calibrated; left with rounding switched off.
        run: evaluates the network on training crops, in as many batches as it likes.
    """
    reach: dict[str, Tensor] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            most = output.abs().amax(dim=(0, 2, 3)).cpu()
            reach[name] = torch.maximum(reach.get(name, most), most)

        return hook

    handles = [layer.register_forward_hook(look(name)) for name, layer in net.layers().items()]
    net.quantize(True)
    try:
        run()
    finally:
        net.quantize(False)
        for handle in handles:
            handle.remove()
    return reach


@torch.no_grad()
def run_at_levels(denoiser: CodecDenoiser, x_0: Tensor, log_snr: Tensor, *, whole: bool = True) -> None:
    """Evaluate a denoiser on crops, each with the same noise every time.

    Args:
        denoiser: on the device of x_0.
        x_0: training crops in model values, [B, 3, H, W].
        log_snr: levels, [G].
        whole: every crop at each level; else crop k at level k mod G.
    """
    generator = torch.Generator().manual_seed(0)
    for index, level in enumerate(log_snr):
        part = x_0 if whole else x_0[index :: len(log_snr)]
        if len(part):
            levels = level.to(part.device).expand(len(part))
            noise = torch.randn(part.shape, generator=generator, dtype=torch.float32).to(part.device)
            denoiser(q_sample(part, levels, noise), levels)


def best_steps(values: Tensor, quantizer: Quantizer) -> Tensor:
    """Return the step of each channel that rounds ``values`` [N, C] with the least squared error, [C]."""
    if quantizer.signed:
        reach, floor = 2.0 * values.abs().amax(dim=0), 1e-3
    else:
        # Steps finer than those of the hard-swish's negative lobe alone are of no use.
        reach, floor = LOBE + values.amax(dim=0), LOBE + 0.02
    best = torch.full_like(reach, torch.inf)
    steps = torch.ones_like(reach)
    for share in torch.logspace(-1.0, 0.02, _TOPS, dtype=torch.float32).tolist():
        step = (share * reach).clamp_min(floor) / (quantizer.largest - 1)
        error = (quantizer.quantize(values, step) * step - values).square().mean(dim=0)
        better = error < best
        best, steps = torch.where(better, error, best), torch.where(better, step, steps)
    return steps


def _share_unit(readers: list[Quantizer], reach: Tensor) -> Tensor:
    """Choose the unit of a stream, move the steps of its readers to what it allows; return 4 in that unit, [C]."""
    limit = STREAM_LIMIT / (4.0 / 3.0 * STREAM_MARGIN * reach.clamp_min(1e-3))
    best = torch.full_like(reach, torch.inf)
    chosen = torch.zeros_like(reach)
    for sixteenth in range(32):
        offset = unit_offset(limit * 2.0 ** (-sixteenth / 16.0))
        miss = sum((torch.log2(reader.step) - torch.log2(_allowed(reader, offset))).square() for reader in readers)
        better = torch.as_tensor(miss) < best
        best, chosen = torch.where(better, torch.as_tensor(miss), best), torch.where(better, offset, chosen)
    for reader in readers:
        reader.step.copy_(_allowed(reader, chosen))
    return chosen


def _finest(reader: Quantizer, offset: Tensor) -> Tensor:
    """Return the steps of the lowest rung, p = 0 or e = 0, of the ladder of a stream with 4 = ``offset`` units."""
    unit = 4.0 / offset
    return 0.75 * (unit if reader.signed else unit * unit / 8.0)


def _allowed(reader: Quantizer, offset: Tensor) -> Tensor:
    """Return the steps nearest to those of ``reader`` that a stream with 4 = ``offset`` units can be read in."""
    finest = _finest(reader, offset)
    power = torch.round(torch.log2(reader.step / finest)).clamp(0.0, LARGEST_SHIFT)
    if not reader.signed:
        # The whole lobe of the hard-swish has to fit below the zero point.
        power = torch.maximum(power, torch.ceil(torch.log2(LOBE / reader.largest / finest)))
    return finest * torch.exp2(power)


def _choose_wide(layers: dict[str, Layer], finest: dict[str, Tensor], cost: Callable[[], float]) -> None:
    """Give two bytes to activations whose rounding to one costs too much.

    Their steps become 32 times finer, five rungs of a ladder, but no finer than ``finest`` for layers that read a stream:
    there a step is a product of the stream's own integers, and two bytes hold all that one byte held 32 steps apart.
    """
    for name, layer in layers.items():
        quantizer = layer.quantizer
        if quantizer is None or quantizer.signed:
            continue
        layer.quantize(True)
        narrow, step = cost(), quantizer.step.clone()
        quantizer.wide.fill_(1.0)
        layer.quantize(True)
        quantizer.step.mul_((BYTE + 1) / (WIDE + 1))
        if name in finest:
            quantizer.step.copy_(torch.maximum(quantizer.step, finest[name]))
        if narrow - cost() < WIDE_FROM_BPD:
            quantizer.wide.zero_()
            quantizer.step.copy_(step)
        layer.quantize(False)


def _quantizer(layer: Layer) -> Quantizer:
    if layer.quantizer is None:
        raise TypeError("the layer has no quantiser")
    return layer.quantizer
