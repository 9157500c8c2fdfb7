"""Where the graphs of an ONNX export lie: in the layouts of transformers.js and of optimum.

*transformers.js* (and onnx-community) keeps them in ``onnx/``, *optimum* beside the json files.
Names are the same: a component's, then a suffix for its precision.

Needs the onnx package, and neither PyTorch nor transformers; nothing is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import onnx

from srd_edge.errors import UsageError
from srd_edge.export.graph_check import external_files
from srd_edge.runtime.bundle_specs import Decoding

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "fp32": ("", "_fp32"),
    "fp16": ("_fp16",),
    "int8": ("_quantized", "_int8", "_uint8"),
    "int4": ("_q4", "_q4f16"),
}
"""What follows a component's name in each precision, the first one preferred; transformers.js's
``bnb4`` has operators that no bundle may hold."""
STEMS: Final[Mapping[Decoding, Mapping[str, str]]] = {
    "merged": {"encoder": "encoder_model", "decoder": "decoder_model_merged"},
    "with-past": {
        "encoder": "encoder_model",
        "decoder": "decoder_model",
        "decoder_with_past": "decoder_with_past_model",
    },
    "merged-prefix": {
        "encoder": "vision_encoder",
        "embed_tokens": "embed_tokens",
        "decoder": "decoder_model_merged",
    },
}
"""File names of components."""
_FOLDER: Final = "onnx"


@dataclass(frozen=True, slots=True)
class HubLayout:
    """The graphs of one precision.

    Args:
        directory: of the json files.
        name: transformers.js or optimum.
        decoding: the kind of decoder.
        graphs: component -> file.
    """

    directory: Path
    name: str
    decoding: Decoding
    graphs: Mapping[str, Path]

    def files(self) -> dict[str, Path]:
        """The graphs and the files of their weights, by the name that each has in a bundle.

        Raises:
            UsageError: a file that is not in the directory, or weights that do not lie beside
                their graph.
        """
        found = {}
        for path in self.graphs.values():
            found[path.name] = contained(self.directory, path)
            for location in external_files(read_graph(path)):
                pure = PurePosixPath(location)
                if pure.name in ("", "..") or len(pure.parts) != 1 or "\\" in location:
                    raise UsageError(
                        expected=f"weights of {path.name} in a file beside it",
                        found=f"{location[:80]!r}, outside of the graph's directory",
                        do="do not use this export; fetch the captioner from elsewhere",
                    )
                found[location] = contained(self.directory, path.with_name(location))
        return found


def holds_graphs(name: str) -> bool:
    """Whether ``name`` is a directory with ONNX graphs and without PyTorch's weights."""
    directory = Path(name)
    if not directory.is_dir() or any(directory.glob("*.safetensors")):
        return False
    return any(directory.glob("*.onnx")) or any(directory.glob(f"{_FOLDER}/*.onnx"))


def find_graphs(directory: Path, precision: str, kinds: Sequence[Decoding]) -> HubLayout:
    """The graphs of ``precision``, of the first of ``kinds`` of decoder that is there.

    Raises:
        UsageError: none of that precision, or of no such kind.
    """
    inner = directory / _FOLDER
    name, place = ("transformers.js", inner) if inner.is_dir() else ("optimum", directory)
    for decoding in kinds:
        graphs = _graphs(place, decoding, precision)
        if graphs is not None:
            return HubLayout(directory, name, decoding, graphs)
    there = [p for p in SUFFIXES if any(_graphs(place, kind, p) is not None for kind in kinds)]
    if there:
        raise UsageError(
            expected=f"graphs of {precision} in {place}",
            found=f"those of {', '.join(there)}",
            do=f"choose one that is there, with --precision {there[0]}",
        )
    seen = sorted(path.name for path in place.glob("*.onnx"))
    wanted = ", or ".join(" and ".join(STEMS[kind].values()) for kind in kinds)
    raise UsageError(
        expected=f"{wanted}, in {place}",
        found=", ".join(seen[:6]) + ", ..." * (len(seen) > 6),
        do="fetch all of them, or export the captioner with a past, as optimum's tasks that end in"
        " -with-past do",
    )


def contained(directory: Path, path: Path) -> Path:
    """``path`` with its links followed, which must not lead out of ``directory``.

    In the hub's cache, links of a snapshot lead to the same model's ``blobs``, and may.

    Raises:
        UsageError: it leads out, or there is no such file.
    """
    root = directory.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parents[1] / "blobs")
    real = path.resolve()
    if not any(real.is_relative_to(one) for one in roots):
        raise UsageError(
            expected=f"{path.name} inside of {directory}",
            found="a link that leads out of it",
            do="do not use this export; fetch the captioner from elsewhere",
        )
    if not real.is_file():
        raise UsageError(
            expected=f"a file {path.name} in {path.parent}", found="none", do="fetch it again"
        )
    return real


def read_graph(path: Path) -> onnx.ModelProto:
    """The graph in ``path``, without weights that lie in other files."""
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise UsageError(
            expected=f"{path.name} to be an ONNX graph",
            found=" ".join(str(error).split())[:200],
            do="fetch it again",
        ) from error


def _graphs(place: Path, decoding: Decoding, precision: str) -> dict[str, Path] | None:
    found = {}
    for component, stem in STEMS[decoding].items():
        paths = [place / f"{stem}{suffix}.onnx" for suffix in SUFFIXES[precision]]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return None
        found[component] = path
    return found
