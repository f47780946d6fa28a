"""The beginning of a run with rounding: calibrate, then switch trained and averaged network over."""

from collections.abc import Callable

from ddpm_codec.nn.codec_net import Trunk
from ddpm_codec.training.distributed import decide_in_first


def begin_rounding(trained: Trunk, averaged: Trunk, calibrate: Callable[[], None]) -> None:
    """Compute with rounded weights and activations from now on, the steps and units of both networks being the same.

    Args:
        trained: the network, on the device of this process.
        averaged: its average.
        calibrate: chooses the steps of ``trained`` unless they are chosen; called in the first process alone.

    Raises:
        DdpmCodecError: what ``calibrate`` raises, in every process.
    """
    decide_in_first(calibrate, trained.buffers())
    state, chosen = averaged.state_dict(), dict(trained.named_buffers())
    averaged.load_state_dict({key: chosen.get(key, value) for key, value in state.items()})
    for each in (trained, averaged):
        each.quantize(True)
