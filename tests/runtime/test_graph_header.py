"""The header of a graph, read twice: by its bytes, and by the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srd_edge.errors import BundleError
from srd_edge.runtime.bundle import BUILT_IN
from srd_edge.runtime.graph_header import GraphHeader, GraphValue, read_header


def reference(path: Path) -> GraphHeader:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}

    def values(infos: list[onnx.ValueInfoProto]) -> tuple[GraphValue, ...]:
        return tuple(
            GraphValue(
                info.name,
                tuple(
                    d.dim_value if d.HasField("dim_value") else d.dim_param
                    for d in info.type.tensor_type.shape.dim
                ),
            )
            for info in infos
        )

    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    return GraphHeader(
        values([info for info in graph.input if info.name not in weights]),
        values(list(graph.output)),
        any(tensor.data_type in half for tensor in graph.initializer),
    )


def small(folder: Path, weights: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [
            value("x", TensorProto.FLOAT, ["batch", 3, None, 0]),
            value("scalar", TensorProto.INT64, []),
            value("w", TensorProto.FLOAT, [2]),
        ],
        [value("y", TensorProto.FLOAT, ["größe"])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    "path", sorted(BUILT_IN.rglob("*.onnx")), ids=lambda p: str(p.relative_to(BUILT_IN))
)
def test_the_built_in_graphs(path: Path) -> None:
    assert read_header(path) == reference(path)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
def test_every_kind_of_axis_and_of_weights(tmp_path: Path, kind: type[np.generic]) -> None:
    header = read_header(path := small(tmp_path, np.ones(2, kind)))
    assert header == reference(path)
    assert header.half == (kind is np.float16)
    assert [value.name for value in header.inputs] == ["x", "scalar"]
    assert header.inputs[0].dims == ("batch", 3, "", 0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_what_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = small(tmp_path, np.ones(50, np.float32))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(BundleError, match="ONNX graph"):
        read_header(path)


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    path = small(tmp_path, np.ones(2, np.float32))
    raw = path.read_bytes()
    refused = 0
    for at in range(len(raw)):
        for byte in (0x00, 0x80, 0xFF):
            path.write_bytes(raw[:at] + bytes([byte]) + raw[at + 1 :])
            try:
                read_header(path)
            except BundleError:
                refused += 1
    assert refused > len(raw)


@pytest.mark.parametrize("raw", [b"not a graph", b"\xff" * 40, b"\0" * 40])
def test_what_is_no_graph_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"bad\.onnx"):
        read_header(path)
