"""The library in somebody else's process: hostile settings change nothing, and nothing of the process is changed."""

import ast
import decimal
import locale
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_codec
from ddpm_codec import isolation
from ddpm_codec.codecs import session
from ddpm_codec.errors import EnvironmentMismatchError, InputError
from ddpm_codec.files import decode_file, encode_files
from ddpm_codec.nn.exact import kernels
from ddpm_codec.sampling.run import SampleOptions, sample_pictures
from ddpm_codec.training import run as training
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from tests.golden.regenerate import FLOAT, noisy_picture
from tests.helpers import PHOTO, TINY

PIXELS = np.asarray(Image.open(PHOTO))


class Calls:
    """One call of each kind that a caller may make, and the bytes of what it gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        np.save(folder / "tiles.npy", PIXELS.reshape(4, 32, 4, 32, 3).transpose(0, 2, 1, 3, 4).reshape(16, 32, 32, 3))
        self.coded = ddpm_codec.encode(PIXELS[:64, :64])
        self.progressive = ddpm_codec.encode(PIXELS[:16, :16], progressive=True, psnr=24.0)
        self.floating = ddpm_codec.encode(noisy_picture(100, 128, 192), model=FLOAT, threads=1)
        assert ddpm_codec.info(self.coded).coded_by == ddpm_codec.info(self.floating).coded_by == ("model",)

    def all(self) -> dict[str, Callable[[], bytes]]:
        names = [name for name in vars(type(self)) if name.startswith("call_")]
        return {name.removeprefix("call_"): getattr(self, name) for name in names}

    def call_encode(self) -> bytes:
        return ddpm_codec.encode(PIXELS[:64, :64])

    def call_decode(self) -> bytes:
        return ddpm_codec.decode(self.coded, threads=1).tobytes()

    def call_encode_progressive(self) -> bytes:
        alpha = np.dstack([PIXELS[:16, :16], PIXELS[:16, :16, 0]])
        return ddpm_codec.encode(alpha, progressive=True, psnr=24.0)

    def call_decode_progressive(self) -> bytes:
        decoder = ddpm_codec.ProgressiveDecoder()
        decoder.feed(self.progressive)
        return b"".join(decoder.picture(how).tobytes() for how in ("mean", "sample", "flow"))

    def call_encode_float(self) -> bytes:
        return ddpm_codec.encode(noisy_picture(100, 128, 192), model=FLOAT, threads=1)

    def call_decode_float(self) -> bytes:
        return ddpm_codec.decode(self.floating, model=FLOAT).tobytes()

    def call_archive(self) -> bytes:
        images: dict[str, ddpm_codec.Image] = {"a.png": PIXELS[:20, :30], "b.png": PIXELS[:9, :9, 0]}
        images["c.png"] = Image.new("P", (5, 4))
        data = ddpm_codec.encode_archive(images, model="none")
        with ddpm_codec.open_archive(data) as archive:
            return data + archive["b.png"].tobytes() + archive.pil("c.png").tobytes()

    def call_info(self) -> bytes:
        return repr(ddpm_codec.info(self.coded)).encode()

    def call_bound(self) -> bytes:
        models: tuple[str | Path, ...] = ("photo", FLOAT)
        return b"".join(
            ddpm_codec.bound(PIXELS[:32, :32], model=model, steps=steps).diffusion_bpd.tobytes()
            for model, steps in zip(models, (None, 3), strict=True)
        )

    def call_files(self) -> bytes:
        path = self.folder / f"{time.monotonic_ns()}.ddpm"
        encode_files([TINY], path, verify=True)
        decode_file(path, path.with_suffix(".png"))
        return path.read_bytes() + np.asarray(Image.open(path.with_suffix(".png"))).tobytes()

    def call_sample(self) -> bytes:
        path = self.folder / f"{time.monotonic_ns()}.png"
        sample_pictures(path, SampleOptions(model=str(FLOAT), count=1, size=(16, 16), steps=2, device="cpu"))
        return np.asarray(Image.open(path)).tobytes()

    def call_train(self) -> bytes:
        values: dict[str, Any] = {"data": str(self.folder / "tiles.npy"), "size": "tiny", "crop": 16, "batch": 4}
        values |= {"output": str(self.folder / f"run{time.monotonic_ns()}"), "holdout": 4, "train_steps": 2, "steps": 6}
        values |= {"device": "cpu", "dtype": "float32", "validation_images": 2, "validate_every": 2, "warmup": 1}
        checkpoint = load_checkpoint(training.train(TrainConfig.from_dict(values), progress=False))
        return b"".join(tensor.numpy().tobytes() for tensor in checkpoint.ema.values())


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    return Calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def usual(calls: Calls) -> dict[str, bytes]:
    return {name: call() for name, call in calls.all().items()}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def together(*contexts: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    with contexts[0](), together(*contexts[1:]) if contexts[1:] else nullcontext():
        yield


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "numpy raises, default dtype float64": partial(
        together, partial(np.errstate, all="raise"), partial(default_dtype, torch.float64)
    ),
    "default device meta, inference mode, autocast, warnings are errors": partial(
        together,
        partial(default_device, "meta"),
        torch.inference_mode,
        partial(torch.autocast, "cpu", dtype=torch.bfloat16),
        warnings_as_errors,
    ),
    "with a device, no grad, deterministic algorithms, default dtype float16": partial(
        together, partial(torch.device, "meta"), torch.no_grad, deterministic, partial(default_dtype, torch.float16)
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_results_do_not_depend_on_the_callers_settings(
    setting: str, calls: Calls, usual: dict[str, bytes], tmp_path: Path
) -> None:
    # Networks and buffers are then made under these settings, too.
    session._kept_model.cache_clear()
    kernels.passes.cache_clear()
    with SETTINGS[setting]():
        found = {name: call() for name, call in calls.all().items()}
    assert {name for name in usual if found[name] != usual[name]} == set()
    # What was made there serves without them.
    assert calls.call_encode() == usual["encode"]
    assert calls.call_decode_float() == usual["decode_float"]


MAKERS = {"zeros", "ones", "empty", "full", "rand", "randn", "linspace", "logspace", "Conv2d", "Linear", "GroupNorm"}


def test_tensors_and_layers_name_their_dtype() -> None:
    """The default dtype belongs to the process, and to nobody else."""
    unnamed = []
    for path in sorted(Path(ddpm_codec.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            named = "dtype" in {keyword.arg for keyword in node.keywords}
            if of in ("torch", "nn") and node.func.attr in MAKERS and not named:
                unnamed.append(f"{path.name}:{node.lineno}")
    assert unnamed == []


def state() -> dict[str, Any]:
    """Return what belongs to the process, or to the thread of the caller."""
    return {
        "numpy errors": (np.geterr(), np.geterrcall(), np.get_printoptions()),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads of a new thread": isolation._in_a_new_thread(torch.get_num_threads),
        "torch defaults": (torch.get_default_dtype(), str(torch.get_default_device())),
        "torch modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.mkldnn.enabled,
        ),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "locale": (locale.setlocale(locale.LC_ALL), decimal.getcontext().prec),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (
            sys.excepthook,
            sys.unraisablehook,
            threading.excepthook,
            sys.stdout,
            sys.stderr,
            sys.getrecursionlimit(),
        ),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "pillow": (Image.MAX_IMAGE_PIXELS,),
        "threads": {thread.name for thread in threading.enumerate()},
    }


def test_nothing_of_the_process_is_changed(calls: Calls, usual: dict[str, bytes]) -> None:
    del usual  # whatever is only loaded once is
    with np.errstate(divide="raise", under="call"), default_device("meta"), torch.no_grad():
        for name, call in calls.all().items():
            before = state()
            call()
            after = state()
            assert {key for key in before if before[key] != after[key]} == set(), name


@pytest.mark.parametrize("threads", [1, 3])
def test_another_thread_keeps_its_threads_and_settings(threads: int, calls: Calls, usual: dict[str, bytes]) -> None:
    """Meanwhile, threads that use torch already, or for the first time, see what the caller has set."""
    # One thread of two: with more than the machine has to spare, coding takes minutes.
    usual_threads, before, seen, done = torch.get_num_threads(), 2, set[object](), threading.Event()
    torch.set_num_threads(before)

    def watch() -> None:
        with np.errstate(all="raise"):
            while not done.is_set():
                seen.add((torch.get_num_threads(), np.geterr()["over"], torch.is_grad_enabled()))
                seen.add((isolation._in_a_new_thread(torch.get_num_threads), "raise", True))
                time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        data = ddpm_codec.encode(PIXELS[:64, :64], threads=threads)
        assert data == usual["encode"]
        ddpm_codec.decode(data, threads=threads)
        calls.call_decode_float()
    finally:
        done.set()
        thread.join()
        torch.set_num_threads(usual_threads)
    assert seen == {(before, "raise", True)}


@pytest.mark.parametrize("library", ["as here", "without"])
def test_threads_are_those_of_the_block(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "without":
        monkeypatch.setattr(isolation, "_torch_library", lambda: None)
    before = torch.get_num_threads()
    for number in (1, 2, 5):
        with isolation.torch_threads(number):
            assert torch.get_num_threads() == number
            assert isolation._in_a_new_thread(torch.get_num_threads) == before
            with isolation.torch_threads(3):
                assert torch.get_num_threads() == 3
            assert torch.get_num_threads() == number
        assert torch.get_num_threads() == before
    assert isolation._in_a_new_thread(torch.get_num_threads) == before


@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_threads_are_checked(number: Any) -> None:  # noqa: ANN401
    with pytest.raises(InputError, match="must be a positive integer"):
        ddpm_codec.encode(PIXELS[:8, :8], model="none", threads=number)


def test_coding_in_floating_point_wants_exact_products(calls: Calls) -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        for call in (calls.call_encode_float, calls.call_decode_float):
            with pytest.raises(EnvironmentMismatchError, match="highest"):
                call()
        assert calls.call_encode() == calls.coded
    finally:
        torch.set_float32_matmul_precision("highest")
