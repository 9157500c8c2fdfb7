"""Every family says, token for token, what transformers' own ``generate`` says."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from transformers import AutoTokenizer
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.samples import Sample
from srd_edge.errors import BundleError, UsageError
from srd_edge.export import bundle_export
from srd_edge.export.bundle_export import ExportConfig, _check_match, export_bundle
from srd_edge.export.families.cache import with_fixed_cache
from srd_edge.export.families.prefix import whole_ids
from srd_edge.export.graphs import export_graph
from srd_edge.export.inspection import verify_bundle
from srd_edge.export.packing import pack
from srd_edge.export.parity import is_tied, measure_parity, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.export.tensorrt_check import check_for_tensorrt, empty_past
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle import Bundle, write_bundle
from srd_edge.runtime.bundle_profiles import profiled_graph
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

    def fixed(self) -> Bundle | None:
        """The first of them, with a cache of fixed size; None where there can be none."""
        if "fixed" not in self._made:
            grown = self.bundle("")
            source = open_source(self.model, beams=1, max_new_tokens=LONGEST)
            decoder = with_fixed_cache(source.components()["decoder"])
            if decoder is None:
                return None
            graph = self.folder / grown.manifest.captioner.components["decoder"]
            export_graph(decoder, graph)
            pack([graph], self.folder / "unused")
            files = {e.path: grown.path(e.path) for e in grown.manifest.files} | {graph.name: graph}
            spec = replace(grown.manifest.captioner, cache="fixed")
            manifest = replace(grown.manifest, captioner=spec, files=())
            self._made["fixed"] = write_bundle(self.folder / "fixed", manifest, files)
        return self._made["fixed"]


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
    canvases = [to_canvas(pixels, source.captioner.preprocessing) for pixels in pictures]
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


GROWS_ONLY = {"blip-2-t5", "instructblip-t5", "florence2"}


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_the_same_from_a_cache_of_fixed_size(
    exports: Exports, pictures: list[Any], beams: int
) -> None:
    fixed_bundle = exports.fixed()
    if fixed_bundle is None:
        assert exports.model.name.rstrip("0") in GROWS_ONLY
        return
    assert fixed_bundle.manifest.captioner.cache == "fixed"
    runtimes = []
    for bundle in (exports.bundle(""), fixed_bundle):
        generation = replace(bundle.manifest.generation, beams=beams)
        manifest = replace(bundle.manifest, generation=generation)
        runtimes.append(OnnxCaptioner(replace(bundle, manifest=manifest), "cpu"))
    for pixels in pictures[:8]:
        canvas = to_canvas(pixels, fixed_bundle.manifest.preprocessing)
        grown, fixed = (runtime.generate(runtime.encode(canvas)).tokens for runtime in runtimes)
        assert grown == fixed or is_tied(runtimes[0], canvas, grown, fixed)


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_through_engines_are_the_cpus(
    exports: Exports, pictures: list[Any], fake_gpu: Any, beams: int
) -> None:
    bundle = exports.fixed()
    if bundle is None or bundle.manifest.preprocessing.tiling is not None:
        return
    generation = replace(bundle.manifest.generation, beams=beams)
    bundle = replace(bundle, manifest=replace(bundle.manifest, generation=generation))
    cpu = OnnxCaptioner(bundle, "cpu")
    engines = OnnxCaptioner(bundle, "tensorrt", strict=True)
    assert len(fake_gpu.built) == len(bundle.manifest.captioner.components)
    for pixels in pictures[:4]:
        canvas = to_canvas(pixels, bundle.manifest.preprocessing)
        expected, found = (runtime.generate(runtime.encode(canvas)) for runtime in (cpu, engines))
        assert found.tokens == expected.tokens
    assert fake_gpu.cuda.calls["cudaGraphLaunch"] > LONGEST


def test_all_shapes_that_an_engine_is_fed_are_in_its_profile(
    exports: Exports, pictures: list[Any], watch: Callable[[Any], dict[str, Any]]
) -> None:
    bundle = exports.fixed()
    if bundle is None:
        return
    generation = replace(bundle.manifest.generation, beams=3)
    bundle = replace(bundle, manifest=replace(bundle.manifest, generation=generation))
    if bundle.manifest.preprocessing.tiling is not None:
        with pytest.raises(BundleError, match="pictures of any size"):
            profiled_graph(bundle, "decoder")
        return
    runtime = OnnxCaptioner(bundle, "cpu")
    watched = watch(runtime)
    assert watched.keys() == bundle.manifest.captioner.components.keys()
    encoded = runtime.encode(to_canvas(pictures[0], bundle.manifest.preprocessing))
    runtime.generate(encoded)
    runtime.log_probability(encoded, " ".join(["w3"] * LONGEST))
    for role, graph in watched.items():
        assert graph.fed
        for shape in profiled_graph(bundle, role).shapes:
            for fed in graph.fed:
                lengths = zip(shape.least, fed[shape.name], shape.most, strict=True)
                assert all(low <= length <= high for low, length, high in lengths), (role, fed)


@pytest.mark.parametrize("layout", [Layout(32, 32), Layout(64, 96, 2, 3, 7)])
def test_tiles_stand_among_the_words_that_transformers_has_for_them(
    saved: Callable[[str], Path], layout: Layout
) -> None:
    source = open_source(saved("smolvlm"))
    words = AutoTokenizer.from_pretrained(saved("smolvlm"))
    theirs = get_image_prompt_string(
        layout.rows, layout.columns, 4, "<fake_token_around_image>", "<image>", "<global-img>"
    )
    otherwise = f"<|im_start|>User:{theirs}w1 w2<end_of_utterance>\nAssistant:"
    ids = source.family.prompt(source.captioner.model, words, "w1 w2")
    spec = source.family.prompted(source.captioner.model, ids, {})
    ours = whole_ids(spec, layout, 4 * layout.seen, words.convert_tokens_to_ids("<image>"))
    assert ours[0].tolist() == words(otherwise).input_ids


@pytest.mark.parametrize("name", ["llava-onevision", "smolvlm"])
def test_a_bound_on_pixels_is_the_models_too(
    name: str, saved: Callable[[str], Path], pictures: list[Any], tmp_path: Path
) -> None:
    bundle = bundle_of(saved(name), pictures, tmp_path, "")
    tile = bundle.manifest.preprocessing.width
    source = open_source(saved(name), beams=1, max_new_tokens=LONGEST, max_pixels=2 * tile**2)
    spec = source.captioner.preprocessing
    assert spec != bundle.manifest.preprocessing
    manifest = replace(bundle.manifest, preprocessing=spec)
    runtime = OnnxCaptioner(replace(bundle, manifest=manifest), "cpu")
    canvases = [to_canvas(pixels, spec) for pixels in pictures[:8]]
    made = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
    assert made == transformers_tokens(source, source.generation, canvases)


def test_a_captioner_of_one_size_takes_no_bound(saved: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="leave --max-pixels out"):
        open_source(saved("git"), max_pixels=1000)


def test_a_captioner_of_any_resolution_takes_no_policy(
    saved: Callable[[str], Path], pictures: list[Any], tmp_path: Path
) -> None:
    bundle = bundle_of(saved("smolvlm"), pictures, tmp_path, "")
    assert bundle.manifest.observation is None
    with pytest.raises(UsageError, match="without --policy"):
        _check_match(cast("Any", None), open_source(saved("smolvlm")), None)


def test_pytorchs_model_is_gone_when_the_graphs_are_opened(
    saved: Callable[[str], Path],
    pictures: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two copies of the weights of a large model are more than a machine may hold."""
    models: list[Any] = []
    alive: list[bool] = []

    def opened(*words: Any, **more: Any) -> Any:
        source = open_source(*words, **more)
        models.append(weakref.ref(source.captioner.model))
        return source

    def measured(*words: Any) -> dict[str, Any]:
        alive.append(models[0]() is not None)
        return measure_parity(*words)

    monkeypatch.setattr(bundle_export, "open_source", opened)
    monkeypatch.setattr(bundle_export, "measure_parity", measured)
    bundle_of(saved("git"), pictures, tmp_path, "")
    assert alive == [False]


def test_views_of_a_tiled_picture_are_captioned_as_one(
    saved: Callable[[str], Path], pictures: list[Any], tmp_path: Path
) -> None:
    bundle = bundle_of(saved("llava-onevision"), pictures, tmp_path, "")
    runtime = OnnxCaptioner(bundle, "cpu")
    canvas = to_canvas(pictures[0], bundle.manifest.preprocessing)
    alone = runtime.generate(runtime.encode(canvas))
    twice = runtime.encode_views(np.stack([canvas, canvas]))
    assert twice.rows == 2
    assert runtime.generate(twice).tokens == alone.tokens
    assert runtime.caption_batch(np.stack([canvas, canvas])) == [alone.text] * 2


def test_tensorrt_parses_every_graph_of_a_family(exports: Exports) -> None:
    bundle = exports.bundle("")
    graphs = sorted(bundle.directory.glob("*.onnx"))
    assert [finding for path in graphs for finding in check_for_tensorrt(path)] == []
    assert [path.stem for path in graphs if empty_past(path)] == ["decoder_model"]
    if (fixed := exports.fixed()) is not None:
        decoder = fixed.path(fixed.manifest.captioner.components["decoder"])
        assert check_for_tensorrt(decoder) == []
        assert empty_past(decoder) is None


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
    assert observation is not None
    assert (observation.rows, observation.columns, observation.channels) == (4, 4, 24)
    runtime = OnnxCaptioner(bundle, "cpu")
    for canvas, features in zip(canvases, seen, strict=True):
        np.testing.assert_allclose(runtime.encode(canvas).features[0], features, atol=1e-4)
