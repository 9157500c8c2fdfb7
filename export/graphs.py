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

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from srd_edge.export.component import Component

Precision: TypeAlias = Literal["fp32", "int8"]
OPSET: Final = 18
SUFFIX: Final[dict[Precision, str]] = {"fp32": "", "int8": "_int8"}


def export_graph(component: Component, target: Path) -> None:
    """Write ``component`` to ``target`` as one self-contained ONNX file in fp32."""
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
    model = program.model_proto
    _name_axes(model, component)
    _strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


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


def quantise(source: Path, target: Path, calibration: list[dict[str, NDArray[Any]]] | None) -> None:
    """Make an int8 graph of the fp32 graph ``source``.

    With calibration feeds: static QDQ, per channel, for graphs of convolutions. Without: dynamic
    MatMul, for decoders and small heads (onnxruntime has no dynamic Conv).

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
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if calibration is None:
            quantize_dynamic(
                prepared,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
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
            )


def pixel_feeds(pixel_values: NDArray[np.float32]) -> list[dict[str, NDArray[Any]]]:
    """(B, 3, H, W) float32 -> one calibration feed a picture."""
    return [{"pixel_values": row[None]} for row in pixel_values]


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
