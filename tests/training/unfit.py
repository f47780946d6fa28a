"""A codec network that no calibration makes fit into integers."""

from torch import Tensor

UNFIT = (
    "cannot train with rounding, the network does not fit into integers: "
    "layer middle.0.first: its scales are too large for integer multipliers"
)


def make_unfit(weights: dict[str, Tensor]) -> None:
    """Scale a channel of ``weights``, in place, by more than a multiplier of eleven bits holds beside the least offset, 2.

    What reads that channel ignores it, so that nothing else overflows.
    """
    weights["net.middle.0.modulation.bias"][3] = 1e10
    weights["net.middle.0.second.conv.weight"][:, 3] = 0.0
