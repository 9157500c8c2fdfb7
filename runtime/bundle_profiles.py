"""A bundle's graphs by their role, with the shapes they are run at and the sums of their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srd_edge.errors import UsageError
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.graph_header import GraphHeader, read_header
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.profiles import (
    Profile,
    Ranges,
    captioner_ranges,
    language_ranges,
    picture_features,
    policy_ranges,
    profile,
)


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
        BundleError: a graph with axes that the manifest says nothing of.
    """
    file = _file(bundle.manifest, role)
    header = read_header(bundle.path(file))
    return ProfiledGraph(
        path=bundle.path(file),
        # Weights in a file of their own have the graph's name and more.
        sums=tuple(e.sha256 for e in bundle.manifest.files if e.path.startswith(file)),
        header=header,
        shapes=profile(header.inputs, _ranges(bundle, role, views)),
    )


def _file(manifest: Manifest, role: str) -> str:
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
    encoder = read_header(bundle.path(manifest.captioner.components["encoder"]))
    features = picture_features(manifest.captioner, encoder.outputs)
    return captioner_ranges(manifest.captioner, manifest.generation, role, features, views)
