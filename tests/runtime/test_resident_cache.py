"""The cache that stays on the device: what is read and written where, on a graph that adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from srd_edge.runtime.graphs import OnnxGraph, host_value
from srd_edge.runtime.resident_cache import ResidentCache
from srd_edge.runtime.sessions import open_session

SHAPE = (2, 1, 4, 1)


@pytest.fixture
def cache(watched_graph: Any) -> tuple[ResidentCache, Any]:
    """A decoder that adds what it reads, (2, S) ids, and a constant to its whole past."""

    def value(name: str, kind: int, dims: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, dims)

    inputs = [
        value("ids", TensorProto.INT64, [2, "s"]),
        value("picture", TensorProto.FLOAT, [1]),
        value("past", TensorProto.FLOAT, [2, 1, 4, 1]),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, [2, "s", 1]),
        value("present", TensorProto.FLOAT, [2, 1, 4, 1]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [-1])
    every = helper.make_tensor("every", TensorProto.INT64, [3], [1, 2, 3])
    more = helper.make_tensor("more", TensorProto.INT64, [2], [-1, -2])
    nodes = [
        helper.make_node("Cast", ["ids"], ["read"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["read", "axes"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "picture"], ["seen"]),
        helper.make_node("Unsqueeze", ["seen", "more"], ["wide"]),
        helper.make_node("Add", ["past", "wide"], ["present"]),
        helper.make_node("ReduceSum", ["present", "every"], ["total"], keepdims=0),
        helper.make_node("Unsqueeze", ["total", "more"], ["deep"]),
        helper.make_node("Unsqueeze", ["read", "axes"], ["each"]),
        helper.make_node("Mul", ["each", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "deep"], ["logits"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    body = helper.make_graph(nodes, "graph", inputs, outputs, [axes, every, more, zero])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    graph = watched_graph(OnnxGraph(open_session(model.SerializeToString(), "cpu")))
    return ResidentCache(graph, ["past"], ["present"], SHAPE), graph


def ids(*rows: list[int]) -> dict[str, Any]:
    return {"ids": host_value(np.array(rows, np.int64))}


def picture(value: float) -> dict[str, Any]:
    return {"picture": host_value(np.array([value], np.float32))}


def test_a_caption_goes_on_from_what_was_written(cache: tuple[ResidentCache, Any]) -> None:
    resident, _ = cache
    constant = picture(0.5)
    logits, past = resident.read((), ids([1, 2], [3, 4]), constant, 2, step=False)
    # Four positions, each of 1 + 2 + 0.5, and of 3 + 4 + 0.5.
    np.testing.assert_array_equal(logits[:, :, 0], [[14, 14], [30, 30]])
    for expected in (([[20]], [[40]]), ([[26]], [[50]])):
        logits, past = resident.read(past, ids([1], [2]), constant, 1, step=True)
        np.testing.assert_array_equal(logits, np.array(expected, np.float32))
    np.testing.assert_array_equal(past[0].numpy()[:, 0, 0, 0], [6.5, 12.5])


def test_steps_are_bound_once_for_each_side(cache: tuple[ResidentCache, Any]) -> None:
    resident, graph = cache
    constant = picture(0)
    past: tuple[Any, ...] = ()
    for _ in range(7):
        _, past = resident.read(past, ids([1], [1]), constant, 1, step=True)
    assert len(graph.fed) == 2
    np.testing.assert_array_equal(past[0].numpy(), np.full(SHAPE, 7))


def test_another_picture_takes_the_first_ones_place(cache: tuple[ResidentCache, Any]) -> None:
    resident, graph = cache
    for value in (2.0, 3.0):
        start = (host_value(np.zeros(SHAPE, np.float32)),)
        constant = picture(value)
        logits, past = resident.read(start, ids([0], [0]), constant, 1, step=True)
        logits, past = resident.read(past, ids([0], [0]), constant, 1, step=True)
        np.testing.assert_array_equal(logits, np.full((2, 1, 1), 8 * value))
    assert len(graph.fed) == 2


def test_values_from_elsewhere_are_copied_in(cache: tuple[ResidentCache, Any]) -> None:
    resident, _ = cache
    constant = picture(0)
    _, past = resident.read((), ids([1], [2]), constant, 1, step=True)
    reordered = (host_value(past[0].numpy()[[1, 1]]),)
    _, past = resident.read(reordered, ids([0], [5]), constant, 1, step=True)
    np.testing.assert_array_equal(past[0].numpy()[:, 0, 0, 0], [2, 7])


def test_a_state_that_was_overwritten_is_not_gone_on_from(
    cache: tuple[ResidentCache, Any],
) -> None:
    resident, _ = cache
    constant = picture(0)
    _, first = resident.read((), ids([1], [1]), constant, 1, step=True)
    _, second = resident.read(first, ids([1], [1]), constant, 1, step=True)
    _, _ = resident.read(second, ids([1], [1]), constant, 1, step=True)
    with pytest.raises(AssertionError, match="goes on once"):
        resident.read(first, ids([1], [1]), constant, 1, step=True)
