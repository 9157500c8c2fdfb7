"""The house itself: what ships, what the README says is there, what may be installed together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import srd_edge

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_PACKAGES = {"benchmarks", "build", "dist", "docs", "examples", "runs", "tests"}
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?")


def tree_packages() -> list[str]:
    """The packages of the tree, by dotted name: the root and every folder with an __init__.py."""
    folders = [
        init.parent.relative_to(ROOT)
        for entry in ROOT.iterdir()
        if entry.is_dir() and entry.name[0] != "." and entry.name not in NOT_PACKAGES
        for init in entry.rglob("__init__.py")
    ]
    return sorted(["srd_edge", *(".".join(("srd_edge", *folder.parts)) for folder in folders)])


def package_folder(package: str) -> Path:
    return ROOT.joinpath(*package.split(".")[1:])


def shipped_modules() -> set[str]:
    """Every .py of every package, as a path relative to the root."""
    return {
        module.relative_to(ROOT).as_posix()
        for package in tree_packages()
        for module in package_folder(package).glob("*.py")
    }


def shipped_files() -> set[str]:
    """All that a wheel has to hold, as paths relative to the root."""
    report = ROOT / "evaluation"
    files = [
        *(ROOT / "runtime" / "assets").rglob("*"),
        *report.glob("*.j2"),
        *report.glob("*.schema.json"),
        *(ROOT / "runtime").glob("*.schema.json"),
        *(ROOT / "runtime" / "live").glob("page.[!p]*"),
    ]
    data = {f.relative_to(ROOT).as_posix() for f in files if f.is_file()}
    return shipped_modules() | data | {"py.typed"}


def requirement_name(requirement: str) -> str:
    match = REQUIREMENT.match(requirement)
    assert match, requirement
    return match[1].lower().replace("_", "-")


def extra_names(extra: str) -> set[str]:
    """What an extra installs, the extras that it names of this package included."""
    names: set[str] = set()
    for requirement in PROJECT["project"]["optional-dependencies"][extra]:
        match = REQUIREMENT.match(requirement)
        assert match, requirement
        if match[1] == PROJECT["project"]["name"]:
            for other in match[2].split(","):
                names |= extra_names(other.strip())
        else:
            names.add(requirement_name(requirement))
    return names


def file_map() -> list[str]:
    """The paths of the README's file map, in order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## File map\n")[2].partition("\n## ")[0]
    lines = section.partition("```\n")[2].partition("```")[0].splitlines()
    return [line.split(maxsplit=1)[0] for line in lines if line.strip()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built the documented way, sdist first, from a copy of the tree.

    The copy leaves out what setuptools may have left in the tree: its old list of files would
    ship files that are gone.
    """
    copy = tmp_path_factory.mktemp("build")
    roots = {path.split("/")[0] for path in shipped_files()}
    for entry in ROOT.iterdir():
        if entry.is_file():
            shutil.copy(entry, copy)
        elif entry.name in roots | {"benchmarks", "docs", "examples", "tests"}:
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "out", "."],
        cwd=copy,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = (copy / "out").glob("*.whl")
    return built


def test_the_wheel_holds_what_ships_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - metadata == {f"srd_edge/{path}" for path in shipped_files()}
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_every_file_of_the_map_is_there_and_named_once() -> None:
    paths = file_map()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert len(paths) == len(set(paths))


def test_every_shipped_module_is_in_the_map() -> None:
    modules = {m for m in shipped_modules() if m == "__init__.py" or "__init__" not in m}
    assert sorted(modules - set(file_map())) == []


def test_the_package_list_is_the_trees() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == tree_packages()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_import_order_is_written_as_it_is_checked(document: str) -> None:
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    order = " > ".join(layer.removeprefix("srd_edge.") for layer in layers)
    assert order in " ".join((ROOT / document).read_text(encoding="utf-8").split())


def test_static_tools_see_what_ships() -> None:
    links = ROOT / ".typecheck" / "srd_edge"
    roots = {path.split("/")[0] for path in shipped_files()}
    assert {link.name for link in links.iterdir()} == roots
    for link in links.iterdir():
        assert link.readlink() == Path("..", "..", link.name)


def test_onnxruntime_is_nobodys_base_dependency() -> None:
    base = {requirement_name(r) for r in PROJECT["project"]["dependencies"]}
    assert not {name for name in base if name.startswith("onnxruntime")}


@pytest.mark.parametrize("extra", sorted(PROJECT["project"]["optional-dependencies"]))
def test_no_extra_holds_onnxruntime_twice(extra: str) -> None:
    assert len({name for name in extra_names(extra) if name.startswith("onnxruntime")}) <= 1


def test_the_extras_bring_the_runtime_that_they_name() -> None:
    assert "onnxruntime" in extra_names("cpu")
    assert "onnxruntime-gpu" in extra_names("gpu")
    assert "onnxruntime-gpu" in extra_names("tensorrt")
    assert {"onnxruntime", "tensorrt-cu13", "cuda-bindings"} == extra_names("tensorrt-native")


def test_the_constraints_pin_what_is_required_directly() -> None:
    text = (ROOT / "constraints-dev.txt").read_text(encoding="utf-8")
    pins = {line.partition("==")[0] for line in text.splitlines() if "==" in line}
    required = {requirement_name(r) for r in PROJECT["project"]["dependencies"]}
    assert sorted((required | extra_names("cpu") | extra_names("dev")) - pins) == []


def test_the_changelog_has_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(srd_edge.__version__)}\]", changelog, re.MULTILINE)


def test_what_looks_at_graphs_brings_no_pytorch_and_no_runtime() -> None:
    """A second onnxruntime would be installed over the one that is there."""
    assert extra_names("verify") == {"onnx"}
    assert extra_names("verify") < extra_names("export")
    assert not {n for n in extra_names("train") | extra_names("export") if "onnxruntime" in n}
