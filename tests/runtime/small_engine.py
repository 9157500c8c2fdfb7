"""A small graph and its engine on the stand-in for a GPU, and what is fed to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from srd_edge.runtime.engines import Engine
from tests import fake_tensorrt

FLOAT, HALF, LONG, BOOL = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16),
    *(TensorProto.INT64, TensorProto.BOOL),
)
PROFILE = {name: ([1, 1], [2, 3], [4, 8]) for name in ("x", "keep")}


def write_model(path: Path) -> Path:
    """``y`` (B, N) float16 is ``x`` where ``keep``, plus ``start``; ``most`` () is its largest."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Cast", ["start"], ["begin"], to=HALF),
            helper.make_node("Where", ["keep", "x", "begin"], ["kept"]),
            helper.make_node("Add", ["kept", "begin"], ["y"]),
            helper.make_node("Cast", ["y"], ["wide"], to=FLOAT),
            helper.make_node("ReduceMax", ["wide"], ["most"], keepdims=0),
        ],
        "g",
        [
            value("x", HALF, ["batch", "n"]),
            value("keep", BOOL, ["batch", "n"]),
            value("start", LONG, []),
        ],
        [value("y", HALF, ["batch", "n"]), value("most", FLOAT, [])],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def open_engine(fake_gpu: Any, model: Path) -> Engine:
    logger = fake_gpu.Logger("error")
    runtime = fake_tensorrt.Runtime(fake_gpu, logger)
    engine: Any = fake_tensorrt.Engine(runtime, {"model": str(model), "profile": PROFILE})
    return Engine(engine, runtime, logger)


def arrays(batch: int = 2, n: int = 3, start: int = 5) -> dict[str, Any]:
    random = np.random.default_rng(batch * n)
    return {
        "x": random.normal(size=(batch, n)).astype(np.float16),
        "keep": random.integers(0, 2, (batch, n)).astype(np.bool_),
        "start": np.array(start),
    }


def values(**more: Any) -> dict[str, Any]:
    return {name: graph_value(array) for name, array in (arrays() | more).items()}


def graph_value(array: Any) -> Any:
    """As a value of the host, whose numbers without axes keep none."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.array(array))
