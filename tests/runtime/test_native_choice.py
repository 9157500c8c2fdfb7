"""When a graph goes through TensorRT itself, and what is said where it cannot; doctor's too.

TensorRT and CUDA are those of `tests/fake_tensorrt.py` and `tests/fake_cuda.py`. The decoder is one
that begins with an empty past.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from srd_edge.errors import ProviderError
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.doctor import examine_native
from srd_edge.runtime.engine_graph import EngineGraph
from srd_edge.runtime.graphs import OnnxGraph, open_graph
from srd_edge.runtime.sessions import Session, open_session
from tests import fake_tensorrt


@pytest.fixture(scope="module")
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


def opened(bundle: Bundle, role: str, provider: Any, *, strict: bool = False) -> Any:
    return open_graph(bundle, role, provider, strict=strict)


@pytest.mark.parametrize("asked", ["cpu", "cuda"])
def test_engines_are_not_taken_where_another_provider_is_asked_for(
    bundle: Bundle, fake_gpu: Any, asked: str
) -> None:
    assert opened(bundle, "encoder", asked).provider == "cpu"
    assert not fake_gpu.built
    assert not fake_gpu.cuda.calls


def lose_cuda(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)


def lose_tensorrt(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)


def lose_gpu(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu.cuda.gpus = 0


@pytest.mark.parametrize("lose", [lose_cuda, lose_tensorrt, lose_gpu])
def test_where_a_part_is_missing_nothing_is_said_of_it(
    bundle: Bundle,
    fake_gpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[Any, pytest.MonkeyPatch], None],
) -> None:
    lose(fake_gpu, monkeypatch)
    graph = opened(bundle, "encoder", "auto")
    assert isinstance(graph, OnnxGraph)
    assert (graph.provider, graph.fallback) == ("cpu", None)
    told = opened(bundle, "encoder", "tensorrt").fallback
    assert told == "running on cpu: tensorrt is not in this onnxruntime; cuda is not in this " + (
        "onnxruntime"
    )
    with pytest.raises(ProviderError, match=r"srd-edge\[tensorrt\]") as caught:
        opened(bundle, "encoder", "tensorrt", strict=True)
    assert (caught.value.found, caught.value.exit_code) == (
        "tensorrt is not in this onnxruntime",
        5,
    )


def test_a_graph_that_begins_with_an_empty_past_goes_to_the_next(
    bundle: Bundle, fake_gpu: Any
) -> None:
    graph = opened(bundle, "decoder", "tensorrt")
    assert graph.provider == "cpu"
    assert graph.fallback == (
        "running on cpu: tensorrt failed: decoder_model.onnx begins with an empty past; "
        "cuda is not in this onnxruntime"
    )
    assert not fake_gpu.built
    assert "begins with an empty past" in opened(bundle, "decoder", "auto").fallback
    with pytest.raises(ProviderError, match="empty past") as caught:
        opened(bundle, "decoder", "tensorrt", strict=True)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("refuses", "words"),
    [("parse", "tensorrt failed: no importer"), ("build", "what it printed says why")],
)
def test_a_graph_that_tensorrt_refuses_goes_to_the_next_and_says_so(
    bundle: Bundle, fake_gpu: Any, refuses: str, words: str
) -> None:
    fake_gpu.refuses = refuses
    for asked in ("tensorrt", "auto"):
        graph = opened(bundle, "encoder", asked)
        assert graph.provider == "cpu"
        assert words in graph.fallback
        assert "\n" not in graph.fallback
    with pytest.raises(ProviderError, match=words):
        opened(bundle, "encoder", "tensorrt", strict=True)


@pytest.mark.parametrize(
    "refused", ["cudaStreamCreateWithFlags", "cudaMalloc", "cudaStreamSynchronize"]
)
def test_what_cuda_refuses_when_a_graph_is_opened_is_the_providers_fault(
    bundle: Bundle, fake_gpu: Any, refused: str
) -> None:
    fake_gpu.cuda.refuses[refused] = fake_gpu.cuda.cudaError_t.cudaErrorECCUncorrectable
    with pytest.raises(ProviderError, match="cudaErrorECCUncorrectable") as caught:
        opened(bundle, "encoder", "tensorrt", strict=True)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


class Loads:
    """onnxruntime with TensorRT in it, which loads or does not."""

    def __init__(self, loads: bool) -> None:
        self._loads = loads

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None: ...

    def InferenceSession(self, model: Any, options: Any, **_: Any) -> Any:  # noqa: N802
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if self._loads:
            session.get_providers = self.get_available_providers
        return session


@pytest.mark.parametrize("asked", ["auto", "tensorrt"])
def test_onnxruntimes_own_tensorrt_comes_first_if_it_loads(
    bundle: Bundle, fake_gpu: Any, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", Loads(True))
    graph = opened(bundle, "encoder", asked)
    assert isinstance(graph, OnnxGraph)
    assert graph.provider == "tensorrt"
    monkeypatch.setitem(sys.modules, "onnxruntime", Loads(False))
    graph = opened(bundle, "encoder", asked)
    assert isinstance(graph, EngineGraph)
    assert graph.fallback is None


def test_a_session_without_another_way_says_what_it_always_said(bundle: Bundle) -> None:
    path = bundle.path("encoder_model.onnx")
    plain, asked = open_session(path, "tensorrt"), []

    def nothing() -> None:
        asked.append(1)

    other = open_session(path, "tensorrt", native=nothing)
    assert asked == [1]
    assert replace(plain, session=None) == replace(other, session=None)
    taken = open_session(path, "tensorrt", native=lambda: "a graph")
    assert taken == Session("a graph", "tensorrt", native=True)


def test_doctor_runs_the_encoder_through_an_engine(bundle: Bundle, fake_gpu: Any) -> None:
    report = examine_native(bundle)
    assert report.works
    assert report.nodes["tensorrt"] > 10
    assert (report.problem, report.mend) == ("", "")


def test_doctor_says_when_an_engines_numbers_are_off(
    bundle: Bundle, fake_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_ = fake_tensorrt.Engine.__init__

    def off(self: Any, *arguments: Any) -> None:
        opened_(self, *arguments)
        honest = self.session.run
        self.session.run = lambda *feed: [1.5 * value for value in honest(*feed)]

    monkeypatch.setattr(fake_tensorrt.Engine, "__init__", off)
    report = examine_native(bundle)
    assert not report.works
    assert "off those of the CPU" in report.problem


@pytest.mark.parametrize(
    ("lose", "words"),
    [(lose_cuda, "cuda"), (lose_tensorrt, "tensorrt"), (lose_gpu, "cudaErrorNoDevice")],
)
def test_doctor_says_what_is_missing(
    bundle: Bundle,
    fake_gpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[Any, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    lose(fake_gpu, monkeypatch)
    report = examine_native(bundle)
    assert not report.works
    assert report.problem.startswith("needs ")
    assert words in report.problem
    assert 'pip install "srd-edge[tensorrt-native]"' in report.mend
