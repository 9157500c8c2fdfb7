"""What a graph may contain: operators, domains, versions, places of data, and no hidden branch.

A backdoor may be put into a graph instead of into weights: a comparison with the picture, and a
choice between two results. Arithmetic can hide as much and cannot be told from a network's; what
can be told is refused here. Nothing is run, and no data outside the graph's own file is read.

Needs the onnx package, and neither PyTorch nor onnxruntime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import onnx

OPSETS: Final = range(11, 25)
IR_VERSIONS: Final = range(4, 14)
_STANDARD_NAMES: Final = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization BitShift BitwiseAnd BitwiseOr Cast
    CastLike Ceil Clip Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum
    DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool
    Mean Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul
    QuantizeLinear RMSNormalization Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RotaryEmbedding Round ScatterElements
    ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt
    Squeeze Sub Sum Swish Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_MICROSOFT_NAMES: Final = """
    Attention BiasGelu BiasSplitGelu DequantizeLinear DynamicQuantizeMatMul FastGelu FusedConv
    FusedGemm FusedMatMul GatherBlockQuantized Gelu GroupQueryAttention MatMulInteger16
    MatMulIntegerToFloat MatMulNBits MultiHeadAttention QAttention QGemm QLinearAdd QLinearConcat
    QLinearGlobalAveragePool QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu
    RotaryEmbedding SimplifiedLayerNormalization SkipLayerNormalization
    SkipSimplifiedLayerNormalization
"""
_STANDARD: Final = frozenset(_STANDARD_NAMES.split())
_MICROSOFT: Final = frozenset(_MICROSOFT_NAMES.split())
OPERATORS: Final[dict[str, frozenset[str]]] = {
    "": _STANDARD,
    "ai.onnx": _STANDARD,
    "com.microsoft": _MICROSOFT,
}
"""By domain: no control flow, no randomness, no strings, sequences or compiled engines."""
_TELLS_SHAPE_ONLY: Final = frozenset({"Shape", "Size", "ConstantOfShape"})
_CONDITION: Final = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a graph that may not be there.

    Args:
        graph: the file.
        what: in one line.
    """

    graph: str
    what: str


def check_graph(path: Path, listed: frozenset[str] = frozenset(), place: str = "") -> list[Finding]:
    """Everything that is wrong with the graph in ``path``.

    Args:
        path: an ONNX file.
        listed: files that it may refer to, by their paths in the bundle.
        place: folder of the graph in the bundle, "" for its root.
    """
    name = f"{place}/{path.name}" if place else path.name
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        return [Finding(name, f"no ONNX graph: {' '.join(str(error).split())[:200]}")]
    problems = [*_versions(model), *_operators(model), *_data(model, listed, place)]
    problems += branches(model)
    return [Finding(name, what) for what in dict.fromkeys(problems)]


def histogram(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator is there, by "domain.name", those of onnx by their name alone."""
    return Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in every_node(model)
    )


def branches(model: onnx.ModelProto) -> Iterator[str]:
    """Choices that depend on what a graph is fed, and not only on its shape."""
    fed = {value.name for value in model.graph.input}
    fed -= {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        touched = [bool(name) and name in fed for name in node.input]
        if node.op_type == "Where" and touched[_CONDITION]:
            yield f"a choice by what is seen or said: {node.op_type} {node.name or node.output[0]}"
        if any(touched) and node.op_type not in _TELLS_SHAPE_ONLY:
            fed |= set(node.output)


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    if model.ir_version not in IR_VERSIONS:
        yield f"IR version {model.ir_version}, not {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version not in OPSETS:
            yield f"opset {entry.version}, not {OPSETS[0]} to {OPSETS[-1]}"


def _operators(model: onnx.ModelProto) -> Iterator[str]:
    if model.functions:
        yield f"functions of its own: {', '.join(function.name for function in model.functions)}"
    for node in every_node(model):
        if node.op_type not in OPERATORS.get(node.domain, frozenset()):
            yield f"the operator {node.domain}{'.' * bool(node.domain)}{node.op_type}"


def _data(model: onnx.ModelProto, listed: frozenset[str], place: str) -> Iterator[str]:
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        pure = PurePosixPath(location)
        inside = location and not pure.is_absolute() and ".." not in pure.parts
        if not inside or "\\" in location:
            yield f"weights outside of the bundle: {location[:80]!r}"
        elif (PurePosixPath(place) / pure).as_posix() not in listed:
            yield f"weights in a file that is not listed: {location[:80]!r}"


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph, of the graphs inside of it and of its functions."""
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for one in (*inner, *attribute.graphs):
                yield from _graphs(one)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for one in _graphs(graph):
        yield from one.initializer
        for sparse in one.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
