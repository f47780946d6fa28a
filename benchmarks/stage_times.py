"""Where the time of a run goes, function by function, and how fast byte convolutions are at their peak."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch

from ddpm_codec.nn.exact.kernels import KERNELS, Shape
from ddpm_codec.nn.exact.parameters import Convolution

PEAK = Shape(128, 128, 3, 1, 8191.0)
"""The largest convolution, whose products alone are what others are measured by."""

SIDES = {"down": 4, "middle": 4, "up": 4, "variance_first": 8, "variance_second": 8}
"""Pixels of the picture to a side of a layer's output, by the first part of its name; of all others 2."""


def clock() -> float:
    """Return the time of this thread on a processor, which other processes hardly change; with CUDA, that of the wall."""
    return time.perf_counter() if torch.cuda.is_available() else time.thread_time()


class StageTimes:
    """Own times of functions of one thread, added up by stage: what a function spends in another watched one is not its own.

    A context manager: at its end nothing is watched any more.

    Args:
        clock: returns seconds.

    Attributes:
        seconds: of each stage.
        counts: of each stage, the sum of what its functions count.
    """

    def __init__(self, clock: Callable[[], float] = clock) -> None:
        self.seconds, self.counts = dict[str, float](), dict[str, float]()
        self._clock, self._patches = clock, contextlib.ExitStack()
        # Of the watched functions that are running: seconds in other ones; and the parts around this place.
        self._elsewhere, self._parts = [0.0], [""]

    def __enter__(self) -> "StageTimes":
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Put the functions back."""
        self._patches.close()

    def watch(
        self,
        place: object,
        name: str,
        stage: str,
        *,
        part: str = "",
        count: Callable[..., float] | None = None,
    ) -> None:
        """Watch a function of a module, or a method of a class.

        Args:
            place: the module that looks the function up when it calls it, or the class.
            name: of the function.
            stage: what its own time belongs to.
            part: stands before the stage, and before those of functions inside it.
            count: called with the arguments; what it returns is added to the counts.
        """
        function = getattr(place, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - of any function
            with self._running(stage, part) as title:
                if count is not None:
                    self.counts[title] = self.counts.get(title, 0.0) + count(*arguments, **keywords)
                return function(*arguments, **keywords)

        self._patches.enter_context(mock.patch.object(place, name, watched))

    @contextlib.contextmanager
    def _running(self, stage: str, part: str) -> Iterator[str]:
        around = part or self._parts[-1]
        title = f"{around}: {stage}" if around else stage
        self._parts.append(around)
        self._elsewhere.append(0.0)
        started = self._clock()
        try:
            yield title
        finally:
            whole = self._clock() - started
            self._parts.pop()
            self.seconds[title] = self.seconds.get(title, 0.0) + whole - self._elsewhere.pop()
            self._elsewhere[-1] += whole


def measure(runs: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return the median seconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            run()
            started = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def products_per_pixel(layers: Mapping[str, Convolution]) -> float:
    """Return the products that layers make for each pixel of the picture; a two-byte input takes them twice."""
    total = 0.0
    for name, layer in layers.items():
        side = SIDES.get(name.partition(".")[0], 2)
        total += layer.weight.size * (2 if layer.reading.wide else 1) / side**2
    return total


def peak_rate(kernels: str, repeat: int) -> float:
    """Return products a second of the largest convolution."""
    rng = np.random.default_rng(0)
    outputs, channels, side, stride, limit = PEAK
    weight = torch.from_numpy(rng.integers(-127, 128, (outputs, channels, side, side), dtype=np.int8))
    zeros = torch.zeros(outputs, dtype=torch.int32)
    kernel = KERNELS[kernels](weight, zeros, zeros + 4, stride, limit)
    q = torch.from_numpy(rng.integers(0, 256, (1, 34, 66, channels), dtype=np.uint8))
    seconds = measure({"peak": lambda: kernel(q)}, repeat)["peak"]
    return weight.numel() * 32 * 64 / seconds
