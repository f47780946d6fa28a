"""Messages: the data sent for one patch and one step, most expensive dimensions first.

A message covers a range of cost classes. It holds the rate (bits spent per expected bit), the outlying dimensions whose mean
has to jump (a codebook of samples does not reach them, and a remaining error would grow from step to step), and the indices
of the codewords.
"""

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.steps import JUMP, StepLaw
from ddpm_codec.coding.allocation import COST_BITS, UNCODED, Classes, class_costs
from ddpm_codec.coding.channel_simulation import RATE_BITS, ChannelCode, Plan
from ddpm_codec.coding.codebook import Labels
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MESSAGE_BITS = 1 << 15
"""A step of a patch is cut into messages of about this many expected bits."""

MAX_MESSAGES = 8
"""Maximum number of messages per step of a patch."""

FAR = 4.0
"""The encoder makes the mean jump if q is farther away than this, in standard deviations of p."""


def _rates() -> Ints:
    with localcontext(Context(prec=40)):
        return np.array(
            [int(Decimal(2) ** (RATE_BITS + Decimal(code - 16) / 16)) for code in range(64)], dtype=np.int64
        )


_RATES = _rates()
"""Possible rates of a message, 4.4 % apart, from 1/2 to 7.7, with RATE_BITS fractional bits."""

_MAX_JUMP = 1 << 20


def cut_classes(classes: Classes) -> list[tuple[int, int]]:
    """Return the class range (first, end) of each message of a patch, given the classes [N] of its dimensions."""
    costs = class_costs() * np.bincount(classes, minlength=UNCODED + 1)[:UNCODED]
    total = int(costs.sum())
    count = max(1, min(MAX_MESSAGES, total // (MESSAGE_BITS << COST_BITS)))
    # A message ends with the class that crosses its share of the total.
    shares = [total * share // count for share in range(1, count)]
    ends = (np.searchsorted(np.cumsum(costs), shares) + 1).tolist()
    edges = sorted({0, UNCODED, *ends})
    return list(pairwise(edges))


def message_classes(classes: Classes, limits: tuple[int, int]) -> Classes:
    """Return ``classes`` with those outside the message set to UNCODED."""
    inside = (classes >= limits[0]) & (classes < limits[1])
    return np.where(inside, classes, UNCODED).astype(np.uint8)


@dataclass(frozen=True)
class CodedMessage:
    """An encoded message.

    Attributes:
        data: its bytes.
        ideal_bits: KL( q || p ) of its dimensions.
        order: flat indices of these dimensions.
        labels: their labels.
        law: p, with jumps.
    """

    data: bytes
    ideal_bits: float
    order: Ints
    labels: Labels
    law: StepLaw


def encode_message(
    code: ChannelCode, law: StepLaw, target: Floats, classes: Classes, slack: float, threads: int
) -> CodedMessage:
    """Choose the codewords of a message.

    Args:
        code: the channel code.
        law: p.
        target: mean of q in units of latents, flat, [N].
        classes: of all dimensions, UNCODED outside the message, [N].
        slack: bits spent per bit of KL.
        threads: number of search threads.
    """
    chosen = np.flatnonzero(classes < UNCODED)
    _, distance = law.compared(target[chosen], chosen)
    far = np.abs(distance) > FAR
    places, jumps = chosen[far], np.rint(distance[far] / JUMP).astype(np.int64)
    moved = law.jumped(places, jumps)
    ratio, distance = moved.compared(target[chosen], chosen)
    kl_left = float(moved.kl_bits(target[chosen], chosen).sum())
    expected = float((class_costs()[classes[chosen]]).sum()) / (1 << COST_BITS)
    rate = slack * kl_left / max(expected, 1.0)
    rate_code = int(np.abs(_RATES - rate * (1 << RATE_BITS)).argmin())
    plan = code.plan(classes, int(_RATES[rate_code]))
    quadratic, linear = np.zeros(len(classes), np.float32), np.zeros(len(classes), np.float32)
    quadratic[chosen] = 0.5 * (1.0 - ratio)
    linear[chosen] = ratio * distance
    words = code.encode(plan, quadratic, linear, threads)
    head = bytearray()
    write_varint(head, 2 * rate_code + bool(len(places)))
    if len(places):
        _write_jumps(head, plan, places, jumps)
    ideal = float(law.kl_bits(target[chosen], chosen).sum())
    return CodedMessage(bytes(head) + words, ideal, plan.order, code.decode(plan, words), moved)


def decode_message(code: ChannelCode, law: StepLaw, classes: Classes, reader: Reader) -> tuple[Ints, Labels, StepLaw]:
    """Read a message.

    Args:
        code: the channel code.
        law: p, with the jumps of earlier messages.
        classes: of all dimensions, UNCODED outside the message, [N].
        reader: positioned at the message.

    Returns:
        Its dimensions, their labels, and p with the jumps of this message.

    Raises:
        FormatError: the message is damaged.
    """
    rate_code, jumping = divmod(reader.varint(2 * len(_RATES) - 1), 2)
    plan = code.plan(classes, int(_RATES[rate_code]))
    places, jumps = _read_jumps(reader, plan, reader.varint(len(plan.order)) if jumping else 0)
    labels = code.decode(plan, reader.take(plan.byte_count))
    return plan.order, labels, law.jumped(places, jumps)


def _write_jumps(out: bytearray, plan: Plan, places: Ints, jumps: Ints) -> None:
    """Append the number of jumps, then for each, in coding order, the gap to the previous one and its signed size."""
    rank = np.zeros(int(plan.order.max(initial=-1)) + 1, np.int64)
    rank[plan.order] = np.arange(len(plan.order))
    ranks = rank[places]
    by_rank = np.argsort(ranks)
    write_varint(out, len(places))
    last = -1
    for place, jump in zip(ranks[by_rank].tolist(), jumps[by_rank].tolist(), strict=True):
        write_varint(out, place - last - 1)
        write_varint(out, 2 * jump if jump > 0 else -2 * jump - 1)
        last = place


def _read_jumps(reader: Reader, plan: Plan, count: int) -> tuple[Ints, Ints]:
    ranks, jumps = np.zeros(count, np.int64), np.zeros(count, np.int64)
    last = -1
    for number in range(count):
        last += 1 + reader.varint(len(plan.order))
        code = reader.varint(2 * _MAX_JUMP)
        if last >= len(plan.order):
            raise FormatError("its entropy-coded data is damaged")
        ranks[number], jumps[number] = last, -(code + 1 >> 1) if code & 1 else code >> 1
    return plan.order[ranks], jumps
