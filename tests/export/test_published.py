"""Captioners whose decoder reads embeddings, as onnx-community publishes them, become bundles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

from srd_edge.export.inspection import verify_bundle
from srd_edge.export.onnx_directory import OnnxDirectoryConfig, bundle_directory
from srd_edge.export.parity import is_tied, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.kernels.tiling import Multiples
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from tests.export.published import choose, count_logits, publish

LONGEST = 9
CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], ...]] = {
    "paligemma": (),
    "llava": (choose,),
    "smolvlm": (count_logits,),
    "qwen2-vl": (),
    "qwen2.5-vl": (count_logits,),
}
"""By captioner, what else its decoder's graph has."""


@pytest.fixture(scope="session")
def published(
    saved: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The directory of a captioner by its name, made when it is asked for."""

    def made(name: str) -> Path:
        return publish(saved(name), tmp_path_factory.mktemp(name) / "model", *CHANGES[name])

    return cache(made)


def bundle_of(directory: Path, output: Path, **settings: Any) -> Bundle:
    return bundle_directory(OnnxDirectoryConfig(directory, output, **settings), lambda _: None)


@pytest.mark.parametrize("name", CHANGES)
def test_captions_are_transformers_own(
    saved: Callable[[str], Path],
    published: Callable[[str], Path],
    pictures: list[Any],
    tmp_path: Path,
    name: str,
) -> None:
    told = set()
    for prompt, beams in (("", 1), ("w3 w14 w15", 3)):
        settings: dict[str, Any] = {"prompt": prompt, "beams": beams, "max_new_tokens": LONGEST}
        bundle = bundle_of(published(name), tmp_path / f"{beams}", **settings)
        assert verify_bundle(bundle) == []
        source, manifest = open_source(saved(name), **settings), bundle.manifest
        assert manifest.generation == source.generation
        theirs = source.spec(dict(manifest.captioner.components))
        assert replace(manifest.captioner, decoding="prefix") == theirs
        look, tiling = manifest.preprocessing, manifest.preprocessing.tiling
        if isinstance(tiling, Multiples):
            look = replace(look, tiling=replace(tiling, patches=None))
        assert look == source.captioner.preprocessing
        canvases = [to_canvas(pixels, look) for pixels in pictures[:8]]
        truth = transformers_tokens(source, source.generation, canvases)
        runtime = OnnxCaptioner(bundle, "cpu")
        said = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
        differing = [n for n, (s, t) in enumerate(zip(said, truth, strict=True)) if s != t]
        assert all(is_tied(runtime, canvases[n], said[n], truth[n]) for n in differing)
        assert len(differing) <= 1
        told |= {tuple(row) for row in truth}
    assert len(told) > 8, "captions that are all the same prove little"
