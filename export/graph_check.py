"""What a graph may contain: operators, domains, versions, places of data, and no hidden branch.

A backdoor may be put into a graph instead of into weights: a comparison with the picture, and a
choice between two results. Arithmetic can hide as much and cannot be told from a network's; what
can be told is refused here. Nothing is run, and no data outside the graph's own file is read.

Two choices are let through: the `If` of a decoder that its manifest calls merged, between the first
call and all others, which the runtime makes and no picture; and PyTorch's zeros for the rows of a
softmax in which nothing is attended to.

Needs the onnx package, and neither PyTorch nor onnxruntime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import onnx
from onnx import numpy_helper

from srd_edge.export.node_order import in_order, inner_graphs
from srd_edge.runtime.bundle_specs import MERGED_KINDS, USE_CACHE_BRANCH, Decoding
from srd_edge.runtime.merged_decoder import COUNTED
from srd_edge.runtime.merged_prefix import MADE
from srd_edge.runtime.picture_inputs import SIZES

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
_TELLS_LENGTHS: Final[Mapping[Decoding, frozenset[str]]] = {
    "merged": COUNTED,
    "with-past": COUNTED,
    "merged-prefix": MADE | SIZES,
}
"""By kind, inputs of graphs exported elsewhere that tell no more than lengths and sizes."""
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


def check_graph(
    path: Path,
    listed: frozenset[str] = frozenset(),
    place: str = "",
    *,
    decoding: Decoding | None = None,
) -> list[Finding]:
    """Everything that is wrong with the graph in ``path``.

    Args:
        path: an ONNX file.
        listed: files that it may refer to, by their paths in the bundle.
        place: folder of the graph in the bundle, "" for its root.
        decoding: of a decoder, the kind that its manifest says it is; of the other graphs of a
            captioner, only where that kind is merged-prefix.
    """
    name = f"{place}/{path.name}" if place else path.name
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        return [Finding(name, f"no ONNX graph: {' '.join(str(error).split())[:200]}")]
    declared = _first_or_later(model) if decoding in MERGED_KINDS else None
    counted = frozenset[str]() if decoding is None else _TELLS_LENGTHS.get(decoding, frozenset())
    problems = [*_versions(model), *_operators(model, declared), *_data(model, listed, place)]
    try:
        problems += branches(model, declared, counted)
    except ValueError as error:
        problems.append(str(error))
    return [Finding(name, what) for what in dict.fromkeys(problems)]


def histogram(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator is there, by "domain.name", those of onnx by their name alone."""
    return Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in every_node(model)
    )


def external_files(model: onnx.ModelProto) -> list[str]:
    """Where a graph says that weights of it lie, in its own words; each place once."""
    places = [
        {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        for tensor in _tensors(model.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    return list(dict.fromkeys(places))


def branches(
    model: onnx.ModelProto,
    declared: onnx.NodeProto | None = None,
    counted: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Choices that depend on what a graph is fed, and not only on its shape.

    Args:
        model: the graph.
        declared: an `If` of it that may be there.
        counted: inputs that tell lengths alone.

    Raises:
        ValueError: nodes that wait for one another.
    """
    fed = {value.name for value in model.graph.input} - counted
    fed -= {tensor.name for tensor in model.graph.initializer}
    yield from _branches(model.graph, fed, {}, declared)


def _branches(
    graph: onnx.GraphProto,
    fed: set[str],
    made: dict[str, onnx.NodeProto],
    declared: onnx.NodeProto | None,
) -> Iterator[str]:
    """``fed`` and ``made``, names and what makes them, are those around the graph, and grow."""
    zeros = {tensor.name for tensor in graph.initializer if _is_zero(tensor)}
    # onnxruntime sorts them too, so that what is written backwards is a branch all the same.
    for node in in_order(graph):
        touched = [bool(name) and name in fed for name in node.input]
        chooses = node.op_type == "If" and node is not declared
        chooses |= node.op_type == "Where" and not _fills_softmax(node, made, zeros)
        if chooses and any(touched[: _CONDITION + 1]):
            yield f"a choice by what is seen or said: {node.op_type} {node.name or node.output[0]}"
        for one in inner_graphs(node):
            inside = set(fed)
            yield from _branches(one, inside, dict(made), declared)
            touched += [value.name in inside for value in one.output]
        if any(touched) and node.op_type not in _TELLS_SHAPE_ONLY:
            fed |= set(node.output)
        made |= dict.fromkeys(node.output, node)


def _first_or_later(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """The `If` of a merged decoder, if nothing else looks at what it chooses by."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    held = {tensor.name for tensor in model.graph.initializer}
    nodes = list(every_node(model))
    found: list[onnx.NodeProto] = [
        node for node in model.graph.node if list(node.input) == [USE_CACHE_BRANCH]
    ]
    named = [node for node in nodes if USE_CACHE_BRANCH in (*node.input, *node.output)]
    if (
        kinds.get(USE_CACHE_BRANCH) != onnx.TensorProto.BOOL
        or USE_CACHE_BRANCH in held
        or len(found) != 1
        or len(named) != 1
        or (found[0].domain, found[0].op_type) != ("", "If")
    ):
        return None
    return found[0]


def _fills_softmax(node: onnx.NodeProto, made: dict[str, onnx.NodeProto], zeros: set[str]) -> bool:
    """Whether it is ``Where(IsNaN(p), 0, p)`` of ``p``, a softmax."""
    if len(node.input) != 3:
        return False
    condition, fill, kept = node.input
    test, weights, constant = made.get(condition), made.get(kept), made.get(fill)
    nothing = fill in zeros or (
        constant is not None
        and constant.op_type == "Constant"
        and any(a.name == "value" and _is_zero(a.t) for a in constant.attribute)
    )
    return (
        nothing
        and (test is not None and test.op_type == "IsNaN" and list(test.input) == [kept])
        and (weights is not None and weights.op_type == "Softmax")
    )


def _is_zero(tensor: onnx.TensorProto) -> bool:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.dims) > 1:
        return False
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return tensor.data_type in floats and not numpy_helper.to_array(tensor).any()


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    if model.ir_version not in IR_VERSIONS:
        yield f"IR version {model.ir_version}, not {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version not in OPSETS:
            yield f"opset {entry.version}, not {OPSETS[0]} to {OPSETS[-1]}"


def _operators(model: onnx.ModelProto, declared: onnx.NodeProto | None) -> Iterator[str]:
    if model.functions:
        yield f"functions of its own: {', '.join(function.name for function in model.functions)}"
    for node in every_node(model):
        if node is not declared and node.op_type not in OPERATORS.get(node.domain, frozenset()):
            yield f"the operator {node.domain}{'.' * bool(node.domain)}{node.op_type}"


def _data(model: onnx.ModelProto, listed: frozenset[str], place: str) -> Iterator[str]:
    for location in external_files(model):
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
        for one in inner_graphs(node):
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
