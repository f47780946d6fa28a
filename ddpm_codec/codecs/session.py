"""A model ready for coding: its identity, device, chain, and network, which is built on first use."""

import os
import threading
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from ddpm_codec.codecs.fingerprint import Fingerprint, check_fingerprint, take_fingerprint
from ddpm_codec.codecs.latents import DiffusionLattice, GreyChain
from ddpm_codec.codecs.pixel_code import PixelCode
from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.device import check_forked, check_precision, pick_device
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import FormatError, InputError, ModelError
from ddpm_codec.isolation import isolated, torch_threads
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.protocol import CodecModel
from ddpm_codec.models.registry import ModelName, find_by_id, find_model, model_id, shipped_models
from ddpm_codec.stopwatch import SharedStopwatch
from ddpm_codec.workers import Workers

if TYPE_CHECKING:
    from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor

INDEX_STEPS = 6
"""K of the chain that single pictures are coded with by indices. On 27 CIFAR-10 training images and 64x64 crops of 12
validation photos, 6 take the fewest bytes or 0.2 % more than 8; 4 and 10 take 0.1 to 0.8 % more."""


class Model:
    """A model on a device, opened once and used for many pictures, possibly from several threads.

    Attributes:
        name: short name.
        id: SHA-256 of the model, hexadecimal, by which coded files refer to it.
        path: its file or folder.
        device: device of the network.
        codec_model: its chains, prior and network.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> model = ddpm_codec.open_model("photo", device="cpu")
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> ddpm_codec.encode(image, model=model) == ddpm_codec.encode(image)
        True
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        self.codec_model: CodecModel = open_model(path)
        self.id = model_id(path)
        self._network = SharedStopwatch()
        self._sessions: dict[tuple[int | None, int | None, str, int | None], CodingSession] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, name_or_path: ModelName, *, device: str = "auto") -> Self:
        """Open a model by name, or from its file or folder.

        Raises:
            InputError: the device is not available.
            ModelError: the model does not exist or is damaged.
        """
        return cls(find_model(name_or_path), pick_device(device))

    def __repr__(self) -> str:
        return f"<Model {self.name} {self.id[:12]} on {self.device}>"

    @property
    def name(self) -> str:
        """Short name."""
        return self.codec_model.name

    @property
    def arithmetic(self) -> str:
        """``exact`` or ``float``."""
        return self.codec_model.arithmetic

    @property
    def network_seconds(self) -> float:
        """Time spent in its networks so far, in all sessions."""
        return self._network.seconds

    @cached_property
    def decoder_executor(self) -> "PixelDecoderExecutor | None":
        """The pixel decoder, which all sessions share; None of a model that has none."""
        return self.codec_model.pixel_decoder_executor(self.device)

    def grey_chain(self, steps: int, crossing: int, sigmas: tuple[float, ...], dtype: str) -> GreyChain:
        """Return the network and the levels of a chain.

        Raises:
            ModelError: the weights do not fit.
        """
        model = self.codec_model
        with isolated():
            denoiser = model.integer_denoiser(steps, crossing, self.device, dtype)
        prior = model.prior_mean, model.prior_variance
        return GreyChain(denoiser, by_name(model.transform), sigmas, *prior, self._network)

    def pixel_code(self, crossing: int) -> PixelCode | None:
        """Return the pixel decoder at a crossing; None of a model that has none."""
        if self.decoder_executor is None:
            return None
        from ddpm_codec.codecs.pixels.coder import PixelCoder

        return PixelCoder(self.decoder_executor, crossing, Workers(), self._network)

    def session(self, steps: int | None = None, crossing: int | None = None) -> "CodingSession":
        """Return the session for the chain with K = ``steps`` above a crossing; sessions are cached.

        Args:
            steps: K as a user counts it; None: the model's default.
            crossing: index into the model's crossings; None: the model's default.

        Raises:
            ModelError: the model has no such chain.
        """
        return self.session_in(self.codec_model.chain_steps(steps), crossing)

    def session_in(
        self, chain_steps: int | None, crossing: int | None = None, dtype: str = "", threads: int | None = None
    ) -> "CodingSession":
        """Return the session for a chain in an environment (see :class:`CodingSession`); sessions are cached.

        Raises:
            ModelError: the model has no such chain.
            InputError: the model was opened on a CUDA device before this process was forked.
        """
        check_forked(self.device)
        key = chain_steps, crossing, dtype, threads
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = CodingSession(self, chain_steps, crossing, dtype=dtype, threads=threads)
            return self._sessions[key]


def cached_model(name_or_path: ModelName, device: str = "auto") -> Model:
    """Open a model, or return it from a cache if its file has not changed: building a network is slow.

    Raises:
        InputError: the device is not available.
        ModelError: the model does not exist or is damaged.
    """
    path, target = find_model(name_or_path), pick_device(device)
    if path.is_dir():
        return Model(path, target)
    found = path.stat()
    return _kept_model(path.resolve(), str(target), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2)
def _kept_model(path: Path, device: str, _changed: int, _size: int) -> Model:
    return Model(path, torch.device(device))


class CodingSession:
    """An open model with one of its chains. The network must run inside :meth:`environment`.

    Args:
        model: the model.
        chain_steps: K; None: the model's default.
        crossing: index of the crossing where its pixel decoder takes over; None: the model's default.
        dtype: arithmetic of a floating-point network; empty: the fastest on the device.
        threads: CPU threads of torch that a file was coded with in floating point; None: any number.

    Attributes:
        model: the codec model: chains, prior and network.
        model_id: SHA-256 of the model, hexadecimal.
        device: device of the network.
        steps: K.
        crossing: index of the crossing; 0 of a model without a pixel decoder.

    Raises:
        ModelError: the model has no such chain.
    """

    def __init__(
        self,
        model: Model,
        chain_steps: int | None = None,
        crossing: int | None = None,
        *,
        dtype: str = "",
        threads: int | None = None,
    ) -> None:
        self._opened = model
        self.model, self.model_id, self.device = model.codec_model, model.id, model.device
        self.crossing = self.model.default_crossing if crossing is None else crossing
        self._sigmas = self.model.chain_sigmas(chain_steps, self.crossing)
        self.steps = len(self._sigmas) - 1
        self._given_dtype, self._dtype = dtype, dtype or self.model.bound_dtype(self.device)
        self._threads = threads

    @classmethod
    def for_encoding(
        cls, model: ModelName, device: str, steps: int | None = None, crossing: int | None = None
    ) -> "CodingSession":
        """Open ``model`` (name, file or folder) on ``device``, or take it from the cache of :func:`cached_model`.

        Raises:
            InputError: the device is not available.
            ModelError: the model does not exist, is damaged, or has no such chain.
        """
        return cached_model(model, device).session(steps, crossing)

    @classmethod
    def for_decoding(
        cls,
        identity: str,
        recorded: Fingerprint,
        steps: int,
        device: str,
        extra: ModelName | Model | None,
        label: str,
        *,
        crossing: int = 0,
    ) -> "CodingSession":
        """Open the model that a file names; a floating-point model, in the recorded environment.

        Threads and arithmetic are set as recorded; any other difference is refused.

        Args:
            identity: SHA-256 of the model, hexadecimal, or its first digits.
            recorded: the environment; empty for an exact model.
            steps: K.
            device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
            extra: name, file or folder of the model; None to look for it among the shipped models.
            label: name of the file in messages.
            crossing: index of the crossing that the file records.

        Raises:
            EnvironmentMismatchError: this environment differs, or lets torch round products of float32.
            FormatError: the recorded environment is damaged, or does not fit the model.
            ModelError: the model is not available, or has no such chain.
        """
        if extra is None or isinstance(extra, str | os.PathLike):
            given, path = None, _path_of(identity, extra, label)
        else:
            given, path = _checked_model(extra, identity, device, label), extra.path
            device = given.device.type
        dtype, threads = "", None
        if recorded:
            made_on, dtype, threads = _recorded(recorded, label)
            if device == "auto":
                device = "cpu" if made_on == "cuda" and not torch.cuda.is_available() else made_on
            check_precision(pick_device(device))
            with torch_threads(threads, exactly=True):
                check_fingerprint(recorded, take_fingerprint(pick_device(device), dtype), label)
        model = given or cached_model(path, device)
        arithmetic = "float" if recorded else "exact"
        if model.arithmetic != arithmetic:
            raise FormatError(f"{label}: was coded with {arithmetic} arithmetic, but its model is {model.arithmetic}")
        try:
            return model.session_in(steps, crossing, dtype, threads)
        except ModelError as error:
            raise ModelError(f"{label}: {error}") from None

    def for_indices(self) -> "CodingSession":
        """Return the session for coding by indices: one of few more steps, unless this is a chain that was asked for.

        Indices take somewhat more bits than their KL, which more steps lower, but every step costs bytes and time of its own.
        Models without such a chain have that of progressive files.
        """
        model = self.model
        if (self.crossing, self._sigmas) != (model.default_crossing, model.chain_sigmas()):
            return self
        steps, crossing = model.progressive_steps, model.progressive_crossing
        if model.crossings and model.has_chain(INDEX_STEPS, model.default_crossing):
            steps, crossing = INDEX_STEPS, model.default_crossing
        return self._opened.session_in(steps, crossing, self._given_dtype, self._threads)

    def environment(self) -> AbstractContextManager[None]:
        """Return a context in which torch uses the threads of the file; the previous number is restored on exit."""
        return torch_threads(self._threads, exactly=self._threads is not None)

    @cached_property
    def ships(self) -> bool:
        """Whether the model ships with the package, so that its identity is enough to find it."""
        return any(model_id(path) == self.model_id for path in shipped_models())

    @property
    def network_seconds(self) -> float:
        """Time spent in the model's networks so far, in this and in other sessions."""
        return self._opened.network_seconds

    def workers(self) -> Workers | None:
        """Return who shares work out beside the network; None in floating point, whose environment has so many threads."""
        return None if self.fingerprint() else Workers()

    def fingerprint(self) -> Fingerprint:
        """Return the environment of this session; empty for an exact model, which works in any.

        Raises:
            EnvironmentMismatchError: torch may round products of float32 here, which no environment records.
        """
        if self.model.arithmetic == "exact":
            return {}
        check_precision(self.device)
        return take_fingerprint(self.device, self._dtype)

    @cached_property
    def chain(self) -> GreyChain:
        """The network and the levels of the chain; built on first use.

        Raises:
            ModelError: the weights do not fit, or the model was made with other coding tables.
        """
        model = self.model
        if model.arithmetic == "exact" and model.tables != tables_hash():
            raise ModelError(
                f"model {model.name} was made with other coding tables "
                f"(hash {model.tables[:12]}, here {tables_hash()[:12]})"
            )
        return self._opened.grey_chain(self.steps, self.crossing, self._sigmas, self._dtype)

    @cached_property
    def pixels(self) -> PixelCode | None:
        """The pixel decoder at the crossing; None of a model that has none."""
        return self._opened.pixel_code(self.crossing)

    def lattice(self) -> DiffusionLattice:
        """Return the lattice model of the chain for bits-back coding; see :attr:`chain`."""
        return self._lattice

    @cached_property
    def _lattice(self) -> DiffusionLattice:
        return DiffusionLattice(self.chain, self.pixels)


def _recorded(recorded: Fingerprint, label: str) -> tuple[str, str, int]:
    """Return device, arithmetic and threads of a recorded environment.

    Raises:
        FormatError: they are damaged.
    """
    device, dtype, threads = recorded.get("device"), recorded.get("dtype"), recorded.get("threads")
    if device not in ("cpu", "cuda") or dtype not in ("bf16", "float32"):
        raise FormatError(f"{label}: the environment fingerprint is damaged")
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise FormatError(f"{label}: the environment fingerprint is damaged")
    return str(device), str(dtype), threads


def _path_of(identity: str, extra: ModelName | None, label: str) -> Path:
    """Return the model that a file names."""
    try:
        return find_by_id(identity, extra)
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from None


def _checked_model(model: Model, identity: str, device: str, label: str) -> Model:
    """Return an open model that has to be the one a file names, on the device asked for."""
    if not isinstance(model, Model):
        raise TypeError(f"a model is a name, a path or an open model, not {type(model).__name__}")
    if not model.id.startswith(identity):
        raise ModelError(f"{label}: was coded with model {identity[:16]}..., {model.name} is another model")
    if device not in ("auto", model.device.type):
        raise InputError(f"device {device}: the model was opened on {model.device.type}")
    return model
