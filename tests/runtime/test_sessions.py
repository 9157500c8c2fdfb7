"""Sessions: real ones on the CPU, a stand-in for onnxruntime where a GPU would be needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from srd_edge.errors import BundleError, ProviderError, UsageError
from srd_edge.runtime.machine import usable_cores
from srd_edge.runtime.sessions import RECORDING, open_session

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def graph(op: str = "Relu", domain: str = "") -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    body = helper.make_graph([node], "graph", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(body, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


class Runtime:
    """onnxruntime as built for ``compiled``, on a device where only ``loads`` load."""

    __version__ = "0"
    GraphOptimizationLevel = SimpleNamespace(ORT_ENABLE_ALL=99)

    def __init__(self, compiled: list[str], loads: list[str], raises: str = "") -> None:
        self.compiled, self.loads, self.raises = compiled, loads, raises
        self.opened: list[list[Any]] = []
        self.says = "cannot\nwork"

    def get_available_providers(self) -> list[str]:
        return self.compiled

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")

    class SessionOptions:
        def add_session_config_entry(self, key: str, value: str) -> None: ...

    def InferenceSession(  # noqa: N802
        self, model: Any, options: Any, *, providers: list[Any], enable_fallback: int
    ) -> Any:
        assert enable_fallback == 0
        assert options.intra_op_num_threads == usable_cores()
        self.opened.append(providers)
        if model == b"broken" or self.raises in providers:
            raise Exception(self.says)
        names = [each if isinstance(each, str) else each[0] for each in providers]
        used = [name for name in names if name in self.loads]
        return SimpleNamespace(get_providers=lambda: used)


class Unrecordable(Runtime):
    """Whose CUDA cannot record this graph."""

    def InferenceSession(self, model: Any, options: Any, **more: Any) -> Any:  # noqa: N802
        if (CUDA, RECORDING) in more["providers"]:
            raise Exception("not all nodes are on CUDA")
        return super().InferenceSession(model, options, **more)


def install(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> Runtime:
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return runtime


@pytest.mark.parametrize("provider", ["auto", "cpu"])
@pytest.mark.parametrize("kind", [Path, str, bytes])
def test_runs_on_the_cpu(tmp_path: Path, provider: Any, kind: Any) -> None:
    path = tmp_path / "relu.onnx"
    path.write_bytes(graph())
    model = path.read_bytes() if kind is bytes else kind(path)
    opened = open_session(model, provider, strict=True)
    assert (opened.provider, opened.fallback) == ("cpu", None)
    (y,) = opened.session.run(None, {"x": np.array([[-1, 0, 1, 2]], np.float32)})
    np.testing.assert_array_equal(y, [[0, 0, 1, 2]])


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_options(threads: int | None) -> None:
    options = open_session(graph(), "cpu", threads=threads).session.get_session_options()
    assert options.intra_op_num_threads == (threads or usable_cores())
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.log_severity_level == 3


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], provider: Any
) -> None:
    install(monkeypatch, Runtime([CPU], [CPU]))
    with pytest.raises(ProviderError, match=provider) as caught:
        open_session(graph(), provider, strict=True)
    assert caught.value.exit_code == 5
    opened = open_session(graph(), provider)
    assert opened.provider == "cpu"
    assert opened.fallback is not None
    assert provider in opened.fallback
    assert capsys.readouterr().out == ""


ALL = [TENSORRT, CUDA, CPU]


@pytest.mark.parametrize(
    ("asked", "compiled", "loads", "got", "told"),
    [
        ("auto", ALL, ALL, "tensorrt", None),
        ("auto", ALL, [CUDA, CPU], "cuda", None),
        ("auto", [CUDA, CPU], [CUDA, CPU], "cuda", None),
        ("auto", [CPU], [CPU], "cpu", None),
        ("auto", ALL, [CPU], "cpu", "cuda did not load"),
        ("tensorrt", ALL, ALL, "tensorrt", None),
        ("tensorrt", ALL, [CUDA, CPU], "cuda", "tensorrt did not load"),
        ("tensorrt", [CUDA, CPU], [CUDA, CPU], "cuda", "tensorrt is not in"),
        ("cuda", ALL, ALL, "cuda", None),
        ("cuda", ALL, [CPU], "cpu", "cuda did not load"),
        ("cpu", ALL, ALL, "cpu", None),
    ],
)
def test_choice(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: Any,
    compiled: list[str],
    loads: list[str],
    got: str,
    told: str | None,
) -> None:
    install(monkeypatch, Runtime(compiled, loads))
    opened = open_session(b"graph", asked)
    assert opened.provider == got
    assert (opened.fallback is None) == (told is None)
    assert (told or "") in (opened.fallback or "")
    assert capsys.readouterr().out == ""
    if told is not None and asked != "auto":
        with pytest.raises(ProviderError, match=told):
            open_session(b"graph", asked, strict=True)


@pytest.mark.parametrize(("kind", "records"), [(Runtime, True), (Unrecordable, False)])
def test_cuda_records_a_graph_where_it_can(
    monkeypatch: pytest.MonkeyPatch, kind: type[Runtime], records: bool
) -> None:
    runtime = install(monkeypatch, kind([CUDA, CPU], [CUDA, CPU]))
    opened = open_session(b"graph", "cuda", strict=True, record=True)
    assert (opened.provider, opened.fallback, opened.records) == ("cuda", None, records)
    assert runtime.opened == [[(CUDA, RECORDING) if records else CUDA, CPU]]
    assert not open_session(b"graph", "cuda").records
    assert not open_session(b"graph", "cpu", record=True).records


@pytest.mark.parametrize("provider", ["auto", "tensorrt"])
def test_tensorrts_options_are_tensorrts_alone(
    monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    runtime = install(monkeypatch, Runtime(ALL, [CUDA, CPU]))
    options = {"trt_engine_cache_enable": "1"}
    assert open_session(b"graph", provider, tensorrt=lambda: options).provider == "cuda"
    assert runtime.opened == [[(TENSORRT, options), CUDA, CPU], [CUDA, CPU]]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_tensorrts_options_are_not_asked_for_without_it(
    monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    install(monkeypatch, Runtime(ALL, ALL))

    def refuse() -> dict[str, str]:
        raise AssertionError("asked")

    assert open_session(b"graph", provider, tensorrt=refuse).provider == provider


def test_a_tensorrt_that_does_not_load_is_said_so_in_few_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = install(monkeypatch, Runtime(ALL, ALL, raises=TENSORRT))
    runtime.says = "onnxruntime_pybind_state.cc:729 Please install TensorRT libraries as ..."
    opened = open_session(b"graph", "tensorrt")
    assert opened.fallback == "running on cuda: tensorrt did not load on this device"


def test_a_graph_without_options_is_not_for_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[str, str]:
        raise BundleError(expected="no", found="an empty past", do="leave it to CUDA")

    install(monkeypatch, Runtime(ALL, ALL))
    opened = open_session(b"graph", "tensorrt", tensorrt=refuse)
    assert opened.provider == "cuda"
    assert opened.fallback == "running on cuda: tensorrt failed: an empty past"
    assert open_session(b"graph", "auto", tensorrt=refuse).fallback is None
    with pytest.raises(ProviderError, match="empty past"):
        open_session(b"graph", "tensorrt", strict=True, tensorrt=refuse)


def test_a_provider_that_fails_is_given_up_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = install(monkeypatch, Runtime([CUDA, CPU], [CUDA, CPU], raises=CUDA))
    opened = open_session(b"graph", "cuda")
    assert opened.provider == "cpu"
    assert opened.fallback == "running on cpu: cuda failed: cannot work"
    assert runtime.opened == [[CUDA, CPU], [CPU]]


@pytest.mark.parametrize("provider", ["auto", "cpu", "cuda", "tensorrt"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_broken_graph_is_the_graphs_fault(
    monkeypatch: pytest.MonkeyPatch, provider: Any, strict: bool
) -> None:
    install(monkeypatch, Runtime([TENSORRT, CUDA, CPU], [CPU]))
    with pytest.raises(BundleError):
        open_session(b"broken", provider, strict=strict)


@pytest.mark.parametrize(
    "raw",
    [b"", b"not a graph", graph("Nonsense"), graph("Relu", "com.example"), graph()[:-9]],
    ids=["empty", "text", "unknown operator", "foreign domain", "cut short"],
)
def test_refused_graphs(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(raw)
    with pytest.raises(BundleError, match="bad") as caught:
        open_session(path, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Path, bytes])
def test_an_engine_inside_of_a_graph_is_opened_by_no_provider_that_would_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Any
) -> None:
    runtime = install(monkeypatch, Runtime([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]))
    path = tmp_path / "graph.onnx"
    path.write_bytes(graph("EPContext", "com.microsoft"))
    model = path.read_bytes() if kind is bytes else path
    assert open_session(model, "auto").provider == "cpu"
    assert runtime.opened == [[CPU]]
    with pytest.raises(ProviderError, match="EPContext"):
        open_session(model, "tensorrt", strict=True)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gone"):
        open_session(tmp_path / "gone.onnx", "cpu")


def test_no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r'pip install "srd-edge\[cpu\]"'):
        open_session(graph(), "cpu")


@pytest.mark.parametrize(("provider", "threads"), [("gpu", None), ("cpu", 0), ("cpu", -1)])
def test_a_wrong_request(provider: Any, threads: int | None) -> None:
    with pytest.raises(UsageError):
        open_session(graph(), provider, threads=threads)


def test_importing_loads_no_onnxruntime() -> None:
    code = "import sys, srd_edge.runtime.sessions; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
