"""The U-Net of Nichol & Dhariwal 2021 and Dhariwal & Nichol 2021 once more, in functions over a state dict with their names.

Written for the tests from the papers' description, slow and plain: every picture and every head for itself. A lookup hands
out the weights by name and shape, so the same functions draw a random state dict and read it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Lookup = Callable[..., Tensor]
"""(name, shape...) -> the weight of that name."""


@dataclass(frozen=True)
class Architecture:
    """What their flags decide; ``sides`` are those of the feature maps that attend."""

    image_size: int = 16
    channels: int = 32
    multipliers: tuple[float, ...] = (1, 2)
    blocks: int = 1
    sides: tuple[int, ...] = (8,)
    heads: int = 4
    head_channels: int = -1
    new_order: bool = False
    scale_shift: bool = True
    updown: bool = False
    learn_sigma: bool = False
    time_scale: float = 1.0


def random_state(net: Architecture, seed: int) -> dict[str, Tensor]:
    """Draw every weight that :func:`unet` asks for, so that activations are of order one and nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def draw(name: str, *shape: int) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        gain = len(shape) == 1 and name.endswith("weight")
        state[name] = 1.0 + 0.2 * noise if gain else noise * max(math.prod(shape[1:]), 16) ** -0.5
        return state[name]

    unet(draw, net, torch.zeros(1, 3, net.image_size, net.image_size), 0.0)
    return state


def output(state: dict[str, Tensor], net: Architecture, pictures: Tensor, timesteps: list[float]) -> Tensor:
    """Return what the network says of each picture at its timestep."""

    def look(name: str, *shape: int) -> Tensor:
        assert state[name].shape == shape
        return state[name]

    parts = [unet(look, net, picture[None], timestep) for picture, timestep in zip(pictures, timesteps, strict=True)]
    return torch.cat(parts)


def unet(look: Lookup, net: Architecture, x: Tensor, timestep: float) -> Tensor:
    embedding = embed(look, net, timestep)
    widths = [int(multiplier * net.channels) for multiplier in net.multipliers]
    x = convolve(look, "input_blocks.0.0", x, widths[0])
    kept, number = [x], 1
    for level, width in enumerate(widths):
        for _ in range(net.blocks):
            x = block(look, net, f"input_blocks.{number}", x, embedding, width)
            kept.append(x)
            number += 1
        if level < len(widths) - 1:
            x = halve(look, net, f"input_blocks.{number}.0", x, embedding)
            kept.append(x)
            number += 1
    x = residual(look, net, "middle_block.0", x, embedding, widths[-1])
    x = attend(look, net, "middle_block.1", x)
    x = residual(look, net, "middle_block.2", x, embedding, widths[-1])
    number = 0
    for level in reversed(range(len(widths))):
        for count in range(net.blocks + 1):
            x = torch.cat([x, kept.pop()], dim=1)
            place = f"output_blocks.{number}"
            attends = x.shape[-1] in net.sides
            x = block(look, net, place, x, embedding, widths[level])
            if level and count == net.blocks:
                x = double(look, net, f"{place}.{2 if attends else 1}", x, embedding)
            number += 1
    return convolve(look, "out.2", functional.silu(normalise(look, "out.0", x)), 6 if net.learn_sigma else 3)


def embed(look: Lookup, net: Architecture, timestep: float) -> Tensor:
    """Return two layers over [cos, sin] of t at frequencies from 1 down to 1 / 10000, that one not reached."""
    half, width = net.channels // 2, 4 * net.channels
    angles = [net.time_scale * timestep * 10000.0 ** (-index / half) for index in range(half)]
    features = torch.tensor([[math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]])
    hidden = functional.silu(linear(look, "time_embed.0", features, width))
    return linear(look, "time_embed.2", hidden, width)


def block(look: Lookup, net: Architecture, place: str, x: Tensor, embedding: Tensor, width: int) -> Tensor:
    x = residual(look, net, f"{place}.0", x, embedding, width)
    return attend(look, net, f"{place}.1", x) if x.shape[-1] in net.sides else x


def residual(
    look: Lookup,
    net: Architecture,
    place: str,
    x: Tensor,
    embedding: Tensor,
    width: int,
    resample: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    hidden = resample(functional.silu(normalise(look, f"{place}.in_layers.0", x)))
    hidden = convolve(look, f"{place}.in_layers.2", hidden, width)
    time = linear(look, f"{place}.emb_layers.1", functional.silu(embedding), 2 * width if net.scale_shift else width)
    time = time[:, :, None, None]
    if net.scale_shift:
        hidden = normalise(look, f"{place}.out_layers.0", hidden) * (1.0 + time[:, :width]) + time[:, width:]
    else:
        hidden = normalise(look, f"{place}.out_layers.0", hidden + time)
    hidden = convolve(look, f"{place}.out_layers.3", functional.silu(hidden), width)
    x = resample(x)
    if x.shape[1] != width:
        weight = look(f"{place}.skip_connection.weight", width, x.shape[1], 1, 1)[:, :, 0, 0]
        bias = look(f"{place}.skip_connection.bias", width)
        x = torch.einsum("oi,bihw->bohw", weight, x) + bias[None, :, None, None]
    return x + hidden


def attend(look: Lookup, net: Architecture, place: str, x: Tensor) -> Tensor:
    width, places = x.shape[1], x.shape[2] * x.shape[3]
    heads = net.heads if net.head_channels == -1 else width // net.head_channels
    size = width // heads
    flat = normalise(look, f"{place}.norm", x).reshape(width, places)
    weight, bias = look(f"{place}.qkv.weight", 3 * width, width, 1), look(f"{place}.qkv.bias", 3 * width)
    rows = weight[:, :, 0] @ flat + bias[:, None]
    mixed = []
    for head in range(heads):
        if net.new_order:
            query, key, value = (rows[part * width + head * size :][:size] for part in range(3))
        else:
            query, key, value = (rows[(3 * head + part) * size :][:size] for part in range(3))
        share = torch.softmax(query.T @ key / math.sqrt(size), dim=1)
        mixed.append(value @ share.T)
    weight, bias = look(f"{place}.proj_out.weight", width, width, 1), look(f"{place}.proj_out.bias", width)
    return x + (weight[:, :, 0] @ torch.cat(mixed) + bias[:, None]).reshape(x.shape)


def halve(look: Lookup, net: Architecture, place: str, x: Tensor, embedding: Tensor) -> Tensor:
    if net.updown:
        return residual(look, net, place, x, embedding, x.shape[1], pooled)
    # A stride of two, all sides padded: every second pixel of the convolution at full size.
    return convolve(look, f"{place}.op", x, x.shape[1])[:, :, ::2, ::2]


def double(look: Lookup, net: Architecture, place: str, x: Tensor, embedding: Tensor) -> Tensor:
    if net.updown:
        return residual(look, net, place, x, embedding, x.shape[1], repeated)
    return convolve(look, f"{place}.conv", repeated(x), x.shape[1])


def pooled(x: Tensor) -> Tensor:
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4.0


def repeated(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def normalise(look: Lookup, name: str, x: Tensor) -> Tensor:
    """Normalise 32 groups of channels to mean 0 and variance 1."""
    width = x.shape[1]
    groups = x.reshape(x.shape[0], 32, -1)
    centred = groups - groups.mean(dim=2, keepdim=True)
    scaled = (centred / torch.sqrt(centred.square().mean(dim=2, keepdim=True) + 1e-5)).reshape(x.shape)
    gain, bias = look(f"{name}.weight", width), look(f"{name}.bias", width)
    return scaled * gain[None, :, None, None] + bias[None, :, None, None]


def convolve(look: Lookup, name: str, x: Tensor, width: int) -> Tensor:
    weight, bias = look(f"{name}.weight", width, x.shape[1], 3, 3), look(f"{name}.bias", width)
    return functional.conv2d(x, weight, bias, padding=1)


def linear(look: Lookup, name: str, x: Tensor, width: int) -> Tensor:
    return x @ look(f"{name}.weight", width, x.shape[1]).T + look(f"{name}.bias", width)
