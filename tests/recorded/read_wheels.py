"""What two published packages really hold, read out of their wheels into the lists beside this.

    python tests/recorded/read_wheels.py WHEEL LIST

with the wheels onnxruntime_gpu-1.31.1, tensorrt_cu13_bindings-10.16.1.11 and -11.4.0.106 of Linux
on x86-64 and the lists onnxruntime_gpu_1_31_1.json, tensorrt_10_16.json and tensorrt_11_4.json.

Neither needs a GPU. *onnxruntime-gpu*: the TensorRT provider's options are the strings of its
library that are one of these names from end to end. The linker keeps a string that another ends
with only once, so that ``user_compute_stream`` is looked for as the end of one. How values are
written is in the errors of the Python bindings. The CUDA provider's have no prefix to know them by:
those of its documentation are recorded that are strings of its library, and so is the key of a run
that says which CUDA graph is meant. *TensorRT*: the bindings want libnvinfer and two more libraries
for a handful of functions, none of which is called on import; hollow libraries with those names let
the module be imported (by the version of Python that the wheel is for), and it says itself what is
in it. Needs a C compiler and binutils. Nothing of TensorRT is run.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

PROVIDER_LIBRARY: Final = "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
CUDA_LIBRARY: Final = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
BINDINGS: Final = "onnxruntime/capi/onnxruntime_pybind11_state"
CUDA_DOCUMENTED: Final = (
    *("device_id", "user_compute_stream", "do_copy_in_default_stream"),
    *("use_ep_level_unified_stream", "gpu_mem_limit", "arena_extend_strategy"),
    *("cudnn_conv_algo_search", "cudnn_conv_use_max_workspace", "cudnn_conv1d_pad_to_nc1d"),
    *("enable_cuda_graph", "enable_skip_layer_norm_strict_mode", "use_tf32"),
    *("gpu_external_alloc", "gpu_external_free", "prefer_nhwc"),
)
RUN_KEYS: Final = ("gpu_graph_id",)
_WHOLE: Final = re.compile(rb"(?<![ -~])(device_id|trt_[a-z0-9_]+)\0")
_END: Final = re.compile(rb"(user_compute_stream)\0")
_VALUE: Final = re.compile(rb"\[TensorRT\] The value for the key '(\w+)' should be ([ -~]+)\n?\0")
_TENSORRT: Final = "tensorrt_bindings/tensorrt.so"
_LIST_MEMBERS: Final = r"""
import json, re
import tensorrt_bindings as module

def parameters(member):
    # pybind11's docstring: name(self: A, x: B = 0) -> C, or one such line for each overload.
    if not callable(member) or isinstance(member, type):
        return None
    lines = re.findall(r"^(?:\d+\. )?\w+\((?!\*args)(.*)\)(?: -> .*)?$", member.__doc__ or "", re.M)
    return [[n for n in re.findall(r"(?:^|, )(\w+): ", line) if n != "self"] for line in lines]

classes, signatures = {}, {}
for name, value in vars(module).items():
    if isinstance(value, type) and not name.startswith("_"):
        public = {m for m in dir(value) if not m.startswith("_")} - set(dir(object))
        classes[name] = sorted(public)
        for member in ["__init__", *public]:
            found = parameters(getattr(value, member))
            if found and value.__module__.startswith("tensorrt_bindings"):
                signatures[f"{name}.{member}"] = found
print(json.dumps({"version": module.__version__, "classes": classes, "signatures": signatures}))
"""
SIGNATURES_OF: Final = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "IOptimizationProfile", "ITimingCache"),
    *("ICudaEngine", "IExecutionContext", "Logger", "OnnxParser", "ParserError", "Runtime"),
)
"""Of the classes that an engine is built and opened with; those of all would be twice as long."""


def provider_options(library: bytes) -> list[str]:
    """The TensorRT provider's option names in the bytes of its library."""
    return sorted({m.decode() for m in (*_WHOLE.findall(library), *_END.findall(library))})


def whole_strings(names: Sequence[str], library: bytes) -> list[str]:
    """Those of ``names`` that are strings of a library, or the end of one."""
    return sorted(name for name in names if name.encode() + b"\0" in library)


def option_values(bindings: bytes) -> dict[str, str]:
    """What the Python bindings want the values of options to be, in the words of their errors."""
    return {name.decode(): words.decode() for name, words in _VALUE.findall(bindings)}


def read_onnxruntime(wheel: Path) -> dict[str, Any]:
    """The options that the wheel's GPU providers know, and how TensorRT's values are written."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.startswith(BINDINGS))
        bindings = archive.read(name)
        return {
            "options": provider_options(archive.read(PROVIDER_LIBRARY)),
            "cuda_options": whole_strings(CUDA_DOCUMENTED, archive.read(CUDA_LIBRARY)),
            "run_keys": whole_strings(RUN_KEYS, bindings),
            "values": option_values(bindings),
        }


def read_tensorrt(wheel: Path) -> dict[str, Any]:
    """Classes of the bindings, their public members, and what the methods of some take."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        _hollow_libraries(Path(folder) / _TENSORRT, Path(folder))
        done = subprocess.run(
            [sys.executable, "-P", "-c", _LIST_MEMBERS],
            env=os.environ | {"PYTHONPATH": folder, "LD_LIBRARY_PATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    read: dict[str, Any] = json.loads(done.stdout)
    kept = {n: v for n, v in read["signatures"].items() if n.partition(".")[0] in SIGNATURES_OF}
    return read | {"signatures": kept}


def _hollow_libraries(extension: Path, folder: Path) -> None:
    """Libraries with the names and functions that ``extension`` asks NVIDIA's for, empty."""
    needed = re.findall(r"\[(libnv\S+)\]", _output("readelf", "-d", str(extension)))
    asked = re.findall(r"^ +U (\w+)$", _output("nm", "-D", str(extension)), re.MULTILINE)
    here = ctypes.CDLL(None)
    source = "".join(f"void {name}(void) {{}}\n" for name in asked if not hasattr(here, name))
    for library in needed:
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / library)]
        subprocess.run(command, input=source, text=True, check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _lines(value: dict[str, Any]) -> str:
    """JSON with one class, one method or one list a line."""
    inner = {
        name: "{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(entry[k])}" for k in sorted(entry))
        + "\n }"
        if isinstance(entry, dict)
        else json.dumps(entry)
        for name, entry in value.items()
    }
    return "{\n" + ",\n".join(f' "{name}": {text}' for name, text in inner.items()) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    wheel: Path = arguments.wheel
    name, version = wheel.name.split("-")[:2]
    read = read_onnxruntime if name.startswith("onnxruntime") else read_tensorrt
    about = {
        "wheel": wheel.name,
        "name": name.replace("_", "-"),
        "version": version,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }
    arguments.output.write_text(_lines(about | read(wheel)), encoding="utf-8")


if __name__ == "__main__":
    main()
