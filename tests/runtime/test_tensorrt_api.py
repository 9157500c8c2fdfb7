"""Our protocols of TensorRT's API say what the bindings of both versions hold, to the letter."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from srd_edge.errors import ProviderError
from srd_edge.runtime import tensorrt_api
from srd_edge.runtime.tensorrt_api import TensorRt, load_tensorrt

VERSIONS = ("tensorrt_10_16", "tensorrt_11_4")
ROOT = Path(__file__).resolve().parents[2]
MADE_BY = {"Builder": "Builders", "OnnxParser": "Parsers", "Runtime": "Runtimes"}
"""Classes that are called, and the types of the calls."""


def members(protocol: type) -> dict[str, list[str] | None]:
    """Public members, and for methods the names of their parameters."""
    fields: dict[str, list[str] | None] = dict.fromkeys(inspect.get_annotations(protocol))
    for name, value in vars(protocol).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            fields[name] = list(inspect.signature(value).parameters)[1:]
    return fields


def wrong_members(protocol: type, recorded: dict[str, Any]) -> Iterator[str]:
    """What a protocol says of its class that the bindings do not hold."""
    known = recorded["classes"].get(protocol.__name__)
    if known is None:
        yield f"no class {protocol.__name__}"
        return
    for name, parameters in members(protocol).items():
        if name not in known:
            yield f"no member {protocol.__name__}.{name}"
        elif parameters is not None:
            overloads = recorded["signatures"].get(f"{protocol.__name__}.{name}", [])
            if parameters not in overloads:
                yield f"{protocol.__name__}.{name} takes {overloads}"


def protocols() -> list[type]:
    return [
        value
        for value in vars(tensorrt_api).values()
        if inspect.isclass(value)
        and value.__module__ == tensorrt_api.__name__
        and value is not TensorRt
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_member_is_in_the_bindings(recorded: Any, version: str) -> None:
    lists = recorded(version)
    assert len(protocols()) >= 12
    assert [w for protocol in protocols() for w in wrong_members(protocol, lists)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_of_the_module_is_in_the_bindings(recorded: Any, version: str) -> None:
    lists = recorded(version)
    names = set(members(TensorRt)) - {"__version__"}
    assert names <= set(lists["classes"])
    for made in MADE_BY:
        (parameters,) = lists["signatures"][f"{made}.__init__"]
        # The aliases take what the constructors take, by position.
        expected = {"logger": "ILogger", "network": "INetworkDefinition"}
        types = vars(tensorrt_api)[MADE_BY[made]].__args__[:-1]
        assert [expected[name] for name in parameters] == [one.__name__ for one in types]
    assert lists["signatures"]["Logger.__init__"] == [["min_severity"]]


class Builder(Protocol):
    max_thread: int

    def create_network(self, flag: int) -> object: ...

    def create_builder_configuration(self) -> object: ...


class Bilder(Protocol): ...


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_protocol_is_found(recorded: Any, version: str) -> None:
    assert list(wrong_members(Builder, recorded(version))) == [
        "no member Builder.max_thread",
        "Builder.create_network takes [['flags']]",
        "no member Builder.create_builder_configuration",
    ]
    assert list(wrong_members(Bilder, recorded(version))) == ["no class Bilder"]


MISSPELT = """
from srd_edge.runtime.cuda_api import load_cuda
from srd_edge.runtime.tensorrt_api import load_tensorrt

api = load_tensorrt()
logger = api.Logger(api.Logger.ERROR)
builder = api.Builder(logger)
network = builder.create_netwrok(0)
config = builder.create_builder_config()
config.set_memory_pool_limit(api.MemoryPoolType.WORKSPCE, 1)
config.builder_optimisation_level = 3
config.set_timing_cache(config.create_timing_cache(b""))
engine = api.Runtime(logger).deserialize_cuda_engine(b"")
assert engine is not None
context = engine.create_execution_context()
assert context is not None
context.set_input_shape("x", (1, "2"))
context.execute_asinc_v3(0)
load_cuda().cudaMaloc(1)
"""


def test_mypy_finds_a_misspelt_use(tmp_path: Path) -> None:
    (tmp_path / "misspelt.py").write_text(MISSPELT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", tmp_path / "misspelt.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    words = (
        *("create_netwrok", "WORKSPCE", "builder_optimisation_level", "ignore_mismatch"),
        *("tuple[int, str]", "execute_asinc_v3", "cudaMaloc"),
    )
    assert len(lines) == len(words), done.stdout
    for line, word in zip(lines, words, strict=True):
        assert word in line


def asked_for(source: str) -> set[tuple[str, str]]:
    """(class, member) of every getattr and hasattr with a name in it."""
    return {
        (node.args[0].attr, str(node.args[1].value))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and isinstance(node.args[0], ast.Attribute)
        and isinstance(node.args[1], ast.Constant)
    }


def test_what_only_one_version_has_is_asked_for_by_a_name_of_it(recorded: Any) -> None:
    asked = asked_for((ROOT / "runtime" / "engines.py").read_text(encoding="utf-8"))
    assert asked == {("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"), ("BuilderFlag", "FP16")}
    lists = [recorded(version)["classes"] for version in VERSIONS]
    for name, member in asked:
        assert any(member in classes[name] for classes in lists)


def test_nothing_goes_around_the_protocols() -> None:
    for user in ("engines", "engine_graph", "native_graphs", "gpu_recording"):
        source = (ROOT / "runtime" / f"{user}.py").read_text(encoding="utf-8")
        names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        assert not names & {"Any", "cast", "import_module", "__import__"}
    for path in (ROOT / "runtime").glob("*.py"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports = [node for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {alias.name for node in imports for alias in node.names}
        assert "tensorrt" not in modules


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ProviderError, match=r'pip install "srd-edge\[tensorrt\]"') as caught:
        load_tensorrt()
    assert caught.value.exit_code == 5
