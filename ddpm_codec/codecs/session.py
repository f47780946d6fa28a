"""A model opened for coding, once, at its first use."""

from functools import cached_property
from pathlib import Path

import torch

from ddpm_codec.codecs.engine import Engine, open_engine
from ddpm_codec.codecs.fingerprint import (
    Fingerprint,
    check_fingerprint,
    take_fingerprint,
)
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.device import pick_device
from ddpm_codec.errors import FormatError, ModelError
from ddpm_codec.models import find_model
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.protocol import CodecModel
from ddpm_codec.models.registry import find_by_id, model_id, shipped_models


class CodingSession:
    """A model, a device and a chain; the network is built when it is first asked for.

    Attributes:
        model: the model.
        model_id: its SHA-256, hexadecimal.
        device: where the network runs.
    """

    def __init__(self, path: Path, device: torch.device, dtype: str, steps: int | None) -> None:
        self.model: CodecModel = open_model(path)
        self.model_id = model_id(path)
        self.device = device
        self._dtype, self._steps = dtype or self.model.bound_dtype(device), steps
        self._engine: Engine | None = None
        self._threads_before: int | None = None

    @classmethod
    def for_encoding(cls, model: str, device: str, levels: int | None = None) -> "CodingSession":
        """Open ``model`` (name, file or folder) on ``device``.

        Raises:
            InputError: no such device.
            ModelError: no such model, or no chain of so many levels.
        """
        session = cls(find_model(model), pick_device(device), "", None)
        session._steps = session.model.chain_steps(levels)
        session.model.chain_sigmas(session._steps)
        return session

    @classmethod
    def for_decoding(
        cls, identity: str, recorded: Fingerprint, steps: int, device: str, extra: Path | None, source: str
    ) -> "CodingSession":
        """Open the model that a file names; one in floating point, in the environment that it was coded in.

        Of that environment the number of threads and the arithmetic are taken over; whatever else differs is refused.

        Raises:
            EnvironmentMismatchError: the environment cannot be had here.
            FormatError: the recorded environment is damaged, or does not belong to the model.
            ModelError: the model is not here.
        """
        try:
            path = find_by_id(identity, extra)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None
        if not recorded:
            return cls(path, pick_device(device), "", steps)._of_kind("exact", source)
        made_on, dtype, threads = _recorded(recorded, source)
        if device == "auto" and made_on == "cuda" and not torch.cuda.is_available():
            device = "cpu"
        target = pick_device(made_on if device == "auto" else device)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            check_fingerprint(recorded, take_fingerprint(target, dtype), source)
            session = cls(path, target, dtype, steps)._of_kind("float", source)
        except Exception:
            torch.set_num_threads(before)
            raise
        session._threads_before = before
        return session

    def _of_kind(self, arithmetic: str, source: str) -> "CodingSession":
        """Return this session.

        Raises:
            FormatError: its model is of the other kind, exact or in floating point.
            ModelError: its model has no such chain.
        """
        if self.model.arithmetic != arithmetic:
            raise FormatError(f"{source}: was coded with {arithmetic} arithmetic, its model is {self.model.arithmetic}")
        try:
            self.model.chain_sigmas(self._steps)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None
        return self

    def close(self) -> None:
        """Give back the number of threads that this process had before."""
        if self._threads_before is not None:
            torch.set_num_threads(self._threads_before)
            self._threads_before = None

    @cached_property
    def ships(self) -> bool:
        """Whether the model comes with the package, so that its identity alone finds it."""
        return any(model_id(path) == self.model_id for path in shipped_models())

    @property
    def steps(self) -> int:
        """K of the chain in use."""
        return len(self.model.chain_sigmas(self._steps)) - 1

    @property
    def network_seconds(self) -> float:
        """Time spent in the network so far."""
        return self._engine.clock.seconds if self._engine is not None else 0.0

    def fingerprint(self) -> Fingerprint:
        """Return the environment of this session; nothing where the model is exact and any will do."""
        if self.model.arithmetic == "exact":
            return {}
        return take_fingerprint(self.device, self._dtype)

    def lattice(self) -> DiffusionLattice:
        """Return the lattice model, built on first use."""
        return self._opened().lattice

    def chain(self) -> ProgressiveChain:
        """Return the chain for progressive coding, built on first use."""
        return self._opened().chain

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self.model, self._steps, self.device, self._dtype)
        return self._engine


def _recorded(recorded: Fingerprint, source: str) -> tuple[str, str, int]:
    """Return device, arithmetic and threads of a recorded environment.

    Raises:
        FormatError: they are none that encoding writes.
    """
    device, dtype, threads = recorded.get("device"), recorded.get("dtype"), recorded.get("threads")
    if device not in ("cpu", "cuda") or dtype not in ("bf16", "float32"):
        raise FormatError(f"{source}: the environment fingerprint is damaged")
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise FormatError(f"{source}: the environment fingerprint is damaged")
    return str(device), str(dtype), threads
