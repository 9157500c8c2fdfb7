"""Every precision of both kinds of decoder is a bundle that runs and says nearly the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, get_args

import onnx
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.export import weights as weights_module
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.export.graphs import SUFFIX, Precision
from srd_edge.export.inspection import verify_bundle
from srd_edge.kernels.frames import Pixels

LESS: dict[Precision, dict[str, str]] = {
    "fp16": {"encoder": "FLOAT16", "decoder": "FLOAT16"},
    "int8": {"encoder": "MatMulInteger", "decoder": "MatMulNBits"},
    "int4": {"encoder": "MatMulInteger", "decoder": "MatMulNBits"},
}


def _same(pixels: Pixels) -> Pixels:
    return pixels


@pytest.mark.parametrize("precision", LESS)
@pytest.mark.parametrize("kind", ["vit_gpt2_model", "git_model"])
def test_a_precision_is_in_the_graphs_and_in_the_captions(
    kind: str,
    precision: Precision,
    pictures: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights_module, "_LEAST", 64)  # the models are small
    model = request.getfixturevalue(kind)
    config = ExportConfig(
        str(model), tmp_path / "bundle", precision=precision, max_new_tokens=9, beams=1
    )
    samples = [Sample(f"{n}", ("w1 w2",), partial(_same, p)) for n, p in enumerate(pictures * 3)]
    bundle = export_bundle(config, samples, lambda _: None)
    assert bundle.manifest.precision == precision
    assert verify_bundle(bundle) == []
    for role, sign in LESS[precision].items():
        file = bundle.manifest.captioner.components[role]
        assert file.endswith(f"{SUFFIX[precision]}.onnx")
        graph = onnx.load(bundle.path(file)).graph
        signs = {node.op_type for node in graph.node}
        signs |= {onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer}
        assert sign in signs
    # What graphs hand each other is what fp16 makes smaller; pictures and logits stay as they are.
    decoder = onnx.load(bundle.path(bundle.manifest.captioner.components["decoder"])).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*decoder.input, *decoder.output)}
    cache = {types[name] for name in types if name.startswith(("past_key_values.", "present."))}
    half = precision == "fp16"
    assert cache == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
    assert types["logits"] == onnx.TensorProto.FLOAT
    parity = bundle.manifest.parity
    assert parity["tokens_equal"] > {"fp16": 0.95, "int8": 0.6, "int4": 0.1}[precision]
    assert max(parity["logits_max_abs_difference"].values()) > 0


def test_every_precision_is_tried() -> None:
    assert {*LESS, "fp32"} == set(get_args(Precision))
