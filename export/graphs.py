"""PyTorch modules to ONNX files, and their precision."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import onnx
import torch
from numpy.typing import NDArray

from srd_edge.export.component import Component
from srd_edge.export.node_order import sort_nodes
from srd_edge.export.packing import save_graph, weights_path
from srd_edge.export.weights import quantise_weights

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4"]
OPSET: Final = 18
SUFFIX: Final[dict[Precision, str]] = {
    "fp32": "",
    "fp16": "_fp16",
    "int8": "_int8",
    "int4": "_q4",
}
"""Of file names, as transformers.js has them."""
_IN_FP32: Final = ("LayerNormalization", "Softmax", "LogSoftmax", "ReduceMean", "Pow", "Range")
"""What overflows or loses its small differences in half precision."""
_HALF_OUTSIDE: Final = ("past_key_values.", "present.", "image_features", "inputs_embeds")
"""Inputs and outputs that graphs hand each other, half as large in half precision."""


def export_graph(component: Component, target: Path) -> None:
    """Write ``component`` to ``target`` in fp32, its weights in a file beside it."""
    shapes = tuple(
        dict.fromkeys(component.dynamic.get(name, {}), torch.export.Dim.DYNAMIC)
        for name in component.inputs
    )
    with _quiet():
        program = torch.onnx.export(
            component.module,
            tuple(component.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(component.inputs),
            output_names=list(component.outputs),
            dynamic_shapes=_shapes_of_forward(component, shapes),
            verbose=False,
        )
    assert program is not None
    program.save(target, external_data=True)
    model = onnx.load(target, load_external_data=False)
    _name_axes(model, component)
    _strip_traces(model)
    onnx.save(model, target)
    onnx.checker.check_model(target, full_check=True)


def _shapes_of_forward(component: Component, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """torch.export wants the shapes nested like forward's signature: a tuple for its ``*``."""
    kinds = [p.kind for p in inspect.signature(component.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])


def _name_axes(model: onnx.ModelProto, component: Component) -> None:
    """Give dynamic axes the documented names instead of s0, s1, ..."""
    for value in model.graph.input:
        for axis, name in component.dynamic.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = name


def _strip_traces(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes, which name files and folders of the machine that it ran on."""
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
        tensor.ClearField("doc_string")


def convert(
    source: Path,
    target: Path,
    precision: Precision,
    calibration: list[dict[str, NDArray[Any]]] | None,
) -> None:
    """Make a graph of another precision of the fp32 graph ``source``.

    fp16 keeps float32 inputs and outputs but for keys, values and embeddings. int8 and int4 go by
    what bounds the graph: an encoder's arithmetic becomes int8 (static and calibrated where it
    convolves, dynamic where it attends), a decoder, which has no calibration, reads its weights in
    blocks of 8 or 4 bits.

    Args:
        source: the fp32 graph.
        target: where to write; its weights go into a file beside it.
        precision: not fp32.
        calibration: feeds for an encoder; None for a decoder.
    """
    if precision == "fp16":
        _halve(source, target)
    elif calibration is None:
        quantise_weights(source, target, 4 if precision == "int4" else 8)
    else:
        quantise(source, target, calibration if _convolves(source) else None)


def _halve(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = onnx.load(source, load_external_data=False).graph
    names = [value.name for value in (*graph.input, *graph.output)]
    kept = [name for name in names if not name.startswith(_HALF_OUTSIDE)]
    with _quiet():
        model = convert_float_to_float16(
            str(source), keep_io_types=kept, op_block_list=list(_IN_FP32)
        )
    sort_nodes(model.graph)
    save_graph(model, target)


def _convolves(source: Path) -> bool:
    """Whether there is more than the one convolution that cuts a picture into patches."""
    nodes = onnx.load(source, load_external_data=False).graph.node
    return [node.op_type for node in nodes].count("Conv") > 1


def quantise(source: Path, target: Path, calibration: list[dict[str, NDArray[Any]]] | None) -> None:
    """Make a graph of int8 arithmetic of the fp32 graph ``source``.

    With calibration feeds: static QDQ, per channel, for graphs of convolutions. Without: dynamic
    MatMul (onnxruntime has no dynamic Conv).

    Weights keep 7 bits (``reduce_range``): on processors without VNNI the products of 8-bit weights
    and unsigned activations saturate, and more than half of the captions changed (docs/log.md).
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Feeds(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feeds: list[dict[str, NDArray[Any]]]) -> None:
            self._feeds: Iterator[dict[str, NDArray[Any]]] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / source.name
        quant_pre_process(
            source,
            prepared,
            skip_symbolic_shape=True,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            external_data_location=weights_path(prepared).name,
        )
        if calibration is None:
            quantize_dynamic(
                prepared,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        else:
            quantize_static(
                prepared,
                target,
                Feeds(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "MaxPool", "Relu"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantiser report progress and advice that is not for our users."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
