"""Where TensorRT's engines lie: built on this device, and found again by all that they depend on.

To deserialise an engine is to run what somebody built. Only what this device built itself is ever
opened: it lies in a folder of this user's own (`runtime/cache_folder.py`) whose name is the digest
of everything that an engine depends on, with its sha256 and that everything in a file beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from srd_edge.errors import BundleError
from srd_edge.runtime.cache_folder import cache_folder, private_folder
from srd_edge.runtime.device import UNKNOWN, Device
from srd_edge.runtime.profiles import Profile

ENGINE_FILE: Final = "engine"
SIDE_FILE: Final = "engine.json"
_PACKAGES: Final = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-libs")
_LIBRARY_FOLDERS: Final = (
    *(Path("/usr/lib/aarch64-linux-gnu"), Path("/usr/lib/x86_64-linux-gnu")),
    Path("/usr/lib64"),
)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on.

    Args:
        graph: sha256 of the graph's file, and of files with its weights, in hex.
        onnxruntime: version of the one that has it built; "" for TensorRT's own parser.
        tensorrt: as ``tensorrt_version`` has it.
        device: it was built on.
        shapes: it was built for.
        options: of the builder, by name.
    """

    graph: tuple[str, ...]
    onnxruntime: str
    tensorrt: str
    device: Device
    shapes: Profile
    options: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, that a person can compare."""
        parts = asdict(self) | {"options": dict(self.options), "graph": list(self.graph)}
        plain: dict[str, Any] = json.loads(json.dumps(parts))
        return plain

    @property
    def digest(self) -> str:
        """The sha256 of all of it, in hex."""
        return _sha256(self.to_json())


def tensorrt_version(
    packages: Sequence[str] = _PACKAGES, folders: Sequence[Path] = _LIBRARY_FOLDERS
) -> str:
    """Every TensorRT that is installed, as a package or a system library; none is loaded."""
    from importlib.metadata import PackageNotFoundError, version  # slow, and not for the CPU

    found = []
    for package in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    for folder in folders:
        found += [str(library) for library in sorted(folder.glob("libnvinfer.so.*.*.*"))]
    return "; ".join(found) or UNKNOWN


def engine_folder(key: EngineKey) -> Path:
    """The folder of the engine of that key, made if it is not there.

    Raises:
        RunError: the cache is not this user's own.
    """
    return _engines(key.digest)


def timing_folder(tensorrt: str, device: Device) -> Path:
    """The folder of what was measured of kernels on this device, which all graphs share."""
    return _engines("timing-" + _sha256([tensorrt, asdict(device)]))


def keep_engine(key: EngineKey, engine: bytes | memoryview) -> Path:
    """Write an engine that was built here, whole or not at all; the file's path."""
    folder = engine_folder(key)
    side = {"key": key.to_json(), "sha256": hashlib.sha256(engine).hexdigest()}
    write_whole(folder / ENGINE_FILE, engine)
    # Last: an engine without it is none.
    write_whole(folder / SIDE_FILE, json.dumps(side, indent=1).encode())
    return folder / ENGINE_FILE


def kept_engine(key: EngineKey) -> bytes | None:
    """The engine of that key, verified; None where none has been built.

    Raises:
        BundleError: what lies there was not built here, or not for this.
    """
    folder = engine_folder(key)
    try:
        side = json.loads((folder / SIDE_FILE).read_bytes())
        engine = (folder / ENGINE_FILE).read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _refuse(f"one from elsewhere, whose {SIDE_FILE} cannot be read ({error})", error)
    if not isinstance(side, dict) or side.get("key") != key.to_json():
        _refuse("one from elsewhere, for another device, graph or version")
    if side.get("sha256") != hashlib.sha256(engine).hexdigest():
        _refuse("one from elsewhere: its sha256 is not the one that was written down")
    return engine


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file that appears whole or not at all, and that others cannot read."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _engines(name: str) -> Path:
    return private_folder(private_folder(cache_folder() / "engines") / name)


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(found: str, cause: Exception | None = None) -> NoReturn:
    raise BundleError(
        expected="an engine that this device built",
        found=found,
        do=f"empty {cache_folder() / 'engines'}; engines are built on the device that runs them",
    ) from cause
