"""What a bundle is exported for: its precision, what its graphs may hold, what the device needs.

A target chooses the precision where none is named and, for a GPU, a decoder whose shapes stay. It
holds the graphs against what its TensorRT parses and is written into the manifest's provenance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.export.graphs import Precision
from srd_edge.export.tensorrt_check import OPSETS, check_for_tensorrt, empty_past
from srd_edge.runtime.bundle_profiles import ANY_SIZE
from srd_edge.runtime.sessions import INSTALL, Provider

_OF_THE_SYSTEM: Final = (
    "the system's TensorRT and an onnxruntime-gpu that was built for it and for this GPU "
    "(the one on the package index has no code for it), then: pip install srd-edge"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of device.

    Args:
        name: on the command line.
        provider: to run the bundle with.
        precision: where none is named.
        needs: versions, in words.
        install: the line to install with, or whose packages to take.
        opsets: that its TensorRT parses; None where there is none.
    """

    name: str
    provider: Provider
    precision: Precision
    needs: str
    install: str
    opsets: range | None = None

    def next_command(self, bundle: Path) -> tuple[str, ...]:
        """What to run on the device, after ``srd-edge``."""
        return ("run", "--bundle", str(bundle), "--video", "demo", "--provider", self.provider)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "provider": self.provider,
            "needs": self.needs,
            "install": self.install,
        }


_ALL: Final = (
    Target(
        "cpu",
        "cpu",
        "int8",
        "Python 3.11 or newer on x86-64 or ARM",
        INSTALL["cpu"],
    ),
    Target(
        "cuda",
        "cuda",
        "fp16",
        "Python 3.11 or newer, CUDA 13, cuDNN 9",
        'pip install "srd-edge[gpu]"',
    ),
    Target(
        "tensorrt",
        "tensorrt",
        "fp16",
        "Python 3.11 or newer on x86-64, CUDA 13, cuDNN 9, TensorRT 10.16 (not 11, which "
        "onnxruntime-gpu does not link; for that, srd-edge[tensorrt-native])",
        'pip install "srd-edge[tensorrt]"',
        OPSETS,
    ),
    Target(
        "jetson-orin-jp6",
        "tensorrt",
        "fp16",
        "JetPack 6 with TensorRT 10.3; its Python is 3.10 and srd-edge wants 3.11, for which "
        "onnxruntime-gpu has to be built",
        _OF_THE_SYSTEM,
        # TensorRT 9.0's parser has ONNX 1.14, that is opset 19; 10.6's is the next that says more.
        range(OPSETS[0], 20),
    ),
    Target(
        "jetson-orin-jp7",
        "tensorrt",
        "fp16",
        "JetPack 7.2 with Python 3.12, CUDA 13.2 and TensorRT 10.16",
        _OF_THE_SYSTEM,
        OPSETS,
    ),
    Target(
        "jetson-thor",
        "tensorrt",
        "fp16",
        "JetPack 7.2 with Python 3.12, CUDA 13.2 and TensorRT 10.16",
        _OF_THE_SYSTEM,
        OPSETS,
    ),
)
TARGETS: Final[Mapping[str, Target]] = {target.name: target for target in _ALL} | {
    "jetson-orin": next(target for target in _ALL if target.name == "jetson-orin-jp7")
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(
            expected=f"a target out of {', '.join(TARGETS)}", found=repr(name), do="choose one"
        )
    return TARGETS[name]


def choose_precision(target: str, asked: Precision | None) -> Precision:
    """The precision that was asked for, else the target's, else fp32."""
    if asked is not None:
        return asked
    return find_target(target).precision if target else "fp32"


def has_tensorrt(target: str) -> bool:
    """Whether the target runs engines; "" for none."""
    return bool(target) and find_target(target).opsets is not None


def on_gpu(target: str) -> bool:
    """Whether the target gains by a cache of fixed size, whose steps a GPU can play again."""
    return bool(target) and find_target(target).provider != "cpu"


def check_precision(target: str, precision: Precision) -> None:
    """Refuse a precision that the target cannot run; before anything is exported.

    Raises:
        UsageError: int8 or int4 for TensorRT, or no such target.
    """
    if has_tensorrt(target) and precision in ("int8", "int4"):
        raise UsageError(
            expected=f"fp16 or fp32 for {target}",
            found=f"{precision}, whose decoder is MatMulNBits, an operator of onnxruntime's own",
            do="leave --precision out, or use --target cuda or cpu",
        )


def check_graphs(
    target: str,
    files: Mapping[str, bytes | Path],
    report: Callable[[str], None],
    *,
    any_size: bool = False,
) -> dict[str, Any] | None:
    """Hold the graphs against what the target runs.

    Args:
        target: its name; "" for none.
        files: of the bundle, by their paths in it.
        report: told one line for each graph that TensorRT leaves to CUDA.
        any_size: whether pictures are of any size, so that no graph has a profile.

    Returns:
        For the manifest's provenance: the target, and why which graphs are left to CUDA; None
        without a target.

    Raises:
        UsageError: a graph that TensorRT would refuse or cut to pieces.
    """
    if not target:
        return None
    chosen = find_target(target)
    left: dict[str, str] = {}
    for name, path in files.items():
        if chosen.opsets is None or not isinstance(path, Path) or path.suffix != ".onnx":
            continue
        findings = check_for_tensorrt(path, chosen.opsets)
        if findings:
            more = f" and {len(findings) - 1} more" * (len(findings) > 1)
            raise UsageError(
                expected=f"graphs that TensorRT takes, for {target}",
                found=f"{findings[0].what}{more} in {name}",
                do="use --target cuda, or report it with the captioner's configuration",
            )
        reason = ANY_SIZE if any_size else empty_past(path)
        if reason is not None:
            left[name] = reason
            report(f"{name}: left to CUDA on {target}: {reason}")
    return chosen.to_json() | {"left_to_cuda": left}
