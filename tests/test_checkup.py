"""inspect, verify and doctor from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from srd_edge.cli import cli
from srd_edge.errors import BundleError
from srd_edge.runtime import doctor as doctor_module
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.doctor import examine_provider
from srd_edge.runtime.sessions import open_session
from tests.command_line import SrdEdge, assert_refused


def said(*words: str) -> str:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_inspect_tells_people_and_machines_the_same(checked_bundle: Path) -> None:
    described = json.loads(said("inspect", str(checked_bundle), "--json"))
    text = said("inspect", str(checked_bundle))
    own = text.split("reference captioner:")[0]
    for path, graph in described["graphs"].items():
        (line,) = [line for line in own.splitlines() if line.strip().startswith(f"{path}:")]
        assert f"{graph['role']}, {graph['bytes'] / 1e6:.2f} MB" in line
        assert f"{sum(graph['operators'].values())} nodes" in line
    assert "reference captioner:" in text
    assert "32 captions" in text


def test_verify_says_what_it_has_looked_at(checked_bundle: Path) -> None:
    bundle = read_bundle(checked_bundle)
    text = said("verify", str(checked_bundle))
    assert f"{len(bundle.manifest.files)} files" in text
    assert "6 graphs" in text


def test_verify_refuses_a_damaged_bundle(toy_bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(toy_bundle, tmp_path / "bundle")
    with (damaged / "encoder_model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="encoder_model"):
        CliRunner().invoke(cli, ["verify", str(damaged)], catch_exceptions=False)


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_without_onnx_a_bundle_is_refused_and_a_good_one_names_what_is_missing(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # an import of it fails
    for module in ("inspection", "graph_check"):
        monkeypatch.delitem(sys.modules, f"srd_edge.export.{module}", raising=False)
    assert_refused(srd_edge(command, tmp_path / "nope"), 3, "nope")
    lacking = f"onnx for `srd-edge {command}`", 'pip install "srd-edge[verify]"'
    assert_refused(srd_edge(command, toy_bundle), 2, *lacking)


def test_verify_names_every_finding(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from srd_edge.export import graph_check, inspection

    monkeypatch.setattr(
        inspection, "check_graph", lambda path, *_, **__: [graph_check.Finding(path.name, "a hole")]
    )
    result = CliRunner().invoke(cli, ["verify", str(toy_bundle)])
    assert isinstance(result.exception, BundleError)
    assert result.exception.exit_code == 3
    assert result.output.count("a hole") == 3
    assert "do not run this bundle" in str(result.exception)


def test_doctor_runs_what_works_and_says_how_to_mend_the_rest(toy_bundle: Path) -> None:
    found = json.loads(said("doctor", "--bundle", str(toy_bundle), "--json"))
    cpu = found["providers"]["cpu"]
    assert cpu["works"]
    assert set(cpu["nodes"]) == {"cpu"}
    assert cpu["nodes"]["cpu"] > 10
    assert found["packages"]["onnxruntime"]
    text = said("doctor", "--bundle", str(toy_bundle))
    assert f"works: ran {cpu['nodes']['cpu']} nodes of the encoder on cpu" in text
    for name, report in found["providers"].items():
        if not report["works"]:
            assert report["problem"] in text
            assert f'pip install "srd-edge[{"gpu" if name == "cuda" else name}]"' in text
            other = "onnxruntime-gpu" if name == "tensorrt-native" else "onnxruntime"
            assert report["mend"].startswith(f"pip uninstall -y {other} && ")


def test_a_provider_whose_numbers_are_off_does_not_work(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off:
        def __init__(self, opened: object) -> None:
            self._session = opened.session  # type: ignore[attr-defined]
            self.session = self

        def run(self, *arguments: object) -> list[object]:
            return [1.5 * value for value in self._session.run(*arguments)]

        def end_profiling(self) -> str:
            return str(self._session.end_profiling())

    honest = open_session

    def opened(*words: object, **options: object) -> object:
        session = honest(*words, **options)  # type: ignore[arg-type]
        return Off(session) if "profile" in options else session

    monkeypatch.setattr(doctor_module, "open_session", opened)
    report = examine_provider(read_bundle(toy_bundle), "cpu")
    assert not report.works
    assert "off those of the CPU" in report.problem
