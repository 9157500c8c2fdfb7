"""Our protocols of cuda-bindings say what the installed package holds, to the letter."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, get_args, get_type_hints

import pytest
from cuda.bindings import runtime as real

from srd_edge.errors import BundleError, ProviderError, RunError
from srd_edge.runtime import cuda_api
from srd_edge.runtime.cuda_api import CudaRuntime, Status, done, given, load_cuda
from tests.fake_cuda import FakeCuda

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"


def returned(function: Any) -> int:
    """How many values a function of cuda-bindings gives back, by its documentation."""
    section = re.search(r"^Returns\n-+\n(.*?)(?=\n\n|\Z)", function.__doc__, re.MULTILINE | re.S)
    assert section is not None
    return len(re.findall(r"^\S", section[1], re.MULTILINE))


def wrong_functions(protocol: type, module: ModuleType) -> Iterator[str]:
    """What a protocol says of a module's functions that is not so."""
    for name, function in vars(protocol).items():
        if not inspect.isfunction(function) or name.startswith("_"):
            continue
        own = getattr(module, name, None)
        if own is None:
            yield f"no function {name}"
            continue
        parameters = list(inspect.signature(function).parameters)[1:]
        if parameters != list(inspect.signature(own).parameters):
            yield f"{name} takes {list(inspect.signature(own).parameters)}"
        hints = get_type_hints(function, vars(cuda_api))
        if len(get_args(hints["return"])) != returned(own):
            yield f"{name} gives {returned(own)} values"


def wrong_members(protocol: type, module: ModuleType) -> Iterator[str]:
    """Members of an enumeration that are not there."""
    own = getattr(module, protocol.__name__, None)
    for name in inspect.get_annotations(protocol):
        if not hasattr(own, name):
            yield f"no member {protocol.__name__}.{name}"


def enumerations() -> set[type]:
    return {
        value
        for value in vars(cuda_api).values()
        if inspect.isclass(value)
        and value.__module__ == cuda_api.__name__
        and value not in (CudaRuntime, Status)
    }


def test_every_name_is_in_the_package() -> None:
    assert list(wrong_functions(CudaRuntime, real)) == []
    assert len(enumerations()) == 3
    assert [wrong for one in enumerations() for wrong in wrong_members(one, real)] == []
    for name in inspect.get_annotations(CudaRuntime):
        assert hasattr(real, name)
    assert hasattr(real.cudaError_t.cudaSuccess, "name")


class Misspelt(Protocol):
    def cudaMaloc(self, size: int) -> tuple[Status, int]: ...  # noqa: N802

    def cudaFree(self, pointer: int) -> tuple[Status]: ...  # noqa: N802

    def cudaStreamSynchronize(self, stream: object) -> tuple[Status, int]: ...  # noqa: N802


class cudaMemcpyKind(Protocol):  # noqa: N801
    cudaMemcpyHostToDevise: Any  # noqa: N815


def test_a_misspelt_name_is_found() -> None:
    assert list(wrong_functions(Misspelt, real)) == [
        "no function cudaMaloc",
        "cudaFree takes ['devPtr']",
        "cudaStreamSynchronize gives 1 values",
    ]
    assert list(wrong_members(cudaMemcpyKind, real)) == [
        "no member cudaMemcpyKind.cudaMemcpyHostToDevise"
    ]


def test_the_package_gives_tuples() -> None:
    status, count = real.cudaGetDeviceCount()
    if count:
        pytest.skip("there is a GPU, and what this asks for is not to be asked of it")
    assert isinstance(status, real.cudaError_t)
    for name, arguments in {"cudaMalloc": (16,), "cudaFree": (16,)}.items():
        answer = getattr(real, name)(*arguments)
        assert type(answer) is tuple
        assert len(answer) == returned(getattr(real, name))
    assert int(real.cudaStream_t(5)) == 5


def test_the_stand_in_takes_what_the_package_takes() -> None:
    cuda = FakeCuda()
    for name, function in vars(CudaRuntime).items():
        if inspect.isfunction(function) and name.startswith("cuda"):
            own, fake = (inspect.signature(getattr(module, name)) for module in (real, cuda))
            assert list(own.parameters) == list(fake.parameters), name


def test_nobody_goes_around_the_protocols() -> None:
    for path in RUNTIME.glob("*.py"):
        if path.name != "cuda_api.py":
            assert not re.search(r"^\s*(from|import) cuda\b", path.read_text(), re.MULTILINE)


def test_no_cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(ProviderError, match=r'pip install "srd-edge\[tensorrt-native\]"') as caught:
        load_cuda()
    assert caught.value.exit_code == 5


def test_no_gpu(fake_gpu: Any) -> None:
    found: Any = load_cuda()
    assert found is fake_gpu.cuda
    fake_gpu.cuda.gpus = 0
    with pytest.raises(ProviderError, match="count the GPUs, found cudaErrorNoDevice"):
        load_cuda()
    fake_gpu.cuda.refuses["cudaGetDeviceCount"] = real.cudaError_t.cudaErrorInsufficientDriver
    with pytest.raises(ProviderError, match="driver version is insufficient") as caught:
        load_cuda()
    assert "\n" not in str(caught.value)


def test_no_driver_here() -> None:
    if real.cudaGetDeviceCount()[1]:
        pytest.skip("there is a GPU")
    with pytest.raises(ProviderError, match="expected CUDA to count the GPUs, found cudaError"):
        load_cuda()


def test_a_status_is_an_error_unless_it_is_success() -> None:
    cuda: CudaRuntime = real
    good, bad = real.cudaError_t.cudaSuccess, real.cudaError_t.cudaErrorIllegalAddress
    done(cuda, (good,), "work")
    assert given(cuda, (good, 3), "work") == 3
    with pytest.raises(RunError, match="CUDA to work, found cudaErrorIllegalAddress, an illegal"):
        done(cuda, (bad,), "work")
    with pytest.raises(BundleError):
        given(cuda, (bad, None), "work", BundleError)
