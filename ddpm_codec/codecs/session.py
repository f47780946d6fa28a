"""A model opened for coding, once, at its first use."""

from pathlib import Path

import torch

from ddpm_codec.codecs.engine import Engine, open_engine, resolve_device
from ddpm_codec.codecs.fingerprint import (
    Fingerprint,
    check_fingerprint,
    preferred_dtype,
    take_fingerprint,
)
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.nn.frozen import FrozenModel, load_model
from ddpm_codec.zoo import find_model
from ddpm_codec.zoo.registry import find_by_id, model_id


class CodingSession:
    """A model, a device and a chain; the network is built when it is first asked for.

    Attributes:
        model: the frozen model.
        model_id: its SHA-256, hexadecimal.
        device: where the network runs.
    """

    def __init__(self, path: Path, device: torch.device, dtype: str, steps: int | None) -> None:
        self.model: FrozenModel = load_model(path)
        self.model_id = model_id(path)
        self.device = device
        self._dtype, self._steps = dtype, steps
        self._engine: Engine | None = None

    @classmethod
    def for_encoding(cls, model: str, device: str, steps: int | None = None) -> "CodingSession":
        """Open ``model`` (name or file) on ``device``.

        Raises:
            InputError: no such device.
            ModelError: no such model, or no chain of ``steps`` steps.
        """
        target = resolve_device(device)
        session = cls(find_model(model), target, preferred_dtype(target), steps)
        session.model.chain_sigmas(steps)
        return session

    @classmethod
    def for_decoding(
        cls, identity: str, recorded: Fingerprint, steps: int, device: str, extra: Path | None, source: str
    ) -> "CodingSession":
        """Open the model that a file names, in the environment that it was coded in.

        The recorded number of threads and arithmetic are taken over; whatever else differs is refused.

        Raises:
            EnvironmentMismatchError: the environment cannot be had here.
            FormatError: the recorded environment is damaged.
            ModelError: the model is not here.
        """
        if device == "auto":
            device = str(recorded.get("device", "cpu"))
        try:
            target = resolve_device(device)
        except InputError:
            target = torch.device("cpu")
        _set_threads(recorded, source)
        dtype = str(recorded.get("dtype", "float32"))
        check_fingerprint(recorded, take_fingerprint(target, dtype), source)
        return cls(find_by_id(identity, extra), target, dtype, steps)

    @property
    def steps(self) -> int:
        """K of the chain in use."""
        return len(self.model.chain_sigmas(self._steps)) - 1

    @property
    def network_seconds(self) -> float:
        """Time spent in the network so far."""
        return self._engine.clock.seconds if self._engine is not None else 0.0

    def fingerprint(self) -> Fingerprint:
        """Return the environment of this session."""
        return take_fingerprint(self.device, self._dtype)

    def lattice(self) -> DiffusionLattice:
        """Return the lattice model, built on first use."""
        if self._engine is None:
            self._engine = open_engine(self.model, self._steps, self.device, self._dtype)
        return self._engine.lattice


def _set_threads(recorded: Fingerprint, source: str) -> None:
    threads = recorded.get("threads")
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise FormatError(f"{source}: the environment fingerprint is damaged")
    torch.set_num_threads(threads)
