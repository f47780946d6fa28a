"""What a chain costs, added up from a level table: dynamic programming is compared with it."""

import numpy as np

from ddpm_codec.diffusion.chain import Chain, LevelTable


def chain_cost_nats(table: LevelTable, chain: Chain) -> float:
    """Return the bound of a chain, reconstruction + transitions + prior, in nats per dimension.

    Raises:
        ValueError: a level of the chain is not one of the table's.
    """
    candidates = table.log_snr.tolist()
    path = [candidates.index(level) for level in chain.log_snr]
    transitions = table.transition_nats[path[:-1], path[1:]]
    return float(np.sum([table.reconstruction_nats[path[0]], *transitions, table.prior_nats[path[-1]]]))
