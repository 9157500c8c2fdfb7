"""onnxruntime sessions: threads that fit the device, and a provider that is never silently another.

onnxruntime's own fallback is turned off: it prints to standard output, where the results go, and
``session.run`` would change over to the CPU in mid-stream without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from srd_edge.errors import BundleError, ProviderError, SrdEdgeError, UsageError
from srd_edge.runtime.machine import usable_cores

Provider: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt"]
ProviderOptions: TypeAlias = Callable[[], Mapping[str, str]]
"""Asked only when the provider is tried; an error of ours gives it up, with its reason."""
Native: TypeAlias = Callable[[], Any]
"""Opens the same graph with TensorRT itself; None where TensorRT, or a GPU, is not there."""

_NAMES: Final = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_BEST_FIRST: Final = ("tensorrt", "cuda", "cpu")
PROVIDERS: Final = _BEST_FIRST[::-1]
DTYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
"""By the names that onnxruntime has for the types of a graph's inputs."""
RECORDING: Final = {"enable_cuda_graph": "1"}
"""Options of the CUDA provider, for a graph whose calls it records."""
_ERROR_SEVERITY: Final = 3
_ENGINE: Final = b"EPContext"
_NOT_INSTALLED: Final = "Please install TensorRT libraries"
"""What onnxruntime 1.31 says where libnvinfer does not load, after the place in its source."""
INSTALL: Final = {
    "cpu": 'pip install "srd-edge[cpu]"',
    "cuda": 'pip uninstall -y onnxruntime && pip install "srd-edge[gpu]", or use --provider cpu',
    "tensorrt": 'pip uninstall -y onnxruntime && pip install "srd-edge[tensorrt]", '
    "or use --provider cpu",
    "tensorrt-native": "pip uninstall -y onnxruntime-gpu && "
    'pip install "srd-edge[tensorrt-native]", or use --provider cpu',
}
"""onnxruntime and onnxruntime-gpu write the same files: the one must go before the other comes."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open graph.

    Args:
        session: the ``onnxruntime.InferenceSession``, or what ``native`` opened.
        provider: the one that took the graph: cpu, cuda or tensorrt.
        fallback: why it is not the one that was asked for (or, with auto, not a GPU that this
            onnxruntime is built for or TensorRT sees), in one line to print; None if it is.
        records: whether CUDA records calls, to play them again.
        native: whether it is TensorRT itself that took the graph, without onnxruntime.
    """

    session: Any
    provider: str
    fallback: str | None = None
    records: bool = False
    native: bool = False


def open_session(
    model: Path | str | bytes,
    provider: Provider = "auto",
    *,
    strict: bool = False,
    threads: int | None = None,
    profile: Path | None = None,
    tensorrt: ProviderOptions = dict,
    record: bool = False,
    native: Native = lambda: None,
) -> Session:
    """Open an ONNX graph.

    Args:
        model: a verified file, or its bytes.
        provider: auto takes the best that works: tensorrt, then cuda, then cpu.
        strict: whether a demanded provider that is not available is an error; otherwise the next
            best takes the graph and ``fallback`` says so.
        threads: within one operator; None for ``usable_cores()``.
        profile: where the session writes what it does until ``end_profiling``; None for nowhere.
        tensorrt: options of the TensorRT provider, as ``tensorrt_provider.options_for`` has them.
        record: whether the graph is to be called often with the same shapes and addresses, so that
            CUDA had better record what it launches (a CUDA graph), where it can.
        native: asked where onnxruntime has no TensorRT that loads.

    Raises:
        ProviderError: no onnxruntime; or, when strict, no such provider.
        BundleError: onnxruntime refuses the graph.
        UsageError: an unknown provider, or fewer than one thread.
    """
    if provider not in get_args(Provider) or (threads is not None and threads < 1):
        raise UsageError(
            expected=f"a provider out of {', '.join(get_args(Provider))} and at least one thread",
            found=f"{provider!r}, {threads} threads",
            do="correct the request",
        )
    runtime = _onnxruntime()
    # What the package was compiled for, which is not yet what loads on this device.
    compiled = runtime.get_available_providers()
    first = 0 if provider == "auto" else _BEST_FIRST.index(provider)
    missed: list[str] = []
    for name in _BEST_FIRST[first:-1]:
        if _NAMES[name] in compiled:
            tried = tensorrt if name == "tensorrt" else RECORDING.copy if record else dict
            session, reason = _attempt(runtime, model, name, threads, profile, tried)
            if session is None and name == "cuda" and record:
                # Not every graph can be recorded.
                record = False
                session, reason = _attempt(runtime, model, name, threads, profile, dict)
        else:
            session, reason = None, _not_built(name)
        itself = reason in (_not_built("tensorrt"), _not_loaded("tensorrt"))
        if itself:
            session, reason = _natively(native, reason)
        if session is not None:
            # With auto, CUDA where there is no TensorRT is the ordinary case and needs no words.
            told = None if provider == "auto" else _notice(name, missed)
            return Session(session, name, told, record and name == "cuda", native=itself)
        # Nor does auto on a build for the CPU alone.
        if provider != "auto" or reason != _not_built(name):
            missed.append(reason)
        if strict and provider != "auto":
            # First, whether it is the graph's own fault.
            _open(runtime, model, "cpu", threads, profile)
            raise ProviderError(
                expected=f"the provider {provider}", found=reason, do=INSTALL[provider]
            )
    return Session(_open(runtime, model, "cpu", threads, profile), "cpu", _notice("cpu", missed))


def _notice(provider: str, missed: list[str]) -> str | None:
    return f"running on {provider}: {'; '.join(missed)}" if missed else None


def _attempt(
    runtime: Any,
    model: Path | str | bytes,
    name: str,
    threads: int | None,
    profile: Path | None,
    told: ProviderOptions,
) -> tuple[Any | None, str]:
    """The graph on one accelerator, or None and the reason."""
    # CUDA from pip lies where the loader does not look. What this prints is not for our output.
    with suppress(Exception), redirect_stdout(StringIO()):
        runtime.preload_dlls()
    try:
        session = _open(runtime, model, name, threads, profile, told())
    except SrdEdgeError as error:
        loaded = _NOT_INSTALLED not in error.found
        return None, f"{name} failed: {error.found}" if loaded else _not_loaded(name)
    if _NAMES[name] not in session.get_providers():
        return None, _not_loaded(name)
    return session, ""


def _natively(native: Native, reason: str) -> tuple[Any | None, str]:
    """The graph through TensorRT itself, or None and why; ``reason`` where that is missing."""
    try:
        return native(), reason
    except SrdEdgeError as error:
        return None, f"tensorrt failed: {error.found}"


def _not_built(name: str) -> str:
    return f"{name} is not in this onnxruntime"


def _not_loaded(name: str) -> str:
    return f"{name} did not load on this device"


def _open(
    runtime: Any,
    model: Path | str | bytes,
    provider: str,
    threads: int | None,
    profile: Path | None,
    chosen: Mapping[str, str] | None = None,
) -> Any:
    # Each takes the nodes that the ones before it cannot run.
    compiled = runtime.get_available_providers()
    names = [_NAMES[name] for name in _BEST_FIRST[_BEST_FIRST.index(provider) :]]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.log_severity_level = _ERROR_SEVERITY
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads spin between the operators of a call, a tenth of a decoder's time, and not
    # between calls, where they would take the cores that decode the video.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if provider != "cpu":
        _refuse_compiled(model)
    source = model if isinstance(model, bytes) else str(model)
    try:
        return runtime.InferenceSession(
            source,
            options,
            providers=[
                (name, dict(chosen)) if chosen and name == _NAMES[provider] else name
                for name in names
                if name in compiled
            ],
            enable_fallback=0,
        )
    except Exception as error:  # its own errors have no base but Exception
        shown = "a graph in memory" if isinstance(model, bytes) else Path(model).name
        raise BundleError(
            expected=f"{shown} to be a graph that onnxruntime {runtime.__version__} runs",
            found=" ".join(str(error).split())[:300] or type(error).__name__,
            do="fetch or export the bundle again, or update onnxruntime",
        ) from error


def _refuse_compiled(model: Path | str | bytes) -> None:
    """A compiled engine inside of a graph is native code of whoever made it."""
    if isinstance(model, bytes):
        found = _ENGINE in model
    else:
        path = Path(model)
        if not path.is_file() or not path.stat().st_size:
            return  # which the provider will say
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            found = content.find(_ENGINE) >= 0
    if found:
        raise BundleError(
            expected="a graph without compiled engines",
            found="the operator EPContext",
            do="export the bundle again; engines are built on the device that runs them",
        )


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            expected="the onnxruntime package", found=str(error), do=INSTALL["cpu"]
        ) from error
    return onnxruntime
