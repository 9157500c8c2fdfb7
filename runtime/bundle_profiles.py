"""A bundle's graphs by their role, with the shapes they are run at and the sums of their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from srd_edge.errors import BundleError, UsageError
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.graph_header import GraphHeader, read_header
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.profiles import (
    Profile,
    Ranges,
    captioner_ranges,
    language_ranges,
    may_be_empty,
    picture_features,
    policy_ranges,
    profile,
)

ANY_SIZE: Final = "pictures of any size, for which there is no profile"
_WEIGHTS: Final = ("_data", ".data")
"""How files end that hold weights of graphs; which of them, an engine need not know."""


@dataclass(frozen=True, slots=True)
class ProfiledGraph:
    """A graph of a bundle, and between which shapes it is run.

    Args:
        path: its file.
        sums: sha256 of the file, and of those with its weights, in hex.
        header: its inputs and outputs.
        shapes: of its dynamic inputs.
    """

    path: Path
    sums: tuple[str, ...]
    header: GraphHeader
    shapes: Profile


def profiled_graph(bundle: Bundle, role: str, *, views: int = 1) -> ProfiledGraph:
    """One graph of a bundle.

    Args:
        bundle: a verified bundle.
        role: a component of the captioner, "policy" or "language".
        views: of a picture that are captioned as one, at most.

    Raises:
        UsageError: the bundle has no such graph.
        BundleError: a graph with axes that the manifest says nothing of, or of no fixed length.
    """
    file = graph_file(bundle.manifest, role)
    header = read_header(bundle.path(file))
    return ProfiledGraph(
        path=bundle.path(file),
        sums=tuple(
            entry.sha256
            for entry in bundle.manifest.files
            if entry.path == file or entry.path.endswith(_WEIGHTS)
        ),
        header=header,
        shapes=profile(header.inputs, _ranges(bundle, role, views)),
    )


def refuse_empty_past(graph: ProfiledGraph) -> None:
    """An engine is fed nothing that is empty.

    Raises:
        BundleError: the graph may be fed a past of length 0.
    """
    if may_be_empty(graph.header.inputs):
        raise BundleError(
            expected="a graph whose inputs are never empty, for TensorRT",
            found=f"{graph.path.name} begins with an empty past",
            do="leave it to CUDA",
        )


def graph_file(manifest: Manifest, role: str) -> str:
    """The file of a component of the captioner, of "policy" or of "language"."""
    files = dict(manifest.captioner.components)
    if manifest.policy is not None:
        files["policy"] = manifest.policy.file
    if manifest.check is not None:
        files["language"] = manifest.check.language.file
    if role not in files:
        raise UsageError(
            expected=f"one of the bundle's graphs: {', '.join(files)}",
            found=repr(role),
            do="name one of them",
        )
    return files[role]


def _ranges(bundle: Bundle, role: str, views: int) -> Ranges:
    manifest = bundle.manifest
    if role == "policy":
        return policy_ranges()
    if role == "language" and manifest.check is not None:
        return language_ranges(manifest.check.language, manifest.generation.max_new_tokens)
    if manifest.preprocessing.tiling is not None:
        raise BundleError(
            expected="a captioner of pictures of one size, for TensorRT",
            found=ANY_SIZE,
            do="leave it to CUDA",
        )
    encoder = read_header(bundle.path(manifest.captioner.components["encoder"]))
    features = picture_features(manifest.captioner, encoder.outputs)
    return captioner_ranges(manifest.captioner, manifest.generation, role, features, views)
