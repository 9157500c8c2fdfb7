"""Where graphs keep their weights: in themselves, or in one file that they share.

What two graphs hold alike (the embedding of a text model is its head's weights, often) is stored
once, and so is everything that a graph is too large to hold itself: a protobuf ends at 2 GB.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import external_data_helper, numpy_helper

LARGEST_GRAPH: Final = 1_800_000_000
"""Bytes of weights that a graph holds itself; protobuf's limit is 2**31."""
_WORTH_SHARING: Final = 1 << 20
_SMALL: Final = 1 << 12
"""Bytes of weights that stay in a graph, whatever its size: shapes, constants."""
_ALIGNMENT: Final = 1 << 12
"""Of weights in the shared file, so that they can be mapped into memory."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """A tensor's digest and bytes."""

    digest: bytes
    size: int


def pack(graphs: Sequence[Path], shared: Path) -> bool:
    """Rewrite ``graphs`` in place, their weights within them or in ``shared``.

    Args:
        graphs: ONNX files, whose own external data (beside each) is taken in.
        shared: the file to be, in the same folder as the graphs will be when they are opened.

    Returns:
        Whether there is anything in ``shared``; if not, there is no such file.
    """
    known = {path: dict(_weights(path)) for path in graphs}
    counted = Counter(each.digest for weights in known.values() for each in set(weights.values()))
    sizes = {each.digest: each.size for weights in known.values() for each in weights.values()}
    alike = {d for d, count in counted.items() if count > 1 and sizes[d] > _SMALL}
    if sum(sizes[digest] for digest in alike) < _WORTH_SHARING:
        alike = set()
    places: dict[bytes, int] = {}
    with shared.open("wb") as file:
        for path, weights in known.items():
            own = sum(each.size for each in weights.values() if each.digest not in alike)
            outside = {
                name: each
                for name, each in weights.items()
                if each.digest in alike or (own > LARGEST_GRAPH and each.size > _SMALL)
            }
            model = onnx.load(path, load_external_data=False)
            for tensor in model.graph.initializer:
                raw = _raw(tensor, path)
                stored = onnx.TensorProto(
                    name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=raw
                )
                if (each := outside.get(tensor.name)) is not None:
                    if each.digest not in places:
                        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                        places[each.digest] = file.tell()
                        file.write(raw)
                    place = places[each.digest]
                    external_data_helper.set_external_data(stored, shared.name, place, each.size)
                    stored.ClearField("raw_data")
                tensor.CopyFrom(stored)
            onnx.save(model, path)
    if not places:
        shared.unlink()
    return bool(places)


def save_graph(model: onnx.ModelProto, target: Path) -> None:
    """Write a graph of any size, its weights in a file beside it."""
    place = weights_path(target)
    place.unlink(missing_ok=True)  # onnx would append to it
    onnx.save(model, target, save_as_external_data=True, location=place.name)


def weights_path(graph: Path) -> Path:
    """Where a graph that is being made keeps its weights."""
    return graph.with_name(f"{graph.name}.data")


def bytes_of(graph: Path) -> int:
    """Of a graph that is being made and its weights."""
    weights = weights_path(graph)
    return graph.stat().st_size + (weights.stat().st_size if weights.exists() else 0)


def _weights(path: Path) -> Iterator[tuple[str, _Weights]]:
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        raw = _raw(tensor, path)
        head = f"{tensor.data_type} {list(tensor.dims)}".encode()
        yield tensor.name, _Weights(hashlib.sha256(head + raw).digest(), len(raw))


def _raw(tensor: onnx.TensorProto, graph: Path) -> bytes:
    """Its bytes in little-endian order, wherever they are."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        if tensor.HasField("raw_data"):
            return bytes(tensor.raw_data)
        return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    place: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    with (graph.parent / place["location"]).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        return file.read(int(place["length"]))
