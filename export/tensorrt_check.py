"""What TensorRT's parser refuses in a graph, found before the graph leaves where it is made.

Source: the operator table of onnx-tensorrt for TensorRT 10.15, the last that could be had before
10.16; that of 11.2 gives the same opsets. Two rules are this project's own: no control flow, which
the table allows with restrictions, and no past of length 0. Nothing has been run on TensorRT here.

Needs the onnx package alone, as `export/graph_check.py` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from srd_edge.export.graph_check import Finding, every_node
from srd_edge.runtime.graph_header import read_header
from srd_edge.runtime.profiles import PAST, may_be_empty

OPSETS: Final = range(9, 25)
_PARSED_NAMES: Final = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BlackmanWindow Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape
    Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum
    Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod
    Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization RNN RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TensorScatter ThresholdedRelu Tile
    TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
PARSED: Final = frozenset(_PARSED_NAMES.split())
"""Operators that the parser documents and that are no matter of the rules below."""
_CONTROL_FLOW: Final = frozenset({"If", "Loop", "Scan"})
_BY_VALUE: Final = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
_DYNAMIC_INT8: Final = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
_QUANTISING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ZERO_POINT: Final = 2
_STANDARD: Final = ("", "ai.onnx")


def check_for_tensorrt(path: Path, opsets: range = OPSETS) -> list[Finding]:
    """Why TensorRT does not take the graph in ``path`` as a whole; one finding for each reason.

    Args:
        path: an ONNX file that `graph_check.check_graph` has nothing against.
        opsets: that the target's TensorRT parses.
    """
    model = onnx.load(path, load_external_data=False)
    problems = [*_versions(model, opsets), *_operators(model), *_zero_points(model)]
    return [Finding(path.name, what) for what in dict.fromkeys(problems)]


def empty_past(path: Path) -> str | None:
    """Why no engine runs a graph that TensorRT may well parse; None where none is in the way."""
    inputs = read_header(path).inputs
    if not may_be_empty(inputs):
        return None
    name = next(value.name for value in inputs if PAST in value.dims)
    return f"{name} and others may have length 0, which is in no profile"


def _versions(model: onnx.ModelProto, opsets: range) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain in _STANDARD and entry.version not in opsets:
            yield f"opset {entry.version}, not {opsets[0]} to {opsets[-1]}"


def _operators(model: onnx.ModelProto) -> Iterator[str]:
    for node in every_node(model):
        kind = node.op_type
        if node.domain not in _STANDARD:
            yield f"{node.domain}.{kind}, an operator of onnxruntime's or others' own"
        elif kind in _CONTROL_FLOW:
            yield f"{kind}, control flow, which keeps a graph from being one engine"
        elif kind in _BY_VALUE:
            yield f"{kind}, whose output is as long as the values say"
        elif kind in _DYNAMIC_INT8:
            yield f"{kind}, int8 that TensorRT wants as QuantizeLinear and DequantizeLinear"
        elif kind not in PARSED:
            yield f"{kind}, which the parser does not document"


def _zero_points(model: onnx.ModelProto) -> Iterator[str]:
    """TensorRT quantises symmetrically, to int8."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in every_node(model):
        if node.op_type not in _QUANTISING or len(node.input) <= _ZERO_POINT:
            continue
        tensor = weights.get(node.input[_ZERO_POINT])
        if tensor is None:
            yield f"{node.op_type} with a zero point that is no constant"
        elif tensor.data_type == onnx.TensorProto.UINT8 or np.any(numpy_helper.to_array(tensor)):
            yield f"{node.op_type} with a zero point other than 0, or of unsigned values"
