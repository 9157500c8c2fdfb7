"""Engines are built, kept and opened again, by a stand-in for TensorRT that does only that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srd_edge.errors import BundleError, ProviderError, RunError, UsageError
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.engine_cache import ENGINE_FILE
from srd_edge.runtime.engines import open_engine
from srd_edge.runtime.tensorrt_provider import TensorRtSettings


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> Any:
        return self.content + b"+measured"


class Config:
    def __init__(self, stale: bytes) -> None:
        self.builder_optimization_level = -1
        self.limits: dict[str, int] = {}
        self.profiles: list[Any] = []
        self.cache: Cache | None = None
        self._stale = stale

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return -1 if profile.refused else len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return Cache(serialized_timing_cache)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content and cache.content == self._stale:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class Profile:
    def __init__(self, refused: bool) -> None:
        self.refused = refused
        self.shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self.shapes[input] = (min, opt, max)


class FakeTensorRt:
    """TensorRT, but for the engine: that is the graph's path and how often one was built.

    Args:
        version: what it says it is.
        refuses: parse, profile, build, open or gpu.
        stale: a timing cache of another device.
    """

    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, version: str = "10.16.1.11", refuses: str = "", stale: bytes = b"") -> None:
        self.__version__ = version
        eleven = version.startswith("11")
        old = version.startswith("9")
        flags: dict[str, int] = {} if old else {"STRONGLY_TYPED": 1}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**flags)
        self.BuilderFlag = SimpleNamespace(**({} if eleven else {"FP16": 0}))
        self.refuses, self.stale = refuses, stale
        self.configs: list[Config] = []
        self.flags: list[int] = []
        self.parsed: list[str] = []
        self.runtimes: list[Any] = []

    class Logger:
        ERROR = "error"

        def __init__(self, min_severity: object) -> None:
            assert min_severity == "error"

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        assert isinstance(logger, self.Logger)
        if self.refuses == "gpu":
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return self

    def create_network(self, flags: int) -> Any:
        self.flags.append(flags)
        self.network = SimpleNamespace(num_inputs=1)
        return self.network

    def create_builder_config(self) -> Any:
        self.configs.append(Config(self.stale))
        return self.configs[-1]

    def create_optimization_profile(self) -> Any:
        return Profile(self.refuses == "profile")

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        assert (network, config) == (self.network, self.configs[-1])
        if self.refuses == "build":
            return None
        return f"{self.parsed[-1]} {len(self.configs)}".encode()

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        assert network is self.network
        assert isinstance(logger, self.Logger)
        return SimpleNamespace(
            parse_from_file=self._parse,
            num_errors=2,
            get_error=lambda index: SimpleNamespace(desc=lambda: f"No importer\nfor op {index}"),
        )

    def _parse(self, model: str) -> bool:
        self.parsed.append(Path(model).name)
        return self.refuses != "parse"

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        assert isinstance(logger, self.Logger)
        self.runtimes.append(SimpleNamespace(engine_host_code_allowed=True))
        self.runtimes[-1].deserialize_cuda_engine = self._deserialise
        return self.runtimes[-1]

    def _deserialise(self, serialized_engine: bytes) -> Any:
        assert not self.runtimes[-1].engine_host_code_allowed
        return None if self.refuses == "open" else SimpleNamespace(plan=serialized_engine)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


def plan(bundle: Bundle, api: Any, role: str = "encoder", **more: Any) -> bytes:
    opened: Any = open_engine(bundle, role, tensorrt=api, **more)
    content: bytes = opened.engine.plan
    return content


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_an_engine_is_built_once(bundle: Bundle, version: str) -> None:
    api = FakeTensorRt(version)
    assert plan(bundle, api) == b"encoder_model.onnx 1"
    assert plan(bundle, api) == b"encoder_model.onnx 1"
    assert len(api.configs) == 1
    assert api.flags == [1 << 1]
    assert [r.engine_host_code_allowed for r in api.runtimes] == [False, False]
    (config,) = api.configs
    assert config.limits == {"workspace": 1 << 30}
    assert config.builder_optimization_level == 3
    assert config.profiles == [{"pixel_values": ((1, 3, 32, 32),) * 3}]


def test_another_version_setting_or_shape_is_another_engine(bundle: Bundle) -> None:
    api = FakeTensorRt()
    plans = [
        plan(bundle, api),
        plan(bundle, api, views=4),
        plan(bundle, api, settings=TensorRtSettings(workspace_bytes=1 << 20)),
        plan(bundle, api, settings=TensorRtSettings(builder_level=5)),
    ]
    assert len(set(plans)) == 4
    newer = FakeTensorRt("10.16.2.10")
    plan(bundle, newer)
    assert len(newer.configs) == 1


def test_a_decoders_past_begins_at_1(bundle: Bundle) -> None:
    api = FakeTensorRt()
    plan(bundle, api, "decoder")
    least, _, most = api.configs[0].profiles[0]["past_key_values.0.decoder.key"]
    assert least[2] == 1
    assert most[2] > 1


def test_what_was_measured_is_not_measured_again(bundle: Bundle, own_cache: Path) -> None:
    api = FakeTensorRt()
    plan(bundle, api)
    plan(bundle, api, "policy")
    first, second = (config.cache for config in api.configs)
    assert first is not None
    assert second is not None
    assert (first.content, second.content) == (b"", b"+measured")
    (file,) = own_cache.rglob("timing.cache")
    assert file.read_bytes() == b"+measured+measured"


def test_a_timing_cache_that_does_not_fit_is_begun_anew(bundle: Bundle) -> None:
    api = FakeTensorRt(stale=b"+measured")
    plan(bundle, api)
    plan(bundle, api, "policy")
    cache = api.configs[1].cache
    assert cache is not None
    assert cache.content == b""


@pytest.mark.parametrize(
    ("refuses", "error", "words"),
    [
        ("gpu", ProviderError, "a GPU that TensorRT"),
        ("parse", BundleError, "No importer for op 0; No importer for op 1"),
        ("profile", BundleError, "a profile that TensorRT accepts for pixel_values"),
        ("build", RunError, "build an engine of encoder_model"),
        ("open", BundleError, "does not open"),
    ],
)
def test_what_goes_wrong_is_one_line(
    bundle: Bundle, refuses: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        plan(bundle, FakeTensorRt(refuses=refuses))
    assert "\n" not in str(caught.value)


def test_a_failed_build_leaves_no_engine(bundle: Bundle, own_cache: Path) -> None:
    with pytest.raises(RunError):
        plan(bundle, FakeTensorRt(refuses="build"))
    assert list(own_cache.rglob(ENGINE_FILE)) == []


def test_a_version_that_would_choose_the_precision_itself_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="strongly typed"):
        plan(bundle, FakeTensorRt("9.3.0"))


def test_a_version_without_the_flag_is_strongly_typed_if_it_chooses_no_precision(
    bundle: Bundle,
) -> None:
    api = FakeTensorRt("11.9")
    del api.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    plan(bundle, api)
    assert api.flags == [0]


def test_half_precision_is_the_graphs_to_say(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="--precision fp16"):
        plan(bundle, FakeTensorRt(), settings=TensorRtSettings(half=True))


def test_an_engine_from_elsewhere_is_never_deserialised(bundle: Bundle, own_cache: Path) -> None:
    api = FakeTensorRt()
    plan(bundle, api)
    (file,) = own_cache.rglob(ENGINE_FILE)
    file.write_bytes(b"somebody else's")
    with pytest.raises(BundleError, match=r"from elsewhere.*built on the device"):
        plan(bundle, api)
    assert len(api.runtimes) == 1


def test_the_side_file_holds_the_sum_of_what_was_built(bundle: Bundle, own_cache: Path) -> None:
    plan(bundle, FakeTensorRt())
    (file,) = own_cache.rglob(ENGINE_FILE)
    side = file.with_name("engine.json").read_text()
    assert hashlib.sha256(file.read_bytes()).hexdigest() in side
    assert '"tensorrt": "10.16.1.11"' in side
