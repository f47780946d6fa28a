"""The beginning of a run with rounding: calibrate, then switch trained and averaged network over."""

from collections.abc import Callable

from ddpm_codec.nn.codec_net import Trunk
from ddpm_codec.training.distributed import decide_in_first


def begin_rounding(trained: Trunk, averaged: Trunk, calibrate: Callable[[], None]) -> None:
    """Compute with rounded weights and activations from now on, with the same steps and units in both networks.

    A calibration replaces the weights as well. It is the first thing a run does, so the average begins with the new ones;
    that of a run which goes on keeps its own.

    Args:
        trained: the network, on the device of this process.
        averaged: its average.
        calibrate: chooses the steps of ``trained``, and rounds its weights, unless that is done; called in the first
            process alone.

    Raises:
        DdpmCodecError: what ``calibrate`` raises, in every process.
    """
    begins = not trained.calibrated
    decide_in_first(calibrate, [*trained.parameters(), *trained.buffers()])
    state, chosen = averaged.state_dict(), trained.state_dict() if begins else dict(trained.named_buffers())
    averaged.load_state_dict({key: chosen.get(key, value) for key, value in state.items()})
    for each in (trained, averaged):
        each.quantize(True)
