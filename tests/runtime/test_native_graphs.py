"""Bundles through TensorRT itself: the CPU's captions, token for token, and all memory goes back.

TensorRT and CUDA are those of `tests/fake_tensorrt.py` and `tests/fake_cuda.py`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender
from srd_edge.errors import RunError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.bundle_profiles import profiled_graph
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.engine_graph import EngineGraph
from srd_edge.runtime.graphs import host_value, open_graph
from srd_edge.runtime.native_graphs import open_native
from srd_edge.runtime.profiles import warm_up_shapes
from srd_edge.runtime.sessions import Provider
from srd_edge.training.datasets import open_dataset

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


@pytest.mark.parametrize(
    ("asked", "strict"), [("auto", False), ("auto", True), ("tensorrt", False), ("tensorrt", True)]
)
def test_engines_are_taken_without_a_word(
    bundle: Bundle, fake_gpu: Any, asked: Provider, strict: bool
) -> None:
    for role in ROLES:
        graph = open_graph(bundle, role, asked, strict=strict)
        assert isinstance(graph, EngineGraph)
        assert (graph.provider, graph.fallback) == ("tensorrt", None)


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
