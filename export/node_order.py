"""The nodes of a graph, each after all that it reads.

onnx wants them written so; onnxruntime does not mind, and its converter to half precision adds
nodes at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import onnx


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """As they are written, but for those that have to wait.

    Raises:
        ValueError: nodes that wait for one another.
    """
    nodes = list(graph.node)
    maker = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    before = [{maker[n] for n in _read(node) if n in maker} - {i} for i, node in enumerate(nodes)]
    after: list[list[int]] = [[] for _ in nodes]
    for at, makers in enumerate(before):
        for earlier in makers:
            after[earlier].append(at)
    waiting = [len(makers) for makers in before]
    ready = [at for at, count in enumerate(waiting) if not count]
    found = []
    while ready:
        at = heapq.heappop(ready)
        found.append(nodes[at])
        for later in after[at]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, later)
    if len(found) < len(nodes):
        raise ValueError("nodes that wait for one another")
    return found


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Write them in order, inside of branches too."""
    nodes = in_order(graph)
    for node in nodes:
        for inner in inner_graphs(node):
            sort_nodes(inner)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    graph.ClearField("node")
    graph.node.extend(kept)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _read(node: onnx.NodeProto) -> set[str]:
    """Names from around a node that it, or a graph that it holds, reads."""
    names = set(node.input)
    for graph in inner_graphs(node):
        made = {name for inner in graph.node for name in inner.output}
        read = {name for inner in graph.node for name in _read(inner)}
        names |= (read | {value.name for value in graph.output}) - made
    return names
