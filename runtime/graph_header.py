"""What a graph's file says of its inputs and outputs, read without onnx and without its weights.

A profile of shapes is needed before a graph is opened, and opening it on the CPU to ask would read
every weight. ONNX files are protocol buffers: fields of (number, wire type, value), where what is
not looked for is stepped over by its length. Numbers of fields: onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from srd_edge.errors import BundleError

_Bytes: TypeAlias = memoryview
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SKIP: Final = {_FIXED64: 8, _FIXED32: 4}
_GRAPH: Final = 7
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_TENSOR_DATA_TYPE: Final = 2
_TENSOR_NAME: Final = 8
_HALF: Final = frozenset({10, 16})
"""TensorProto's FLOAT16 and BFLOAT16."""


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of a graph.

    Args:
        name: of the tensor.
        dims: a number where the length is fixed, otherwise the axis' name, which may be "".
    """

    name: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class GraphHeader:
    """The inputs and outputs of a graph, and whether any of its weights are of 16 bits."""

    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    half: bool


def read_header(model: Path) -> GraphHeader:
    """Read the header of a verified file.

    Raises:
        BundleError: the file is no ONNX graph, or cut short.
    """
    try:
        # Not closed by hand: while an error is under way its frames still look at the content.
        with model.open("rb") as file:
            return _header(memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)))
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        # ValueError: also a file without a byte, which cannot be mapped.
        _refuse(model, error)


def _header(whole: _Bytes) -> GraphHeader:
    inputs, outputs, weights, half = [], [], set(), False
    for number, graph in _fields(whole):
        if number != _GRAPH or isinstance(graph, int):
            continue
        for kind, value in _fields(graph):
            if isinstance(value, int):
                continue
            if kind == _INPUT:
                inputs.append(_value(value))
            elif kind == _OUTPUT:
                outputs.append(_value(value))
            elif kind == _INITIALIZER:
                for field, content in _fields(value):
                    half = half or (field == _TENSOR_DATA_TYPE and content in _HALF)
                    if field == _TENSOR_NAME and not isinstance(content, int):
                        weights.add(str(content, "utf-8"))
    if not outputs:
        raise ValueError("no graph with outputs")
    fed = tuple(value for value in inputs if value.name not in weights)
    return GraphHeader(fed, tuple(outputs), half)


def _value(info: _Bytes) -> GraphValue:
    """ValueInfoProto: name = 1; type = 2, its tensor_type = 1, its shape = 2, its dim = 1."""
    name = str(_first(info, 1), "utf-8")
    shape = _first(_first(_first(info, 2), 1), 2)
    dims = [_dim(dim) for number, dim in _fields(shape) if number == 1 and not isinstance(dim, int)]
    return GraphValue(name, tuple(dims))


def _dim(dim: _Bytes) -> int | str:
    """Dimension: dim_value = 1 or dim_param = 2."""
    for number, value in _fields(dim):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2 and not isinstance(value, int):
            return str(value, "utf-8")
    return ""


def _first(message: _Bytes, wanted: int) -> _Bytes:
    """The first field of that number; empty where there is none."""
    for number, value in _fields(message):
        if number == wanted and not isinstance(value, int):
            return value
    return message[:0]


def _fields(message: _Bytes) -> Iterator[tuple[int, _Bytes | int]]:
    """(number, content) of a message's fields: an int, or the bytes of a string or message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _LENGTH:
            length, at = _varint(message, at)
        elif wire in _SKIP:
            length = _SKIP[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(message):
            raise ValueError("cut short")
        if wire == _LENGTH:
            yield number, message[at : at + length]
        at += length


def _varint(message: _Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _refuse(model: Path, error: Exception) -> NoReturn:
    raise BundleError(
        expected=f"{model.name} to be an ONNX graph",
        found=str(error) or type(error).__name__,
        do="fetch or export the bundle again",
    ) from error
