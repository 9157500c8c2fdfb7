"""The Q-network: stop is worth nothing, and what it says of a cell moves with the cell."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from srd_edge.errors import UsageError
from srd_edge.export.graphs import export_graph
from srd_edge.export.policy import policy_component
from srd_edge.kernels.actions import DEFAULT_TABLE, SRD_TABLE, ActionTable, Perturbation
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig, _area_matrix


def network(table: ActionTable, rows: int, columns: int, *, duelling: bool = False) -> QNetwork:
    torch.manual_seed(0)
    config = QNetworkConfig(rows, columns, channels=6, hidden=8, duelling=duelling)
    return QNetwork(config, table).eval()


@pytest.mark.parametrize(
    ("source", "target"),
    [((3, 3), (5, 5)), ((5, 4), (2, 3)), ((6, 6), (3, 3)), ((1, 1), (4, 2)), ((7, 5), (7, 5))],
)
def test_area_matrix_against_counting_points(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    """Points so fine that each lies in one cell of either grid."""
    fine = [s * t for s, t in zip(source, target, strict=True)]
    expected = np.zeros((target[0] * target[1], source[0] * source[1]))
    for y, x in product(range(fine[0]), range(fine[1])):
        to = y // source[0] * target[1] + x // source[1]
        expected[to, y // target[0] * source[1] + x // target[1]] += 1 / (source[0] * source[1])
    np.testing.assert_allclose(_area_matrix(source, target).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("duelling", [False, True])
@pytest.mark.parametrize("table", [DEFAULT_TABLE, SRD_TABLE], ids=["default", "srd"])
def test_shape_and_stop(table: ActionTable, duelling: bool) -> None:
    net = network(table, 4, 3, duelling=duelling)
    values = net(torch.randn(2, 12, 6), torch.rand(2, table.rows, table.columns))
    assert values.shape == (2, len(table))
    assert values.std() > 0
    if table.stop_index is not None:
        assert (values[:, table.stop_index] == 0).all()


def test_layers_applied_in_parts_are_the_layers() -> None:
    """``mix`` and ``regional`` on their inputs laid side by side, as Conv2d has it."""
    net = network(DEFAULT_TABLE, 4, 3)
    reduced, covered = torch.randn(2, 8, 12), torch.rand(2, 12)
    flat, mean = torch.randn(2, 8, 12), torch.randn(2, 8)
    whole = torch.cat([reduced, covered[:, None]], dim=1).reshape(2, 9, 4, 3)
    context = mean[:, :, None].expand(-1, -1, DEFAULT_TABLE.cells)
    cells = torch.cat([flat @ net.to_cells.T, context], dim=1)
    with torch.inference_mode():
        torch.testing.assert_close(net._mixed(reduced, covered), net.mix(whole))
        torch.testing.assert_close(
            net._regional(flat, mean), net.regional(cells[..., None])[..., 0]
        )


def test_regional_values_move_with_the_features() -> None:
    """A mark in the midst of an even picture, moved by one cell; order as in the action table."""
    table = ActionTable(
        rows=11,
        columns=11,
        regional=(Perturbation("median", 3.0, size=0.1), Perturbation("noise", 9.0, size=0.1)),
        whole=(Perturbation("jpeg", 20.0),),
    )
    torch.manual_seed(1)
    features = torch.randn(6).repeat(5, 11, 11, 1)
    places = [(5, 5), (5, 6), (6, 5), (4, 5)]
    mark = torch.randn(6)
    for picture, (row, column) in zip(features, places, strict=False):
        picture[row, column] = mark
    with torch.inference_mode():
        values = network(table, 11, 11)(features.reshape(5, 121, 6), torch.zeros(5, 11, 11))
    regional = values[:, : 2 * 121].reshape(5, 2, 11, 11)
    effect = regional - regional[-1]
    assert effect[0, :, 5, 5].abs().min() > 1e-4
    for i, (row, column) in enumerate(places):
        # Away from the borders, where a 5 x 5 neighbourhood is whole.
        moved = effect[i, :, row - 3 : row + 4, column - 3 : column + 4]
        torch.testing.assert_close(moved, effect[0, :, 2:9, 2:9], rtol=0, atol=1e-6)
    whole = values[:4, 2 * 121]
    torch.testing.assert_close(whole, whole[:1].expand(4), rtol=0, atol=1e-6)
    for index in (0, 12, 120, 121, 241):
        kind, place = divmod(index, 121)
        assert table[index].op == table.regional[kind].op
        row, column = divmod(place, 11)
        assert table[index].cell == (row, column)
        assert values[0, index] == regional[0, kind, row, column]


def test_a_duelling_network_takes_apart_whether_to_act_and_how() -> None:
    """The value moves every perturbation alike and stop not at all; advantages have no mean."""
    net = network(DEFAULT_TABLE, 3, 3, duelling=True)
    inputs = torch.randn(4, 9, 6), torch.rand(4, 5, 5)
    whole, value = net.whole[-1], net.value[-1]
    assert isinstance(whole, torch.nn.Linear)
    assert isinstance(value, torch.nn.Linear)
    with torch.inference_mode():
        before = net(*inputs)
        value.bias.add_(1)
        raised = net(*inputs)
        whole.bias.add_(5)
        value.weight.zero_()
        value.bias.fill_(0.25)
        level = net(*inputs)
    torch.testing.assert_close(raised[:, :-1], before[:, :-1] + 1)
    torch.testing.assert_close(level[:, :-1].mean(dim=1), torch.full((4,), 0.25))
    assert level[:, :-1].std(dim=1).min() > 0
    assert (torch.stack([before, raised, level])[..., -1] == 0).all()


def test_a_duelling_network_exports_to_the_same_graph_for_the_device(tmp_path: Path) -> None:
    net = network(DEFAULT_TABLE, 3, 4, duelling=True)
    export_graph(policy_component(net), tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    features, coverage = torch.randn(3, 12, 6), torch.rand(3, 5, 5)
    feed = {"encoder_hidden_states": features.numpy(), "coverage": coverage.numpy()}
    with torch.inference_mode():
        expected = net(features, coverage)
    (values,) = session.run(["q_values"], feed)
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_coverage_is_seen() -> None:
    net = network(DEFAULT_TABLE, 3, 3)
    features = torch.randn(1, 9, 6)
    with torch.inference_mode():
        bare = net(features, torch.zeros(1, 5, 5))
        covered = net(features, torch.from_numpy(DEFAULT_TABLE.coverage([0]))[None])
    assert (bare - covered)[0, :-1].abs().min() > 0


@pytest.mark.parametrize("duelling", [False, True])
def test_a_policy_comes_back_as_it_went(tmp_path: Path, duelling: bool) -> None:
    net = network(DEFAULT_TABLE, 3, 4, duelling=duelling)
    PolicyCheckpoint(net, 2, 0.05, {"seed": 3}).save(tmp_path)
    loaded = load_policy(tmp_path)
    assert (loaded.max_steps, loaded.temperature, loaded.provenance) == (2, 0.05, {"seed": 3})
    assert loaded.network.table == DEFAULT_TABLE
    inputs = torch.randn(3, 12, 6), torch.rand(3, 5, 5)
    assert torch.equal(loaded.network(*inputs), net(*inputs))


def test_a_policy_from_before_duelling_networks_is_read(tmp_path: Path) -> None:
    PolicyCheckpoint(network(DEFAULT_TABLE, 3, 4), 2, 0.05, {}).save(tmp_path)
    description = json.loads((tmp_path / "policy.json").read_text(encoding="utf-8"))
    del description["network"]["duelling"]
    (tmp_path / "policy.json").write_text(json.dumps(description), encoding="utf-8")
    assert not load_policy(tmp_path).network.config.duelling


@pytest.mark.parametrize("file", ["policy.json", "policy.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_half_a_policy_is_none(tmp_path: Path, file: str, content: bytes | None) -> None:
    PolicyCheckpoint(network(DEFAULT_TABLE, 3, 4), 2, 0.05, {}).save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UsageError, match="srd-edge train") as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)
