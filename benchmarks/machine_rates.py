"""What a machine can do, and how long a graph takes at the least: bytes read, operations done."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from srd_edge.runtime.sessions import open_session

_SIDE: Final = 1024
"""Of the matrices whose product is timed."""
_BLOCK: Final = 1 << 26
"""Numbers that each thread reads: more than any cache holds."""
_ROWS_ONLY: Final = frozenset({"Gather", "GatherBlockQuantized"})


def rates(threads: int, device: str) -> dict[str, float]:
    """Bytes a second read from memory, and operations a second in products, by their type."""
    if device == "cuda":
        return {
            "read_gb_s": _read_by_gpu(),
            "fp32_gop_s": _product(torch.float32, device),
            "fp16_gop_s": _product(torch.float16, device),
        }
    return {
        "read_gb_s": _read_by_threads(threads),
        "fp32_gop_s": _product(torch.float32, device),
        "int8_gop_s": _int8_product(threads),
    }


def bytes_a_token(decoder: Path) -> int:
    """Bytes of weights that a call of a decoder reads: of an embedding, a row is next to none."""
    graph = onnx.load(decoder, load_external_data=False).graph
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return sum(
        _bytes(tensor)
        for tensor in graph.initializer
        if not readers.get(tensor.name, set()) <= _ROWS_ONLY
    )


def operations(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Multiplications and additions of one call, those of a product counted as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())


def _bytes(tensor: onnx.TensorProto) -> int:
    place = {entry.key: entry.value for entry in tensor.external_data}
    return int(place["length"]) if place else tensor.ByteSize()


def _read_by_threads(threads: int) -> float:
    block = np.ones((threads, _BLOCK), np.float32)
    seconds = []
    for _ in range(5):
        readers = [threading.Thread(target=row.max) for row in block]
        start = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        seconds.append(time.perf_counter() - start)
    return block.nbytes / min(seconds) / 1e9


def _read_by_gpu() -> float:
    block = torch.ones(16 * _BLOCK, dtype=torch.float32, device="cuda")
    return block.nbytes / _median(lambda: block.max().item()) / 1e9


def _product(kind: torch.dtype, device: str) -> float:
    side = 8 * _SIDE if device == "cuda" else _SIDE
    left, right = (torch.rand(side, side, device=device).to(kind) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * side**3 / _median(multiply) / 1e9


def _int8_product(threads: int) -> float:
    """By onnxruntime, whose int8 graphs are bounded by it."""
    make = onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    dims = [_SIDE, _SIDE]
    weights = onnx.numpy_helper.from_array(np.ones(dims, np.int8), "b")
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [make("a", kinds.UINT8, dims)],
        [make("c", kinds.INT32, dims)],
        [weights],
    )
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(body, opset_imports=[opset], ir_version=9)
    session: Any = open_session(model.SerializeToString(), "cpu", threads=threads).session
    feed = {"a": np.ones(dims, np.uint8)}
    return 2 * _SIDE**3 / _median(lambda: session.run(None, feed)) / 1e9


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])
