"""An engine is found by everything it depends on, and never where anything of it is different."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srd_edge.errors import BundleError, RunError
from srd_edge.runtime.device import Device
from srd_edge.runtime.engine_cache import (
    ENGINE_FILE,
    SIDE_FILE,
    EngineKey,
    engine_folder,
    keep_engine,
    kept_engine,
    tensorrt_version,
    timing_folder,
    write_whole,
)
from srd_edge.runtime.profiles import InputShapes

SHAPES = (InputShapes("x", (1, 3), (2, 3), (4, 3)),)
KEY = EngineKey(
    graph=("ab" * 32,),
    onnxruntime="1.31.1",
    tensorrt="tensorrt-cu13 10.16.1.11",
    device=Device(gpu="NVIDIA L4", compute_capability="8.9", driver="570.1"),
    shapes=SHAPES,
    options={"workspace": "1"},
)
OTHERS: dict[str, dict[str, Any]] = {
    "graph": {"graph": ("cd" * 32,)},
    "weights in a file of their own": {"graph": ("ab" * 32, "cd" * 32)},
    "onnxruntime": {"onnxruntime": "1.32.0"},
    "TensorRT": {"tensorrt": "tensorrt-cu13 10.16.2.10"},
    "GPU": {"device": replace(KEY.device, gpu="NVIDIA T4")},
    "compute capability": {"device": replace(KEY.device, compute_capability="unknown")},
    "driver": {"device": replace(KEY.device, driver="580.1")},
    "L4T": {"device": replace(KEY.device, l4t="36.4.7")},
    "GPUs seen": {"device": replace(KEY.device, visible="CUDA_VISIBLE_DEVICES=1")},
    "shapes": {"shapes": (InputShapes("x", (1, 3), (3, 3), (4, 3)),)},
    "options": {"options": {"workspace": "2"}},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


def test_the_same_key_has_the_same_digest_whatever_the_order() -> None:
    options = {"a": "1", "b": "2"}
    backwards = dict(reversed(options.items()))
    assert replace(KEY, options=options).digest == replace(KEY, options=backwards).digest
    assert KEY.digest == replace(KEY).digest


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_differs_is_another_folder(name: str) -> None:
    other = replace(KEY, **OTHERS[name])
    assert other.digest != KEY.digest
    keep_engine(KEY, b"engine")
    assert kept_engine(other) is None


def test_what_is_kept_is_found_and_closed_to_others(own_cache: Path) -> None:
    assert kept_engine(KEY) is None
    path = keep_engine(KEY, memoryview(b"engine"))
    assert path.is_relative_to(own_cache)
    assert kept_engine(KEY) == b"engine"
    for name, mode in ((ENGINE_FILE, 0o600), (SIDE_FILE, 0o600), (".", 0o700)):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == mode
    assert sorted(p.name for p in path.parent.iterdir()) == [ENGINE_FILE, SIDE_FILE]


def test_an_engine_that_was_not_written_to_its_end_is_none() -> None:
    (engine_folder(KEY) / ENGINE_FILE).write_bytes(b"half")
    assert kept_engine(KEY) is None


@pytest.mark.parametrize("name", OTHERS)
def test_an_engine_copied_from_elsewhere_is_refused(name: str) -> None:
    elsewhere = keep_engine(replace(KEY, **OTHERS[name]), b"engine").parent
    for file in (ENGINE_FILE, SIDE_FILE):
        (engine_folder(KEY) / file).write_bytes((elsewhere / file).read_bytes())
    with pytest.raises(BundleError, match=r"from elsewhere.*built on the device"):
        kept_engine(KEY)


@pytest.mark.parametrize("side", ["", "[]", "{}", "null", '{"key": 1, "sha256": 2}'])
def test_a_side_file_of_nonsense_is_refused(side: str) -> None:
    (keep_engine(KEY, b"engine").parent / SIDE_FILE).write_text(side)
    with pytest.raises(BundleError, match="from elsewhere") as caught:
        kept_engine(KEY)
    assert "\n" not in str(caught.value)


def test_an_altered_engine_is_refused() -> None:
    keep_engine(KEY, b"engine").write_bytes(b"Engine")
    with pytest.raises(BundleError, match="sha256"):
        kept_engine(KEY)


def test_a_cache_that_others_write_to_is_refused(own_cache: Path) -> None:
    folder = engine_folder(KEY)
    folder.chmod(0o777)
    with pytest.raises(RunError, match="others may write"):
        kept_engine(KEY)
    folder.chmod(0o700)
    (own_cache / "engines").chmod(0o770)
    with pytest.raises(RunError, match="others may write"):
        keep_engine(KEY, b"engine")


def test_graphs_of_a_device_share_its_timings() -> None:
    here = timing_folder(KEY.tensorrt, KEY.device)
    assert here == timing_folder(KEY.tensorrt, KEY.device)
    assert here != timing_folder(KEY.tensorrt, replace(KEY.device, gpu="NVIDIA T4"))
    assert here != timing_folder("another", KEY.device)


def test_which_tensorrt(tmp_path: Path) -> None:
    assert tensorrt_version([], [tmp_path, tmp_path / "gone"]) == "unknown"
    assert tensorrt_version(["no-such-package"], []) == "unknown"
    library = tmp_path / "libnvinfer.so.10.3.0"
    library.touch()
    (tmp_path / "libnvinfer.so.10").symlink_to(library)
    assert tensorrt_version([], [tmp_path]) == str(library)
    both = tensorrt_version(["numpy"], [tmp_path])
    assert both.startswith("numpy ")
    assert both.endswith(str(library))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "text")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_the_side_file_can_be_read_by_people() -> None:
    side = json.loads((keep_engine(KEY, b"engine").parent / SIDE_FILE).read_text())
    assert side["key"]["device"]["gpu"] == "NVIDIA L4"
    assert side["key"]["shapes"][0]["usual"] == [2, 3]
