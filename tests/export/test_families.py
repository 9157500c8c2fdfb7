"""Every family says, token for token, what transformers' own ``generate`` says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.samples import Sample
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.export.inspection import verify_bundle
from srd_edge.export.parity import is_tied, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.export.tensorrt_check import check_for_tensorrt, empty_past
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.training.suspect import Suspect

PROMPTS = ("", "w3 w14 w15")
LONGEST = 9


def _same(pixels: Pixels) -> Pixels:
    return pixels


@dataclass(frozen=True)
class Exports:
    """A model and its bundles, made when they are asked for."""

    model: Path
    pictures: list[Any]
    folder: Path
    _made: dict[str, Bundle] = field(default_factory=dict)

    def bundle(self, prompt: str) -> Bundle:
        if prompt not in self._made:
            folder = self.folder / f"{len(self._made)}"
            folder.mkdir()
            self._made[prompt] = bundle_of(self.model, self.pictures, folder, prompt)
        return self._made[prompt]


@pytest.fixture(scope="session")
def exports(
    family_model: Path, pictures: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(family_model, pictures, tmp_path_factory.mktemp("exported"))


def bundle_of(model: Path, pictures: list[Any], folder: Path, prompt: str) -> Bundle:
    config = ExportConfig(
        str(model), folder / "bundle", max_new_tokens=LONGEST, beams=1, prompt=prompt
    )
    samples = [Sample(f"{n}", ("w1 w2",), partial(_same, p)) for n, p in enumerate(pictures * 3)]
    return export_bundle(config, samples, lambda _: None)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_captions_are_transformers_own(
    exports: Exports, pictures: list[Any], prompt: str, beams: int
) -> None:
    source = open_source(exports.model, prompt=prompt, beams=beams, max_new_tokens=LONGEST)
    canvases = source.captioner.canvases(pictures)
    truth = transformers_tokens(source, source.generation, canvases)
    bundle = exports.bundle(prompt if source.prompt.in_the_graphs else "")
    # Otherwise a prompt is data of the manifest, and the graphs are the same.
    captioner = source.spec(dict(bundle.manifest.captioner.components))
    manifest = replace(bundle.manifest, captioner=captioner, generation=source.generation)
    runtime = OnnxCaptioner(replace(bundle, manifest=manifest), "cpu")
    made = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
    differing = [n for n, (m, t) in enumerate(zip(made, truth, strict=True)) if m != t]
    # Sixteen channels and random weights: now and then two words are equally likely.
    assert all(is_tied(runtime, canvases[n], made[n], truth[n]) for n in differing)
    assert len(differing) <= 2
    assert len({tuple(row) for row in truth}) > 8, "captions that are all the same prove little"


def test_tensorrt_parses_every_graph_of_a_family(exports: Exports) -> None:
    bundle = exports.bundle("")
    graphs = sorted(bundle.directory.glob("*.onnx"))
    assert [finding for path in graphs for finding in check_for_tensorrt(path)] == []
    assert [path.stem for path in graphs if empty_past(path)] == ["decoder_model"]


def test_no_graph_of_a_family_chooses_by_what_it_is_fed(exports: Exports) -> None:
    assert verify_bundle(exports.bundle("")) == []


def test_a_policy_sees_in_training_what_it_sees_on_the_device(
    vit_gpt2_model: Path, pictures: list[Any], tmp_path: Path
) -> None:
    """The patches of a ViT, without its class token."""
    suspect = Suspect(load_captioner(vit_gpt2_model))
    assert suspect.captioner.grid == (4, 4)
    canvases = suspect.captioner.canvases(pictures)
    seen = suspect.look(canvases).features
    assert seen.shape == (len(pictures), 16, 24)
    bundle = bundle_of(vit_gpt2_model, pictures, tmp_path, "")
    observation = bundle.manifest.observation
    assert (observation.rows, observation.columns, observation.channels) == (4, 4, 24)
    runtime = OnnxCaptioner(bundle, "cpu")
    for canvas, features in zip(canvases, seen, strict=True):
        np.testing.assert_allclose(runtime.encode(canvas).features[0], features, atol=1e-4)
