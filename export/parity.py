"""Does the bundle say what PyTorch says? Graphs at two past lengths, captions token for token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import normalise_caption
from srd_edge.export.component import Component
from srd_edge.export.families.cache import PAST_LENGTH
from srd_edge.export.source import Source
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import to_tensor
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.graphs import host_value, open_graph
from srd_edge.runtime.resident_cache import LOGITS
from srd_edge.training.caption_metrics import cider_d
from srd_edge.training.checkpoints import PolicyCheckpoint

PAST_LENGTHS: Final = (1, 7)
"""Both differ from the lengths that the graphs were traced with."""
LOGIT_TOLERANCE: Final = 1e-3
"""Largest difference between PyTorch's and onnxruntime's fp32 logits that rounding explains."""
_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Truth:
    """What PyTorch says, kept so that its model need not be.

    Args:
        tokens: ids of each picture's caption, without the end token.
        texts: the captions.
        probes: by past length, made-up inputs of the decoder and the logits it gives.
    """

    tokens: list[list[int]]
    texts: list[str]
    probes: dict[int, tuple[dict[str, NDArray[Any]], NDArray[np.float32]]]


def ask_pytorch(
    source: Source, components: Mapping[str, Component], canvases: Sequence[Pixels]
) -> Truth:
    """What the bundle is to say.

    Args:
        source: what transformers' ``generate`` is asked.
        components: the modules behind the graphs.
        canvases: (H, W, 3) uint8 RGB each, not used for calibration.
    """
    tokens = transformers_tokens(source, source.generation, canvases)
    probes = {past: _probe(components["decoder"], past) for past in PAST_LENGTHS}
    return Truth(tokens, source.captioner.decode(tokens), probes)


def measure_parity(
    bundle: Bundle,
    truth: Truth,
    policy: PolicyCheckpoint | None,
    canvases: Sequence[Pixels],
    references: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Compare ``bundle`` on the CPU with the models that it was exported from.

    Args:
        bundle: as it is to be written.
        truth: what ``ask_pytorch`` gave for ``canvases``.
        policy: the Q-network behind its graph.
        canvases: (H, W, 3) uint8 RGB each.
        references: true captions of each.

    Returns:
        ``logits_max_abs_difference`` by past length, ``captions``, ``captions_equal``,
        ``captions_tied`` (see ``is_tied``) and ``tokens_equal`` as shares, ``cider_d`` and
        ``cider_d_pytorch`` of the bundle's and of PyTorch's fp32 captions by the true ones, and
        ``q_values_max_abs_difference``.
    """
    differences = _logit_differences(bundle, truth)
    runtime = OnnxCaptioner(bundle, "cpu")
    generated = [
        runtime.generate(runtime.encode(canvas)) for canvas in tracked(canvases, "captioning")
    ]
    pairs = [(t, list(m.tokens)) for t, m in zip(truth.tokens, generated, strict=True)]
    tied = [
        is_tied(runtime, canvas, m, t)
        for canvas, (t, m) in zip(canvases, pairs, strict=True)
        if m != t
    ]
    tokens = [
        sum(a == b for a, b in zip(t, m, strict=False)) / max(len(t), len(m), 1) for t, m in pairs
    ]
    report: dict[str, Any] = {
        "captions": len(pairs),
        "captions_equal": float(np.mean([t == m for t, m in pairs])),
        "captions_tied": sum(tied) / len(pairs),
        "tokens_equal": float(np.mean(tokens)),
        "cider_d": _cider_d([caption.text for caption in generated], references),
        "cider_d_pytorch": _cider_d(truth.texts, references),
        "logits_max_abs_difference": differences,
    }
    if policy is not None:
        report["q_values_max_abs_difference"] = _q_difference(bundle, policy, runtime, canvases)
    return report


def _logit_differences(bundle: Bundle, truth: Truth) -> dict[str, float]:
    """By past length, the largest difference of the decoder graph's logits from PyTorch's."""
    graph = open_graph(bundle, "decoder", "cpu", strict=True)
    differences = {}
    for past, (feed, logits) in truth.probes.items():
        typed = {n: host_value(array.astype(graph.types[n])) for n, array in feed.items()}
        (found,) = graph.run([LOGITS], typed)
        differences[str(past)] = float(np.abs(found.numpy() - logits).max())
    return differences


def _cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    said = [normalise_caption(caption) for caption in captions]
    return cider_d(said, [[normalise_caption(text) for text in group] for group in references])


def is_tied(
    runtime: OnnxCaptioner, canvas: Pixels, made: Sequence[int], truth: Sequence[int]
) -> bool:
    """Whether rounding explains that two captions of a picture differ.

    Where they part, both tokens are as likely as each other but for ``LOGIT_TOLERANCE``. For a beam
    search that is a sufficient reason and not the only one.
    """
    common = next(
        (at for at, (m, t) in enumerate(zip(made, truth, strict=False)) if m != t),
        min(len(made), len(truth)),
    )
    ends = runtime.end_tokens[:1]
    logits = runtime.next_logits(runtime.encode(canvas), made[:common])
    one, other = (logits[(*row, *ends)[common]] for row in (made, truth))
    return bool(abs(one - other) <= LOGIT_TOLERANCE)


def transformers_tokens(
    source: Source, defaults: GenerationDefaults, canvases: Sequence[Pixels]
) -> list[list[int]]:
    """The captions' ids by transformers' own ``generate``, without the end token.

    Args:
        source: the captioner.
        defaults: how many beams and tokens; everything else is the model's own setting.
        canvases: (H, W, 3) uint8 RGB each.
    """
    # Canvases of all sizes go one by one: what is seen of each is a batch already.
    at_once = _BATCH if source.captioner.preprocessing.tiling is None else 1
    rows: list[list[int]] = []
    for first in tracked(range(0, len(canvases), at_once), "captioning with PyTorch"):
        rows += transformers_batch(source, defaults, canvases[first : first + at_once])
    return rows


@torch.inference_mode()
def transformers_batch(
    source: Source, defaults: GenerationDefaults, canvases: Sequence[Pixels]
) -> list[list[int]]:
    """As ``transformers_tokens``, in one call and without a bar; one canvas if they are tiled."""
    captioner = source.captioner
    spec = captioner.preprocessing
    settings = {
        "do_sample": False,
        "num_beams": defaults.beams,
        "max_new_tokens": defaults.max_new_tokens,
    }
    seen = torch.from_numpy(to_tensor(np.concatenate([spec.cut(c) for c in canvases]), spec))
    layout = spec.layout(canvases[0])
    made = source.family.generate(captioner.model, seen, layout, source.prompt, settings)
    return [_ended(row, defaults.end_tokens) for row in made]


def _ended(row: list[int], end_tokens: tuple[int, ...]) -> list[int]:
    end = next((at for at, token in enumerate(row) if token in end_tokens), len(row))
    return row[:end]


@torch.inference_mode()
def _probe(component: Component, past: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
    """Made-up inputs of a decoder with ``past`` positions in its cache, and its logits."""
    generator = torch.Generator().manual_seed(past)
    sizes = {"past": past, "sequence": 1, "kept": 1, "batch": 1}
    inputs: dict[str, torch.Tensor] = {}
    for name, example in component.inputs.items():
        shape = list(example.shape)
        for axis, label in component.dynamic.get(name, {}).items():
            shape[axis] = sizes.get(label, shape[axis])
        if name == PAST_LENGTH:
            inputs[name] = torch.tensor([past])
        elif example.is_floating_point():
            inputs[name] = torch.randn(shape, generator=generator)
        else:
            inputs[name] = torch.zeros(shape, dtype=example.dtype)
    logits = component.module(*inputs.values())[0].numpy()
    return {name: tensor.numpy() for name, tensor in inputs.items()}, logits


@torch.inference_mode()
def _q_difference(
    bundle: Bundle,
    policy: PolicyCheckpoint,
    runtime: OnnxCaptioner,
    canvases: Sequence[Pixels],
) -> float:
    graph = open_graph(bundle, "policy", "cpu", strict=True)
    features = np.concatenate([runtime.encode(canvas).features for canvas in canvases])
    coverage = torch.zeros(len(canvases), policy.network.table.rows, policy.network.table.columns)
    truth = policy.network(torch.from_numpy(features), coverage).numpy()
    feed = {"encoder_hidden_states": features, "coverage": coverage.numpy()}
    (found,) = graph.run(["q_values"], {name: host_value(array) for name, array in feed.items()})
    return float(np.abs(found.numpy() - truth).max())


def check_fp32(report: dict[str, Any]) -> list[str]:
    """What an fp32 export must not show; empty when it is sound."""
    problems = []
    for past, difference in report["logits_max_abs_difference"].items():
        if difference > LOGIT_TOLERANCE:
            problems.append(f"logits differ by {difference:.2g} at past length {past}")
    same = report["captions_equal"] + report["captions_tied"]
    if round(same * report["captions"]) < report["captions"]:
        problems.append(f"only {same:.0%} of the captions are the same")
    return problems
