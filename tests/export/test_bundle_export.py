"""The exported bundle says what PyTorch says, and tells how nearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.samples import Sample
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.export.component import Component
from srd_edge.export.graphs import OPSET, export_graph, quantise
from srd_edge.export.packing import bytes_of
from srd_edge.export.parity import PAST_LENGTHS, ask_pytorch, check_fp32, measure_parity
from srd_edge.export.source import open_source
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.runtime.bundle import Bundle, read_bundle, write_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.sessions import open_session
from srd_edge.training.checkpoints import load_policy
from srd_edge.training.datasets import open_dataset

TOLERANCE = 2e-4
LAYERS, HEADS, HEAD_DIM, CELLS = 2, 2, 8, 4


@pytest.fixture(scope="module")
def captioner(toy_captioner: Path) -> Captioner:
    return load_captioner(toy_captioner)


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    return open_dataset("scenes", "dev", 96)


@pytest.fixture(scope="module")
def int8_bundle(
    toy_captioner: Path, samples: Sequence[Sample], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    folder = tmp_path_factory.mktemp("toy") / "deep" / "int8"
    config = ExportConfig(str(toy_captioner), folder, precision="int8")
    return export_bundle(config, samples, lambda _: None)


def graph(bundle: Bundle, name: str) -> onnx.ModelProto:
    return onnx.load(bundle.path(name))


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for part in (model.graph, *model.functions) for node in part.node}


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def kv(side: str, part: str) -> list[str]:
    return [f"{side}.{i}.{part}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]


def test_names_axes_and_operators(bundle: Bundle) -> None:
    encoder, decoder = graph(bundle, "encoder_model.onnx"), graph(bundle, "decoder_model.onnx")
    policy = graph(bundle, "policy.onnx")
    assert [v.name for v in encoder.graph.input] == ["pixel_values"]
    assert [v.name for v in encoder.graph.output] == [
        "last_hidden_state",
        *kv("present", "encoder"),
    ]
    own, cross = kv("past_key_values", "decoder"), kv("past_key_values", "encoder")
    assert [v.name for v in decoder.graph.input] == ["input_ids", *own, *cross]
    assert [v.name for v in decoder.graph.output] == ["logits", *kv("present", "decoder")]
    assert [v.name for v in policy.graph.input] == ["encoder_hidden_states", "coverage"]
    assert [v.name for v in policy.graph.output] == ["q_values"]
    inputs = {v.name: axes(v) for v in (*encoder.graph.input, *decoder.graph.input)}
    assert inputs.pop("pixel_values") == ["batch", 3, 32, 32]
    assert inputs.pop("input_ids") == ["batch", "sequence"]
    for name, found in inputs.items():
        assert found == ["batch", HEADS, "past" if name in own else "picture", HEAD_DIM]
    for model in (encoder, decoder, policy):
        assert "If" not in operators(model)
        assert {o.version for o in model.opset_import if o.domain == ""} == {OPSET}


@pytest.mark.parametrize(
    ("past", "sequence", "batch"), list(product((0, 1, 2, 5, 8), (1, 2, 3), (1, 2, 3)))
)
def test_logits(bundle: Bundle, captioner: Captioner, past: int, sequence: int, batch: int) -> None:
    """One pass over everything in PyTorch, with no cache at all, is the obvious reference."""
    model = captioner.model
    generator = torch.Generator().manual_seed(past)
    pixel_values = torch.randn(batch, 3, 32, 32, generator=generator)
    ids = torch.randint(0, 300, (batch, past + sequence), generator=generator)
    with torch.no_grad():
        hidden = model.encoder(pixel_values).last_hidden_state
        truth = model.decoder(input_ids=ids, encoder_hidden_states=hidden).logits[:, past:]
    encoder = open_session(bundle.path("encoder_model.onnx"), "cpu").session
    decoder = open_session(bundle.path("decoder_model.onnx"), "cpu").session
    features, *cross = encoder.run(None, {"pixel_values": pixel_values.numpy()})
    np.testing.assert_allclose(features, hidden.numpy(), atol=TOLERANCE)
    feed = dict(zip(kv("past_key_values", "encoder"), cross, strict=True))
    empty = np.empty((batch, HEADS, 0, HEAD_DIM), np.float32)
    own = [empty] * (2 * LAYERS)
    if past:
        feed |= dict(zip(kv("past_key_values", "decoder"), own, strict=True))
        _, *own = decoder.run(None, feed | {"input_ids": ids[:, :past].numpy()})
    feed |= dict(zip(kv("past_key_values", "decoder"), own, strict=True))
    logits, *own = decoder.run(None, feed | {"input_ids": ids[:, past:].numpy()})
    np.testing.assert_allclose(logits, truth.numpy(), atol=TOLERANCE)
    assert {tensor.shape for tensor in own} == {(batch, HEADS, past + sequence, HEAD_DIM)}


def test_captions_token_for_token(bundle: Bundle, captioner: Captioner) -> None:
    pictures = open_dataset("scenes", "test", 32)
    canvases = captioner.canvases(sample.load() for sample in pictures)
    runtime = OnnxCaptioner(bundle, "cpu")
    (start,) = bundle.manifest.generation.prompt
    (end,) = bundle.manifest.generation.end_tokens
    texts = []
    for canvas in canvases:
        truth = captioner.model.generate(
            captioner.pixel_values(canvas[None]), do_sample=False, num_beams=1
        )[0].tolist()
        made = runtime.generate(runtime.encode(canvas))
        assert [start, *made.tokens] == [token for token in truth if token != end]
        texts.append(made.text)
    assert texts == captioner.caption(canvases)
    assert len(set(texts)) > 16, "captions that are all the same prove little"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_q_values(bundle: Bundle, toy_policy: Path, batch: int) -> None:
    network = load_policy(toy_policy).network
    rng = np.random.default_rng(batch)
    features = rng.normal(size=(batch, CELLS, 16)).astype(np.float32)
    coverage = rng.random((batch, 5, 5), np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(features), torch.from_numpy(coverage)).numpy()
    session = open_session(bundle.path("policy.onnx"), "cpu").session
    feed = {"encoder_hidden_states": features, "coverage": coverage}
    np.testing.assert_allclose(session.run(["q_values"], feed)[0], truth, atol=TOLERANCE)


def test_the_manifest_tells_the_parity(bundle: Bundle, int8_bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert (parity["captions"], parity["captions_equal"], parity["tokens_equal"]) == (32, 1, 1)
    assert set(parity["logits_max_abs_difference"]) == {str(past) for past in PAST_LENGTHS}
    assert parity["q_values_max_abs_difference"] < TOLERANCE
    assert check_fp32(dict(parity)) == []
    assert parity["cider_d"] == parity["cider_d_pytorch"] > 0
    int8 = int8_bundle.manifest.parity
    assert int8["cider_d_pytorch"] == parity["cider_d_pytorch"]
    assert 0.25 < int8["tokens_equal"] <= 1
    assert "q_values_max_abs_difference" not in int8


def test_what_the_bundle_says_of_itself(
    bundle: Bundle, int8_bundle: Bundle, captioner: Captioner
) -> None:
    manifest = bundle.manifest
    spec = manifest.captioner
    assert (spec.layers, spec.heads, spec.head_dim) == (LAYERS, HEADS, HEAD_DIM)
    assert manifest.preprocessing == captioner.preprocessing
    assert manifest.generation.max_new_tokens == 11
    assert manifest.actions == DEFAULT_TABLE
    assert manifest.policy is not None
    assert (manifest.policy.max_steps, manifest.policy.temperature) == (2, 0.5)
    assert int8_bundle.manifest.policy is None
    assert int8_bundle.manifest.precision == "int8"
    assert {entry.path for entry in int8_bundle.manifest.files} == {
        "encoder_model_int8.onnx",
        "decoder_model_int8.onnx",
        "tokenizer.json",
    }
    encoder = graph(int8_bundle, "encoder_model_int8.onnx")
    decoder = graph(int8_bundle, "decoder_model_int8.onnx")
    assert "QuantizeLinear" in operators(encoder)
    assert "MatMulNBits" in operators(decoder)


def test_int8_is_a_quarter_of_the_size_where_weights_matter(tmp_path: Path) -> None:
    component = Component(
        "wide",
        torch.nn.Linear(256, 512),
        {"x": torch.randn(2, 256)},
        ("y",),
        {"x": {0: "batch"}},
    )
    source, target = tmp_path / "wide.onnx", tmp_path / "wide_int8.onnx"
    export_graph(component, source)
    quantise(source, target, None)
    assert bytes_of(target) < 0.3 * bytes_of(source)
    x = torch.randn(3, 256)
    made = open_session(target, "cpu").session.run(None, {"x": x.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(made, component.module(x).numpy(), atol=0.1)


def altered(bundle: Bundle, file: str, target: Path) -> Bundle:
    """``bundle`` with noise on the largest weights of one graph."""
    model = graph(bundle, file)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights = numpy_helper.to_array(largest)
    noise = np.random.default_rng(0).normal(scale=weights.std(), size=weights.shape)
    largest.CopyFrom(numpy_helper.from_array((weights + noise).astype("f4"), largest.name))
    files: dict[str, bytes | Path] = {
        entry.path: bundle.path(entry.path) for entry in bundle.manifest.files
    }
    files[file] = model.SerializeToString()
    return write_bundle(target, replace(bundle.manifest, files=()), files)


def test_an_altered_graph_is_noticed(
    bundle: Bundle, toy_captioner: Path, samples: Sequence[Sample], tmp_path: Path
) -> None:
    source = open_source(toy_captioner)
    canvases = source.captioner.canvases(sample.load() for sample in samples[:8])
    references = [sample.captions for sample in samples[:8]]
    truth = ask_pytorch(source, source.components(), list(canvases))
    wrong = altered(bundle, "decoder_model.onnx", tmp_path / "wrong")
    problems = check_fp32(measure_parity(wrong, truth, None, list(canvases), references))
    assert any("logits differ" in problem for problem in problems)
    assert any("captions are the same" in problem for problem in problems)
