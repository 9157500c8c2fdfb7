"""Weights in blocks of 8 or 4 bits: ``MatMulNBits`` in place of products with constant weights.

A decoder reads all of its weights for every token, so that bytes are what its speed is bounded by.
The weight is stored once where an embedding and a head share it: rows of the same bytes are
gathered and scaled with standard operators.

Source: onnxruntime's ContribOperators.md, MatMulNBits; symmetric, the zero point in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from srd_edge.export.packing import save_graph

Bits: TypeAlias = Literal[4, 8]
BLOCK: Final = 32
"""Weights that share a scale, along the inner dimension of a product."""
_DOMAIN: Final = "com.microsoft"
_INT8_ACTIVATIONS: Final = 4
"""``accuracy_level``: the products may be added up in int8 times int8."""
LOGITS: Final = "logits"
TOKENS: Final = "input_ids"
_LEAST: Final = 4096
"""Smaller weights stay as they are."""


def quantise_weights(source: Path, target: Path, bits: Bits) -> None:
    """Write the fp32 graph ``source`` with its large weights in ``bits`` bits to ``target``.

    The head that makes the logits, and the embedding that shares its weights, never have less than
    8 bits: every word is chosen by it.
    """
    model = onnx.load(source)
    _Rewriter(model.graph, bits).run()
    if not any(entry.domain == _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    save_graph(model, target)
    onnx.checker.check_model(target)


def quantised(
    weights: NDArray[np.float32], bits: Bits
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(N, K) float32 -> (N, blocks, BLOCK * bits / 8) uint8 and (N, blocks) float32 scales.

    A value is (byte - 2^(bits - 1)) * scale; of two 4-bit values in a byte the low one is first.
    """
    count, inner = weights.shape
    blocks = -(-inner // BLOCK)
    padded = np.zeros((count, blocks * BLOCK), np.float32)
    padded[:, :inner] = weights
    grouped = padded.reshape(count, blocks, BLOCK)
    middle = 2 ** (bits - 1)
    # The largest of a block, with its sign, becomes the end that reaches one level further.
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=2)[..., None], axis=2)
    scales = largest[..., 0] / -middle
    divisor = np.where(scales == 0, 1, scales)[..., None]
    levels = np.clip(np.rint(grouped / divisor) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        levels = levels[..., 0::2] | (levels[..., 1::2] << 4)
    return levels, scales.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Product:
    """A node that multiplies by constant weights.

    Args:
        node: a MatMul or a Gemm.
        initializer: the weights' name.
        by_row: whether they are (N, K), and not (K, N).
        bits: of their values.
    """

    node: onnx.NodeProto
    initializer: str
    by_row: bool
    bits: Bits


@dataclass(frozen=True, slots=True)
class _Stored:
    """Names of quantised weights and of their scales; ``count`` rows of ``inner`` values."""

    levels: str
    scales: str
    count: int
    inner: int


class _Rewriter:
    def __init__(self, graph: onnx.GraphProto, bits: Bits) -> None:
        self._graph, self._bits = graph, bits
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._stored: dict[str, _Stored] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        graph = self._graph
        transposed = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Transpose" and node.input[0] in self._weights
        }
        products = {
            id(product.node): product
            for node in graph.node
            if (product := self._product(node, transposed)) is not None
        }
        tables = {product.initializer: product.bits for product in products.values()}
        tables |= {name: 8 for name in self._words() if name not in tables}
        for node in graph.node:
            if id(node) in products:
                self._multiply(products[id(node)])
            elif node.op_type == "Gather" and node.input[0] in tables:
                self._gather(node, tables[node.input[0]])
            else:
                self._nodes.append(node)
        graph.ClearField("node")
        graph.node.extend(self._used(self._nodes))
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        graph.ClearField("initializer")
        graph.initializer.extend(kept)

    def _words(self) -> Iterable[str]:
        """Large tables that a row is taken of for each token."""
        for node in self._graph.node:
            tensor = self._weights.get(node.input[0]) if node.op_type == "Gather" else None
            if tensor is None or node.input[1] != TOKENS or len(tensor.dims) != 2:
                continue
            if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= _LEAST:
                yield tensor.name

    def _product(self, node: onnx.NodeProto, transposed: dict[str, str]) -> _Product | None:
        if node.op_type not in ("MatMul", "Gemm"):
            return None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0:
            return None
        name, by_row = node.input[1], bool(attributes.get("transB"))
        if name in transposed:
            name, by_row = transposed[name], not by_row
        tensor = self._weights.get(name)
        if tensor is None or len(tensor.dims) != 2 or np.prod(tensor.dims) < _LEAST:
            return None
        return _Product(node, name, by_row, 8 if node.output[0] == LOGITS else self._bits)

    def _multiply(self, product: _Product) -> None:
        node = product.node
        stored = self._store(product.initializer, product.by_row, product.bits)
        biased = node.op_type == "Gemm" and len(node.input) > 2
        output = f"{node.output[0]}_unbiased" if biased else node.output[0]
        self._nodes.append(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], stored.levels, stored.scales],
                [output],
                domain=_DOMAIN,
                K=stored.inner,
                N=stored.count,
                bits=product.bits,
                block_size=BLOCK,
                accuracy_level=_INT8_ACTIVATIONS,
            )
        )
        if biased:
            self._nodes.append(helper.make_node("Add", [output, node.input[2]], node.output))

    def _gather(self, node: onnx.NodeProto, bits: Bits) -> None:
        """Rows of the stored bytes, back in float32: the embedding."""
        stored = self._store(node.input[0], True, bits)
        name, ids = node.output[0], node.input[1]
        middle = self._constant(f"{name}_middle", np.float32(2 ** (bits - 1)))
        rows, scales = f"{name}_bytes", f"{name}_scales"
        self._nodes += [
            helper.make_node("Gather", [stored.levels, ids], [rows]),
            helper.make_node("Gather", [stored.scales, ids], [scales]),
        ]
        if bits == 4:
            rows = self._unpacked(name, rows)
        axis = self._constant(f"{name}_axis", np.array([-1], np.int64))
        # (ids..., blocks, BLOCK): 0 keeps a dimension, -1 takes what is left.
        flat = self._constant(f"{name}_flat", np.array([0, 0, -1], np.int64))
        ends = {
            part: self._constant(f"{name}_{part}", np.array([value], np.int64))
            for part, value in (("start", 0), ("end", stored.inner), ("last", 2))
        }
        self._nodes += [
            helper.make_node("Cast", [rows], [f"{name}_levels"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sub", [f"{name}_levels", middle], [f"{name}_centred"]),
            helper.make_node("Unsqueeze", [scales, axis], [f"{name}_scale"]),
            helper.make_node("Mul", [f"{name}_centred", f"{name}_scale"], [f"{name}_blocks"]),
            helper.make_node("Reshape", [f"{name}_blocks", flat], [f"{name}_padded"]),
            helper.make_node(
                "Slice", [f"{name}_padded", ends["start"], ends["end"], ends["last"]], node.output
            ),
        ]

    def _unpacked(self, name: str, rows: str) -> str:
        """(..., BLOCK / 2) bytes of two values each -> (..., BLOCK) bytes of one."""
        mask = self._constant(f"{name}_mask", np.uint8(15))
        shift = self._constant(f"{name}_shift", np.uint8(4))
        axis = self._constant(f"{name}_pair", np.array([-1], np.int64))
        shape = self._constant(f"{name}_unpacked", np.array([0, 0, 0, BLOCK], np.int64))
        self._nodes += [
            helper.make_node("BitwiseAnd", [rows, mask], [f"{name}_low"]),
            helper.make_node("BitShift", [rows, shift], [f"{name}_high"], direction="RIGHT"),
            helper.make_node("Unsqueeze", [f"{name}_low", axis], [f"{name}_low_1"]),
            helper.make_node("Unsqueeze", [f"{name}_high", axis], [f"{name}_high_1"]),
            helper.make_node("Concat", [f"{name}_low_1", f"{name}_high_1"], [f"{name}_2"], axis=-1),
            helper.make_node("Reshape", [f"{name}_2", shape], [f"{name}_single"]),
        ]
        return f"{name}_single"

    def _store(self, name: str, by_row: bool, bits: Bits) -> _Stored:
        """Add the weights to the graph, once however often they are asked for."""
        key = f"{name}{'' if by_row else '_by_column'}_q{bits}"
        if key not in self._stored:
            weights = numpy_helper.to_array(self._weights[name])
            rows = weights if by_row else np.ascontiguousarray(weights.T)
            levels, scales = quantised(rows, bits)
            self._constant(key, levels)
            self._constant(f"{key}_scales", scales)
            self._stored[key] = _Stored(key, f"{key}_scales", *rows.shape)
        return self._stored[key]

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _used(self, nodes: list[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
        """Without the transpositions that nothing looks at any more."""
        needed = {name for node in nodes for name in node.input}
        needed |= {output.name for output in self._graph.output}
        return [node for node in nodes if needed & set(node.output)]
