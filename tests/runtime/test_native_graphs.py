"""Bundles through TensorRT itself: the CPU's captions, token for token, and when that way is taken.

TensorRT and CUDA are those of `tests/fake_tensorrt.py` and `tests/fake_cuda.py`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from srd_edge import Defender
from srd_edge.errors import ProviderError, RunError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.bundle_profiles import profiled_graph
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.doctor import examine_native
from srd_edge.runtime.engine_graph import EngineGraph
from srd_edge.runtime.graphs import OnnxGraph, host_value, open_graph
from srd_edge.runtime.native_graphs import open_native
from srd_edge.runtime.profiles import warm_up_shapes
from srd_edge.runtime.sessions import Session, open_session
from srd_edge.training.datasets import open_dataset
from tests import fake_tensorrt

ROLES = ("encoder", "decoder", "policy", "language")


@pytest.fixture(scope="module")
def bundle(fixed_bundle: Path) -> Bundle:
    return read_bundle(fixed_bundle)


@pytest.fixture(scope="module")
def growing(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


def searching(bundle: Bundle, beams: int) -> Bundle:
    generation = replace(bundle.manifest.generation, beams=beams)
    return replace(bundle, manifest=replace(bundle.manifest, generation=generation))


def canvases(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def pictures(count: int) -> Iterator[Pixels]:
    return (sample.load() for sample in open_dataset("scenes", "dev", count))


def test_on_the_cpu_a_fixed_cache_gives_what_a_growing_one_gives(
    growing: Bundle, bundle: Bundle
) -> None:
    grown, fixed = OnnxCaptioner(growing, "cpu"), OnnxCaptioner(bundle, "cpu")
    for canvas in canvases(8):
        encoded, text = grown.encode(canvas), "a red circle left of a blue square"
        logits = fixed.next_logits(fixed.encode(canvas), [5, 6])
        # What is given must not be the memory of something that has gone.
        for token in range(3, 9):
            fixed.next_logits(fixed.encode(canvas), [token, token, token])
        np.testing.assert_allclose(logits, grown.next_logits(encoded, [5, 6]), atol=1e-4)
        likely = grown.log_probability(encoded, text)
        assert fixed.log_probability(fixed.encode(canvas), text) == pytest.approx(likely, abs=1e-3)


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_the_cpus(bundle: Bundle, fake_gpu: Any, beams: int) -> None:
    cpu = OnnxCaptioner(searching(bundle, beams), "cpu")
    engines = OnnxCaptioner(searching(bundle, beams), "tensorrt", strict=True)
    assert (engines.provider, engines.fallback) == ("tensorrt", None)
    assert fake_gpu.built == ["encoder_model.onnx", "decoder_model.onnx"]
    said = set()
    for canvas in canvases(12):
        expected, encoded = cpu.generate(cpu.encode(canvas)), engines.encode(canvas)
        found = engines.generate(encoded)
        assert found.tokens == expected.tokens
        np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-5)
        said.add(found.tokens)
    assert len(said) > 6
    expected_nats = cpu.log_probability(cpu.encode(canvas), expected.text)
    assert engines.log_probability(encoded, expected.text) == pytest.approx(expected_nats, abs=1e-4)


def test_steps_are_played_from_recordings(bundle: Bundle, fake_gpu: Any) -> None:
    captioner, calls = OnnxCaptioner(bundle, "tensorrt", strict=True), fake_gpu.cuda.calls
    assert "cudaGraphLaunch" not in calls
    steps = 0
    for canvas in canvases(5):
        steps += len(captioner.generate(captioner.encode(canvas)).log_probabilities)
        steps -= len(bundle.manifest.generation.prompt) > 1
    # Each side of the cache is called as it is once, and what it gives is what is recorded.
    assert calls["cudaGraphInstantiate"] == 2
    assert calls["cudaGraphLaunch"] == steps - 2
    before = dict(calls)
    captioner.generate(captioner.encode(canvases(1)[0]))
    assert calls["cudaMalloc"] == before["cudaMalloc"]
    assert calls["cudaGraphInstantiate"] == 2


def test_views_are_captioned_as_one(bundle: Bundle, fake_gpu: Any) -> None:
    cpu = OnnxCaptioner(bundle, "cpu", views=2)
    engines = OnnxCaptioner(bundle, "tensorrt", strict=True, views=2)
    both = canvases(2)
    mine, theirs = engines.encode_views(both), cpu.encode_views(both)
    assert mine.rows == 2
    np.testing.assert_allclose(mine.features, theirs.features, atol=1e-6)
    assert engines.generate(mine).tokens == cpu.generate(theirs).tokens
    for count in (2, 3):
        assert engines.caption_batch(canvases(count)) == cpu.caption_batch(canvases(count))


def test_a_defended_picture_is_what_it_is_on_the_cpu(bundle: Bundle, fake_gpu: Any) -> None:
    cpu = Defender(bundle, provider="cpu")
    engines = Defender(bundle, provider="tensorrt", strict=True)
    assert {"policy.onnx", "language_model.onnx"} <= set(fake_gpu.built)
    seen = set()
    for pixels in pictures(16):
        expected, found = cpu.caption(pixels), engines.caption(pixels)
        assert (found.caption, found.verdict) == (expected.caption, expected.verdict)
        assert (found.decision is None) == (expected.decision is None)
        if found.decision is not None and expected.decision is not None:
            assert found.decision.actions == expected.decision.actions
            np.testing.assert_allclose(
                found.decision.q_values, expected.decision.q_values, atol=1e-5
            )
        assert (found.opinion is None) == (expected.opinion is None)
        if found.opinion is not None and expected.opinion is not None:
            assert found.opinion.confidence == pytest.approx(expected.opinion.confidence, abs=1e-4)
        seen.add(found.verdict)
    assert len(seen) == 2, "frames that are all clean prove little of perturbed ones"


@pytest.mark.parametrize("role", ["policy", "language"])
def test_other_graphs_give_the_cpus_numbers(bundle: Bundle, fake_gpu: Any, role: str) -> None:
    cpu = open_graph(bundle, role, "cpu", strict=True)
    engine = open_graph(bundle, role, "tensorrt", strict=True)
    assert isinstance(engine, EngineGraph)
    assert (engine.types, engine.widths) == (cpu.types, cpu.widths)
    dims = {value.name: value.dims for value in profiled_graph(bundle, role).header.inputs}
    for dynamic in warm_up_shapes(profiled_graph(bundle, role).shapes):
        feed = {}
        for name, shape in (dims | dynamic).items():
            random = np.random.default_rng(0).uniform(0, 9, [int(n) for n in shape])
            feed[name] = host_value(random.astype(engine.types[name]))
        outputs = list(engine.widths)
        for one, other in zip(engine.run(outputs, feed), cpu.run(outputs, feed), strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


def test_what_a_captioner_took_goes_back_with_it(bundle: Bundle, fake_gpu: Any) -> None:
    cuda = fake_gpu.cuda
    first = Defender(bundle, provider="tensorrt", strict=True)
    second = Defender(bundle, provider="tensorrt", strict=True)
    assert len(cuda.streams) == 1, "all graphs share one"
    for pixels in pictures(3):
        first.caption(pixels)
    del first
    for pixels in pictures(3):
        second.caption(pixels)
    assert cuda.blocks
    del second
    gc.collect()
    assert (cuda.blocks, cuda.streams, cuda.recordings) == ({}, {}, set())
    assert not any(context() for context in fake_gpu.contexts)


def test_engines_are_run_at_all_their_shapes_before_the_first_frame(
    bundle: Bundle, fake_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    run = EngineGraph.run

    def watched(self: EngineGraph, outputs: Any, feed: Any) -> Any:
        seen.append({name: value.shape() for name, value in feed.items()})
        return run(self, outputs, feed)

    monkeypatch.setattr(EngineGraph, "run", watched)
    for role in ROLES:
        seen.clear()
        open_native(bundle, role)
        for shape in profiled_graph(bundle, role).shapes:
            assert {shape.usual, shape.most} == {fed[shape.name] for fed in seen}


def opened(bundle: Bundle, role: str, provider: Any, *, strict: bool = False) -> Any:
    return open_graph(bundle, role, provider, strict=strict)


@pytest.mark.parametrize(
    ("asked", "strict"), [("auto", False), ("auto", True), ("tensorrt", False), ("tensorrt", True)]
)
def test_engines_are_taken_without_a_word(
    bundle: Bundle, fake_gpu: Any, asked: str, strict: bool
) -> None:
    for role in ROLES:
        graph = opened(bundle, role, asked, strict=strict)
        assert isinstance(graph, EngineGraph)
        assert (graph.provider, graph.fallback) == ("tensorrt", None)


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
    growing: Bundle, fake_gpu: Any
) -> None:
    graph = opened(growing, "decoder", "tensorrt")
    assert graph.provider == "cpu"
    assert graph.fallback == (
        "running on cpu: tensorrt failed: decoder_model.onnx begins with an empty past; "
        "cuda is not in this onnxruntime"
    )
    assert not fake_gpu.built
    assert "begins with an empty past" in opened(growing, "decoder", "auto").fallback
    with pytest.raises(ProviderError, match="empty past") as caught:
        opened(growing, "decoder", "tensorrt", strict=True)
    assert caught.value.exit_code == 5


def test_an_encoder_on_a_gpu_and_a_decoder_that_is_not(growing: Bundle, fake_gpu: Any) -> None:
    cpu, mixed = OnnxCaptioner(growing, "cpu"), OnnxCaptioner(growing, "tensorrt")
    assert mixed.provider == "tensorrt"
    assert mixed.fallback is not None
    for canvas in canvases(4):
        encoded = mixed.encode(canvas)
        copies = fake_gpu.cuda.calls["cudaMemcpyAsync"]
        assert mixed.generate(encoded).tokens == cpu.generate(cpu.encode(canvas)).tokens
        assert fake_gpu.cuda.calls["cudaMemcpyAsync"] == copies, "nothing is copied in a step"


def test_a_decoder_on_a_gpu_and_an_encoder_that_is_not(bundle: Bundle, fake_gpu: Any) -> None:
    cpu, mixed = OnnxCaptioner(bundle, "cpu"), OnnxCaptioner(bundle, "tensorrt")
    mixed._encoder = cpu._encoder
    for canvas in canvases(4):
        found = mixed.generate(mixed.encode(canvas)).tokens
        assert found == cpu.generate(cpu.encode(canvas)).tokens


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


@pytest.mark.parametrize("refused", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch"])
def test_what_cuda_refuses_of_a_frame_is_a_failed_run(
    bundle: Bundle, fake_gpu: Any, refused: str
) -> None:
    captioner = OnnxCaptioner(bundle, "tensorrt", strict=True)
    captioner.generate(captioner.encode(canvases(1)[0]))
    fake_gpu.cuda.refuses[refused] = fake_gpu.cuda.cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(RunError, match="found cudaErrorIllegalAddress") as caught:
        captioner.generate(captioner.encode(canvases(1)[0]))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


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
