"""What the TensorRT provider is told: names that it knows, shapes that captioning needs."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from srd_edge.errors import BundleError, RunError, UsageError
from srd_edge.runtime.bundle import Bundle, read_bundle, write_bundle
from srd_edge.runtime.bundle_profiles import profiled_graph
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.graph_header import read_header
from srd_edge.runtime.sessions import Session, open_session
from srd_edge.runtime.tensorrt_provider import (
    TensorRtSettings,
    options_for,
    warm_up,
)

ROLES = ("encoder", "policy", "language")
NEVER = ("plugin", "decryption", "ep_context", "hw_compatible", "dump", "int8", "dla")
"""Parts of the names of options that load others' code, leave files about or change numbers."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture(scope="module")
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


def unknown(options: dict[str, str], known: list[str]) -> list[str]:
    """Names that a provider with the options ``known`` would refuse."""
    return sorted(set(options) - set(known))


def installed_library() -> bytes | None:
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("half", [False, True])
def test_every_name_is_one_of_the_providers(
    bundle: Bundle, recorded: Any, role: str, half: bool
) -> None:
    known = recorded("onnxruntime_gpu_1_31_1")["options"]
    options = options_for(bundle, role, settings=TensorRtSettings(half=half))
    assert unknown(options, known) == []
    library = installed_library()
    if library is not None:
        assert [name for name in options if name.encode() + b"\0" not in library] == []


def test_a_misspelt_name_is_found(bundle: Bundle, recorded: Any) -> None:
    known = recorded("onnxruntime_gpu_1_31_1")["options"]
    options = options_for(bundle, "encoder") | {"trt_engine_cache_enabled": "True"}
    assert unknown(options, known) == ["trt_engine_cache_enabled"]


def malformed(options: dict[str, str], values: dict[str, str]) -> list[str]:
    """Options whose value onnxruntime's bindings would refuse, by what their errors ask for."""
    shape = r"[^:,]+:\d+(x\d+)*"
    forms = {
        "'True' or 'False'": "True|False",
        "number": r"\d+",
        "input1:dim1xdimd2": rf"{shape}(,{shape})*",
        "path": r"/\S+",
    }
    wanted = {
        name: next(form for words, form in forms.items() if words in values[name])
        for name in options
    }
    return [name for name, form in wanted.items() if not re.fullmatch(form, options[name])]


@pytest.mark.parametrize("role", ROLES)
def test_every_value_is_written_as_the_bindings_want_it(
    bundle: Bundle, recorded: Any, role: str
) -> None:
    values = recorded("onnxruntime_gpu_1_31_1")["values"]
    options = options_for(bundle, role)
    assert set(options) <= set(values)
    assert malformed(options, values) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trt_fp16_enable", "1"),
        ("trt_max_workspace_size", "1GB"),
        ("trt_profile_opt_shapes", "x:1,3"),
        ("trt_engine_cache_path", "engines"),
    ],
)
def test_a_malformed_value_is_found(bundle: Bundle, recorded: Any, name: str, value: str) -> None:
    values = recorded("onnxruntime_gpu_1_31_1")["values"]
    assert malformed(options_for(bundle, "encoder") | {name: value}, values) == [name]


@pytest.mark.parametrize("role", ROLES)
def test_values_are_strings_and_nothing_loads_others_code(bundle: Bundle, role: str) -> None:
    options = options_for(bundle, role)
    assert all(isinstance(value, str) and value for value in options.values())
    assert [name for name in options if any(part in name for part in NEVER)] == []


@pytest.mark.parametrize(
    ("half", "typed", "expected"),
    [
        (False, False, "False"),
        (False, True, "False"),
        (True, False, "True"),
        (True, True, "False"),
    ],
)
def test_half_precision_is_asked_for_where_the_graph_is_not_typed_so(
    half: bool, typed: bool, expected: str
) -> None:
    options = TensorRtSettings(half=half).options(graph_is_half=typed)
    assert options["trt_fp16_enable"] == expected


def halved(bundle: Bundle, target: Path) -> Bundle:
    """``bundle`` with one weight of its encoder in 16 bits."""
    files: dict[str, bytes | Path] = {
        entry.path: bundle.path(entry.path) for entry in bundle.manifest.files
    }
    model = onnx.load(bundle.path("encoder_model.onnx"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float16), "half"))
    files["encoder_model.onnx"] = model.SerializeToString()
    assert bundle.manifest.policy is not None
    unpaired = replace(bundle.manifest.policy, pairing="")
    return write_bundle(target, replace(bundle.manifest, files=(), policy=unpaired), files)


def test_a_graph_says_itself_how_it_is_typed(bundle: Bundle, tmp_path: Path) -> None:
    settings = TensorRtSettings(half=True)
    typed = halved(bundle, tmp_path / "bundle")
    assert options_for(bundle, "encoder", settings=settings)["trt_fp16_enable"] == "True"
    assert options_for(typed, "encoder", settings=settings)["trt_fp16_enable"] == "False"


def test_engines_lie_in_folders_of_their_own(
    bundle: Bundle, own_cache: Path, tmp_path: Path
) -> None:
    options = {role: options_for(bundle, role) for role in ROLES}
    folders = {Path(told["trt_engine_cache_path"]) for told in options.values()}
    assert len(folders) == len(ROLES)
    timings = {Path(told["trt_timing_cache_path"]) for told in options.values()}
    assert len(timings) == 1
    for folder in folders | timings:
        assert folder.is_relative_to(own_cache)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = options_for(bundle, "encoder")
    assert again == options["encoder"]
    others = (
        options_for(bundle, "encoder", views=4),
        options_for(bundle, "encoder", settings=TensorRtSettings(workspace_bytes=1 << 20)),
        options_for(halved(bundle, tmp_path / "bundle"), "encoder"),
    )
    places = {told["trt_engine_cache_path"] for told in (again, *others)}
    assert len(places) == 4


def test_a_cache_that_others_write_to_is_refused(bundle: Bundle, own_cache: Path) -> None:
    (own_cache / "engines").mkdir(parents=True)
    (own_cache / "engines").chmod(0o777)
    with pytest.raises(RunError, match="others may write"):
        options_for(bundle, "encoder")


def test_every_dynamic_input_has_a_profile(bundle: Bundle) -> None:
    for role, file in zip(
        ROLES, ("encoder_model.onnx", "policy.onnx", "language_model.onnx"), strict=True
    ):
        inputs = read_header(bundle.path(file)).inputs
        dynamic = {v.name for v in inputs if any(isinstance(dim, str) for dim in v.dims)}
        options = options_for(bundle, role)
        for end in ("min", "opt", "max"):
            written = options[f"trt_profile_{end}_shapes"].split(",")
            assert {shape.partition(":")[0] for shape in written} == dynamic


def test_views_are_captioned_at_once(bundle: Bundle) -> None:
    options = options_for(bundle, "encoder", views=4)
    assert options["trt_profile_min_shapes"] == "pixel_values:1x3x32x32"
    assert options["trt_profile_max_shapes"] == "pixel_values:4x3x32x32"


def test_a_graph_that_begins_with_an_empty_past_is_not_for_tensorrt(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="empty past"):
        options_for(bundle, "decoder")


@pytest.mark.parametrize("role", ["", "embed_tokens", "encoder_model.onnx"])
def test_only_the_bundles_graphs_have_options(bundle: Bundle, role: str) -> None:
    with pytest.raises(UsageError, match=r"encoder, decoder, policy, language"):
        options_for(bundle, role)


class Watched:
    """A session that notes the shapes it is run at."""

    def __init__(self, session: Any) -> None:
        self._session, self.seen = session, []  # type: ignore[var-annotated]

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, outputs: Any, feed: Any) -> Any:
        self.seen.append({name: value.shape for name, value in feed.items()})
        return self._session.run(outputs, feed)


@pytest.mark.parametrize(
    ("role", "file", "views"),
    [
        ("encoder", "encoder_model.onnx", 1),
        ("encoder", "encoder_model.onnx", 4),
        ("policy", "policy.onnx", 1),
        ("language", "language_model.onnx", 1),
    ],
)
def test_a_graph_is_run_at_all_shapes_before_the_first_frame(
    bundle: Bundle, role: str, file: str, views: int
) -> None:
    watched = Watched(open_session(bundle.path(file), "cpu").session)
    warm_up(Session(watched, "cpu"), bundle, role, views=views)
    assert watched.seen == []
    warm_up(Session(watched, "tensorrt"), bundle, role, views=views)
    for shape in profiled_graph(bundle, role, views=views).shapes:
        assert {shape.usual, shape.most} == {seen[shape.name] for seen in watched.seen}
    assert len(watched.seen) in (1, 2)


def test_a_graph_that_tensorrt_takes_and_does_not_run_is_one_line(bundle: Bundle) -> None:
    session = open_session(bundle.path("policy.onnx"), "cpu").session

    class Failing(Watched):
        def run(self, outputs: Any, feed: Any) -> Any:
            super().run(outputs, feed)
            raise Exception("TensorRT EP failed\nto create engine")

    with pytest.raises(RunError, match="failed to create engine: use --provider cuda") as caught:
        warm_up(Session(Failing(session), "tensorrt"), bundle, "policy")
    assert "\n" not in str(caught.value)


def test_an_engine_is_given_no_more_pictures_than_it_is_built_for(
    bundle: Bundle, watch: Callable[[Any], dict[str, Any]]
) -> None:
    captioner = OnnxCaptioner(bundle, "cpu", views=2)
    canvases = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    at_once = captioner.caption_batch(canvases)
    fed = watch(captioner)["encoder"].fed
    captioner.provider = "tensorrt"
    assert captioner.caption_batch(canvases) == at_once
    captioner.caption_batch(canvases[:2])
    assert [shapes["pixel_values"][0] for shapes in fed] == [1, 1, 1, 1, 2]
