from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srd_edge import cli
from srd_edge.runtime.graphs import Graph, Value
from tests.broker import Broker
from tests.command_line import Outcome

ROOT = Path(__file__).resolve().parents[1]


class WatchedGraph:
    """A graph that notes the shapes that it is fed."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.fed = graph, list[dict[str, tuple[int, ...]]]()
        self.provider, self.fallback = graph.provider, graph.fallback
        self.types, self.widths = graph.types, graph.widths
        self.room, self.bring = graph.room, graph.bring

    def run(self, outputs: Sequence[str], feed: Mapping[str, Value]) -> list[Value]:
        self._note(feed)
        return self.graph.run(outputs, feed)

    def bind(
        self, feed: Mapping[str, Value], into: Mapping[str, Value], *, again: bool
    ) -> Callable[[], None]:
        self._note(feed)
        return self.graph.bind(feed, into, again=again)

    def _note(self, feed: Mapping[str, Value]) -> None:
        self.fed.append({name: tuple(value.shape()) for name, value in feed.items()})


def _watch(captioner: Any) -> dict[str, WatchedGraph]:
    decoder = captioner._decoder
    seen = {"encoder": WatchedGraph(captioner._encoder), "decoder": WatchedGraph(decoder.graph)}
    captioner._encoder, decoder.graph = seen["encoder"], seen["decoder"]
    if hasattr(decoder, "_embedder"):
        seen["embed_tokens"] = decoder._embedder = WatchedGraph(decoder._embedder)
    return seen


@pytest.fixture(scope="session")
def watched_graph() -> type[WatchedGraph]:
    """Makes a graph that notes what it is fed."""
    return WatchedGraph


@pytest.fixture(scope="session")
def watch() -> Callable[[Any], dict[str, WatchedGraph]]:
    """Watches the graphs of an ``OnnxCaptioner`` from now on; they are there by component."""
    return _watch


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """TensorRT 11 and cuda-bindings on a GPU that is the host; ``cuda`` of it is the latter."""
    from tests.fake_cuda import FakeCuda
    from tests.fake_tensorrt import FakeTensorRt

    cuda = FakeCuda()
    tensorrt = FakeTensorRt(cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path / "cache"))
    return tensorrt


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own: they neither find nor leave anything in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRD_EDGE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the optional development data (flickr8k, videos, weights).

    It is ``data`` in the folder that SRD_EDGE_SHARED names, by default ``shared`` beside the
    checkout. Tests that need it are skipped where there is none.
    """
    folder = Path(os.environ.get("SRD_EDGE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data: no folder {folder} (set SRD_EDGE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def toy_captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a very small captioner: random weights that prefer the captions' words."""
    import torch

    from srd_edge.attacks.tiny import TinyConfig, build_tiny
    from srd_edge.training.datasets import open_dataset

    size = TinyConfig(
        image_size=32,
        width=16,
        decoder_width=16,
        decoder_layers=2,
        decoder_heads=2,
        vocabulary=300,
        max_tokens=12,
    )
    words = [caption for s in open_dataset("scenes", "train", 50) for caption in s.captions]
    captioner = build_tiny(size, words, seed=0)
    with torch.no_grad():
        for name, weights in captioner.model.named_parameters():
            if weights.ndim > 1:
                # Larger than at initialisation, so that the picture matters.
                wider = 4.0 if "crossattention" in name or ".wpe." in name else 1.5
                weights.normal_(std=wider / max(weights[0].numel(), 16) ** 0.5)
        # Merged tokens before single bytes: words that a person can read.
        tokens = captioner.model.decoder.transformer.wte.weight
        tokens.normal_()
        tokens[3:259] *= 0.1
    folder = tmp_path_factory.mktemp("toy") / "captioner"
    captioner.save(folder)
    return folder


@pytest.fixture(scope="session")
def toy_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random policy for ``toy_captioner`` that stops at some pictures."""
    import torch

    from srd_edge.kernels.actions import DEFAULT_TABLE
    from srd_edge.training.checkpoints import PolicyCheckpoint
    from srd_edge.training.qnetwork import QNetwork, QNetworkConfig

    torch.manual_seed(1)
    network = QNetwork(QNetworkConfig(rows=2, columns=2, channels=16, hidden=8), DEFAULT_TABLE)
    assert network.regional.bias is not None
    with torch.no_grad():
        network.regional.weight.normal_(std=1.0)
        network.regional.bias.fill_(-0.65)  # about half the scenes are left as they are
    folder = tmp_path_factory.mktemp("toy") / "policy"
    PolicyCheckpoint(network, max_steps=2, temperature=0.5, provenance={}).save(folder)
    return folder


@pytest.fixture(scope="session")
def toy_bundle(
    toy_captioner: Path, toy_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The fp32 bundle of ``toy_captioner`` and ``toy_policy``; copy it before changing it."""
    from srd_edge.export.bundle_export import ExportConfig, export_bundle
    from srd_edge.training.datasets import open_dataset

    folder = tmp_path_factory.mktemp("toy") / "bundle"
    config = ExportConfig(str(toy_captioner), folder, toy_policy)
    export_bundle(config, open_dataset("scenes", "dev", 96), lambda _: None)
    return folder


@pytest.fixture(scope="session")
def checked_bundle(
    toy_captioner: Path, toy_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """``toy_bundle`` with a check: a language model, and a reference captioner that differs."""
    import torch

    from srd_edge.attacks.captioner import load_captioner
    from srd_edge.export.bundle_export import ExportConfig, export_bundle
    from srd_edge.training.check_models import CheckModels
    from srd_edge.training.checkpoints import load_policy
    from srd_edge.training.datasets import open_dataset
    from srd_edge.training.language import fit_language_model

    folder = tmp_path_factory.mktemp("checked")
    words = [caption for s in open_dataset("scenes", "train", 50) for caption in s.captions]
    language = fit_language_model(words, folder / "language", steps=5)
    reference = load_captioner(toy_captioner)
    torch.manual_seed(2)
    with torch.no_grad():
        reference.model.decoder.lm_head.weight.add_(
            0.2 * torch.randn_like(reference.model.decoder.lm_head.weight)
        )
    policy = replace(load_policy(toy_policy), check=CheckModels(language, reference))
    policy.save(folder / "policy")
    config = ExportConfig(str(toy_captioner), folder / "bundle", folder / "policy")
    export_bundle(config, open_dataset("scenes", "dev", 96), lambda _: None)
    return folder / "bundle"


@pytest.fixture(scope="session")
def fixed_bundle(
    checked_bundle: Path, toy_captioner: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """``checked_bundle``, but for the decoders: their caches have a fixed size, as for engines."""
    from srd_edge.training.check_models import reference_folder
    from srd_edge.training.checkpoints import CHECK_FOLDER

    folder = tmp_path_factory.mktemp("fixed")
    reference = reference_folder(checked_bundle.parent / "policy" / CHECK_FOLDER)
    assert reference is not None
    own = _with_fixed_cache(checked_bundle / "reference", reference, folder / "reference", {})
    files = {f"reference/{path.name}": path for path in own.iterdir()}
    return _with_fixed_cache(checked_bundle, toy_captioner, folder / "bundle", files)


def _with_fixed_cache(
    bundle: Path, captioner: Path, target: Path, more: Mapping[str, Path]
) -> Path:
    """A bundle of ``captioner`` with another decoder, and ``more`` of its files replaced."""
    from srd_edge.export.families.cache import with_fixed_cache
    from srd_edge.export.graphs import export_graph
    from srd_edge.export.packing import pack
    from srd_edge.export.source import open_source
    from srd_edge.runtime.bundle import read_bundle, write_bundle

    grown = read_bundle(bundle)
    decoder = with_fixed_cache(open_source(str(captioner)).components()["decoder"])
    assert decoder is not None
    graph = target.with_name(f"{target.name}_decoder") / "decoder_model.onnx"
    graph.parent.mkdir()
    export_graph(decoder, graph)
    pack([graph], graph.with_name("unused"))
    files: dict[str, bytes | Path] = {e.path: grown.path(e.path) for e in grown.manifest.files}
    policy = grown.manifest.policy
    manifest = replace(
        grown.manifest,
        files=(),
        captioner=replace(grown.manifest.captioner, cache="fixed"),
        policy=policy and replace(policy, pairing=""),
    )
    write_bundle(target, manifest, {**files, graph.name: graph, **more})
    return target


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    program = shutil.which("mosquitto") or shutil.which(
        "mosquitto", path="/usr/sbin:/usr/local/sbin"
    )
    if program is None:
        pytest.skip("no mosquitto on this machine to publish to")
    made = Broker(program, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def srd_edge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command in this process."""

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["srd-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return call
