"""The chains of a frozen model with a pixel decoder, and which of them files use."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ddpm_codec.diffusion.chain import Chain, select_chain
from ddpm_codec.diffusion.crossing import table_above
from ddpm_codec.diffusion.measurement import LevelMeasurement
from ddpm_codec.errors import InputError
from ddpm_codec.models.frozen import Key
from ddpm_codec.units import GREY_PER_UNIT, nats_to_bits

LONGEST_ABOVE = 16
"""Largest K above a crossing; there is a chain of every length up to this, as far as there are levels."""

MOST_DEFAULT_STEPS = 4
"""Largest K of the default chain: every step is a network evaluation."""

INDEX_OVERHEAD = 1.1
"""Bits that the indices of a progressive file spend, to one bit of KL."""

PROGRESSIVE_LEEWAY = 0.005
"""Progressive files have the fewest steps that cost at most this share more than the best: steps take time and some bytes."""


@dataclass(frozen=True)
class CrossingChains:
    """Chains above every crossing of a pixel decoder.

    Attributes:
        sigmas: for each (crossing, K), 1 / sqrt(snr) of the levels in model values, cleanest first.
        rows: the places of levels 1 to K in the measured grid.
        chain_bpd: what the chain costs, L_T and steps.
        decoder_bpd: L_0 of the decoder at each crossing.
    """

    sigmas: dict[Key, tuple[float, ...]]
    rows: dict[Key, tuple[int, ...]]
    chain_bpd: dict[Key, float]
    decoder_bpd: tuple[float, ...]

    def costs(self, overhead: float = 1.0) -> dict[Key, float]:
        """Return the whole bound over each chain in bits/dim, a bit of the chain counting as ``overhead`` bits."""
        return {key: self.decoder_bpd[key[0]] + overhead * bpd for key, bpd in self.chain_bpd.items()}


def chains_above(
    measured: LevelMeasurement, crossings: tuple[float, ...], decoder_nats: tuple[float, ...]
) -> CrossingChains:
    """Return the chains of the lowest bound, by dynamic programming, with level 0 pinned at each crossing.

    Args:
        measured: costs of steps between levels, and to the crossings.
        crossings: noise in grey levels.
        decoder_nats: L_0 of the decoder at each crossing, in nats per dimension.

    Raises:
        InputError: no level lies above a crossing.
    """
    sigmas: dict[Key, tuple[float, ...]] = {}
    rows: dict[Key, tuple[int, ...]] = {}
    costs: dict[Key, float] = {}
    for index, grey_levels in enumerate(crossings):
        table = table_above(measured, index)
        for steps in range(1, min(LONGEST_ABOVE, len(table.log_snr) - 1) + 1):
            chain, key = select_chain(table, steps), (index, steps)
            above = np.array(chain.log_snr[1:])
            sigmas[key] = (grey_levels / GREY_PER_UNIT, *np.exp(-0.5 * above).tolist())
            rows[key] = tuple(np.searchsorted(-measured.log_snr, -above).tolist())
            costs[key] = nats_to_bits(table.cost_nats(Chain(chain.log_snr)))
    return CrossingChains(sigmas, rows, costs, tuple(nats_to_bits(nats) for nats in decoder_nats))


def best_chain(
    costs: Mapping[Key, float], crossing: int | None, steps: int | None, most: int, leeway: float = 0.0
) -> Key:
    """Return the chain that files use: the fewest steps that cost hardly more than the least.

    Args:
        costs: of each chain, in bits/dim.
        crossing: index of the crossing that it has to have; None: any.
        steps: K that it has to have; None: at most ``most``.
        most: largest K.
        leeway: share of the least cost that it may cost more.

    Raises:
        InputError: there is no such chain.
    """
    wanted = {
        key: bpd
        for key, bpd in costs.items()
        if crossing in (None, key[0]) and (key[1] == steps if steps is not None else key[1] <= most)
    }
    if not wanted:
        known = sorted({own for _, own in costs})
        raise InputError(f"steps = {steps}: chains above a crossing have {known[0]} to {known[-1]} steps")
    limit = (1.0 + leeway) * min(wanted.values())
    return min((key for key, bpd in wanted.items() if bpd <= limit), key=lambda key: (key[1], wanted[key]))
