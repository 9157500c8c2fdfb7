"""``srd-edge export`` of a captioner that is ONNX already: its directory becomes a bundle.

Files are copied, not converted; only nodes out of order are put in order. There is nothing to
compare with: the manifest says that parity was not measured. The graphs are held to what
`srd-edge verify` allows, and have to caption a picture, before anything is put in place.

Needs onnx and onnxruntime, and neither PyTorch nor transformers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

import srd_edge
from srd_edge.errors import BundleError, UsageError
from srd_edge.export.decoder_graphs import read_cache, read_positions
from srd_edge.export.hub_encoder import read_observation
from srd_edge.export.hub_layout import HubLayout, find_graphs, read_graph
from srd_edge.export.hub_prompts import read_prompt
from srd_edge.export.hub_settings import (
    family_of,
    kinds_of,
    processor_settings,
    read_generation,
    read_json,
    tokenizer_file,
)
from srd_edge.export.inspection import verify_bundle
from srd_edge.export.node_order import sort_nodes
from srd_edge.export.processor_defaults import read_preprocessing
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.bundle import Bundle, write_bundle
from srd_edge.runtime.bundle_specs import TOKENIZER_FILE, CaptionerSpec
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.tokenizer import CaptionTokenizer

_VERSIONS_OF: Final = ("onnx", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class OnnxDirectoryConfig:
    """What is made into a bundle.

    Args:
        captioner: the directory.
        output: the bundle's directory.
        precision: fp32, fp16, int8 or int4; there have to be graphs of it.
        overwrite: whether a bundle that is already there is replaced.
        prompt: words that the caption goes on from, or the question to a model.
        beams, max_new_tokens: None for the captioner's own generation settings.
        max_pixels: of a canvas that follows the picture; None for the captioner's own bound.
    """

    captioner: Path
    output: Path
    precision: str = "fp32"
    overwrite: bool = False
    prompt: str = ""
    beams: int | None = None
    max_new_tokens: int | None = None
    max_pixels: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"captioner": str(self.captioner), "output": self.output.name}


def bundle_directory(config: OnnxDirectoryConfig, report: Callable[[str], None] = print) -> Bundle:
    """Check, copy and write the bundle; a failure leaves nothing.

    Args:
        config: what to make into a bundle.
        report: told one line a component.

    Raises:
        UsageError: whatever of the directory cannot be used, in one line.
        BundleError: graphs that onnxruntime does not run.
    """
    if config.output.exists() and not config.overwrite:
        raise UsageError(
            expected="a bundle's directory that does not exist yet",
            found=str(config.output),
            do="choose another with -o, or add --overwrite",
        )
    directory = config.captioner
    described = read_json(directory, "config.json")
    family = family_of(described)
    layout = find_graphs(directory, config.precision, kinds_of(family))
    tokenizer = tokenizer_file(directory)
    preprocessing = read_preprocessing(processor_settings(directory))
    if config.max_pixels is not None:
        preprocessing = preprocessing.bounded(config.max_pixels)
    words = CaptionTokenizer(tokenizer)
    prompt = read_prompt(directory, described, family, words, config.prompt)
    generation = read_generation(
        directory,
        described,
        prompt,
        beams=config.beams,
        max_new_tokens=config.max_new_tokens,
    )
    graphs = {name: read_graph(path) for name, path in layout.graphs.items()}
    cache = read_cache(layout.decoding, graphs)
    positions = read_positions(graphs["decoder"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = _copied(layout, work)
        for name, path in layout.graphs.items():
            report(f"{name}: {path.name}, {_size_mb(path, files):.2f} MB")
        manifest = Manifest(
            captioner=CaptionerSpec(
                family=family,
                decoding=layout.decoding,
                components={name: path.name for name, path in layout.graphs.items()},
                layers=cache.layers,
                heads=cache.heads,
                head_dim=cache.head_dim,
                before=prompt.before,
                after=prompt.after,
                tiles=prompt.tiles,
                positions=positions,
            ),
            preprocessing=preprocessing,
            generation=generation,
            actions=DEFAULT_TABLE,
            observation=read_observation(
                work / layout.graphs["encoder"].name, preprocessing, layout.decoding
            ),
            policy=None,
            precision=config.precision,
            opset=max(_opset(model) for model in graphs.values()),
            provenance={
                "srd_edge": srd_edge.__version__,
                "versions": {name: version(name) for name in _VERSIONS_OF},
                "export": config.to_json(),
                "layout": layout.name,
                "producers": sorted({_producer(model) for model in graphs.values()}),
                "parity": "not measured: these graphs were exported elsewhere",
            },
        )
        files[TOKENIZER_FILE] = tokenizer
        _try(write_bundle(work / "trial", manifest, files))
        return write_bundle(config.output, manifest, files, overwrite=config.overwrite)


def _copied(layout: HubLayout, work: Path) -> dict[str, bytes | Path]:
    """The files in ``work``, checked there: the hub's cache has links, which onnx refuses."""
    files: dict[str, bytes | Path] = {}
    for name, path in layout.files().items():
        files[name] = Path(shutil.copyfile(path, work / name))
    for path in layout.graphs.values():
        _write_in_order(work / path.name)
        try:
            onnx.checker.check_model(work / path.name)
        except Exception as error:  # its own, and protobuf's
            raise UsageError(
                expected=f"{path.name} to be a valid ONNX graph",
                found=" ".join(str(error).split())[:200],
                do="fetch it again, or export the captioner again",
            ) from error
    return files


def _write_in_order(path: Path) -> None:
    """What onnxruntime's converter to half precision makes is out of order."""
    model = read_graph(path)
    ordered = onnx.ModelProto()
    ordered.CopyFrom(model)
    try:
        sort_nodes(ordered.graph)
    except ValueError as error:
        raise UsageError(
            expected=f"{path.name} to be a valid ONNX graph", found=str(error), do="fetch it again"
        ) from error
    if ordered != model:
        onnx.save(ordered, path)


def _try(trial: Bundle) -> None:
    """Refuse what `srd-edge verify` would, and what does not caption a grey picture."""
    findings = verify_bundle(trial)
    if findings:
        raise UsageError(
            expected="graphs of known operators without a hidden branch",
            found=f"{len(findings)} findings, {findings[0].what} in {findings[0].graph}",
            do="do not use this export; export the captioner from its PyTorch weights",
        )
    look = trial.manifest.preprocessing
    try:
        captioner = OnnxCaptioner(trial, "cpu")
        grey = to_canvas(np.full((look.height, look.width, 3), 128, np.uint8), look)
        captioner.generate(captioner.encode(grey))
    except BundleError:
        raise
    except Exception as error:  # onnxruntime's own errors have no base but Exception
        raise UsageError(
            expected="an encoder and a decoder that fit together",
            found=" ".join(str(error).split())[:300],
            do="export the captioner from its PyTorch weights",
        ) from error


def _size_mb(path: Path, files: Mapping[str, bytes | Path]) -> float:
    """Of a graph with the weights beside it."""
    own = [file for name, file in files.items() if name.startswith(path.name)]
    return sum(file.stat().st_size for file in own if isinstance(file, Path)) / 1e6


def _opset(model: onnx.ModelProto) -> int:
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=1)


def _producer(model: onnx.ModelProto) -> str:
    return f"{model.producer_name} {model.producer_version}".strip()
