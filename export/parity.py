"""Does the bundle say what PyTorch says? Graphs at two past lengths, captions token for token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import normalise_caption
from srd_edge.export.component import Component
from srd_edge.export.source import Source
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import to_tensor
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.sessions import open_session
from srd_edge.training.caption_metrics import cider_d
from srd_edge.training.checkpoints import PolicyCheckpoint

PAST_LENGTHS: Final = (1, 7)
"""Both differ from the lengths that the graphs were traced with."""
LOGIT_TOLERANCE: Final = 1e-3
"""Largest difference between PyTorch's and onnxruntime's fp32 logits that rounding explains."""
_BATCH: Final = 8


def measure_parity(
    bundle: Bundle,
    source: Source,
    components: Mapping[str, Component],
    policy: PolicyCheckpoint | None,
    canvases: Sequence[Pixels],
    references: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Compare ``bundle`` on the CPU with the models that it was exported from.

    Args:
        bundle: as it is to be written.
        source: what transformers' ``generate`` is asked.
        components: the modules behind the graphs.
        policy: the Q-network behind its graph.
        canvases: (H, W, 3) uint8 RGB each, not used for calibration.
        references: true captions of each.

    Returns:
        ``logits_max_abs_difference`` by past length, ``captions``, ``captions_equal``,
        ``captions_tied`` (see ``is_tied``) and ``tokens_equal`` as shares, ``cider_d`` and
        ``cider_d_pytorch`` of the bundle's and of PyTorch's fp32 captions by the true ones, and
        ``q_values_max_abs_difference``.
    """
    runtime = OnnxCaptioner(bundle, "cpu")
    truth = transformers_tokens(source, source.generation, canvases)
    generated = [
        runtime.generate(runtime.encode(canvas)) for canvas in tracked(canvases, "captioning")
    ]
    made = [list(caption.tokens) for caption in generated]
    equal = [t == m for t, m in zip(truth, made, strict=True)]
    tied = [
        is_tied(runtime, canvas, m, t)
        for canvas, m, t in zip(canvases, made, truth, strict=True)
        if m != t
    ]
    tokens = [
        sum(a == b for a, b in zip(t, m, strict=False)) / max(len(t), len(m), 1)
        for t, m in zip(truth, made, strict=True)
    ]
    decoder = bundle.path(bundle.manifest.captioner.components["decoder"])
    graph = open_session(decoder, "cpu").session
    report: dict[str, Any] = {
        "captions": len(truth),
        "captions_equal": float(np.mean(equal)),
        "captions_tied": sum(tied) / len(truth),
        "tokens_equal": float(np.mean(tokens)),
        "cider_d": _cider_d([caption.text for caption in generated], references),
        "cider_d_pytorch": _cider_d(source.captioner.decode(truth), references),
        "logits_max_abs_difference": {
            str(past): logit_difference(graph, components["decoder"], past) for past in PAST_LENGTHS
        },
    }
    if policy is not None:
        report["q_values_max_abs_difference"] = _q_difference(bundle, policy, runtime, canvases)
    return report


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


@torch.inference_mode()
def transformers_tokens(
    source: Source, defaults: GenerationDefaults, canvases: Sequence[Pixels]
) -> list[list[int]]:
    """The captions' ids by transformers' own ``generate``, without the end token.

    Args:
        source: the captioner.
        defaults: how many beams and tokens; everything else is the model's own setting.
        canvases: (H, W, 3) uint8 RGB each.
    """
    captioner = source.captioner
    spec = captioner.preprocessing
    # Canvases of all sizes go one by one: what is seen of each is a batch already.
    at_once = _BATCH if spec.tiling is None else 1
    settings = {
        "do_sample": False,
        "num_beams": defaults.beams,
        "max_new_tokens": defaults.max_new_tokens,
    }
    rows: list[list[int]] = []
    for first in tracked(range(0, len(canvases), at_once), "captioning with PyTorch"):
        batch = canvases[first : first + at_once]
        seen = torch.from_numpy(to_tensor(np.concatenate([spec.cut(c) for c in batch]), spec))
        layout = spec.layout(batch[0])
        made = source.family.generate(captioner.model, seen, layout, source.prompt, settings)
        rows += [_ended(row, defaults.end_tokens) for row in made]
    return rows


def _ended(row: list[int], end_tokens: tuple[int, ...]) -> list[int]:
    end = next((at for at, token in enumerate(row) if token in end_tokens), len(row))
    return row[:end]


@torch.inference_mode()
def logit_difference(graph: Any, component: Component, past: int) -> float:
    """The largest difference of a decoder graph's logits from its module's, on made-up inputs.

    Args:
        graph: an onnxruntime session.
        component: the decoder.
        past: length of the cache.
    """
    generator = torch.Generator().manual_seed(past)
    sizes = {"past": past, "sequence": 1, "kept": 1, "batch": 1}
    inputs: dict[str, torch.Tensor] = {}
    for name, example in component.inputs.items():
        shape = list(example.shape)
        for axis, label in component.dynamic.get(name, {}).items():
            shape[axis] = sizes.get(label, shape[axis])
        if example.is_floating_point():
            inputs[name] = torch.randn(shape, generator=generator)
        else:
            inputs[name] = torch.zeros(shape, dtype=example.dtype)
    truth = component.module(*inputs.values())[0].numpy()
    logits = graph.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    return float(np.abs(logits - truth).max())


@torch.inference_mode()
def _q_difference(
    bundle: Bundle,
    policy: PolicyCheckpoint,
    runtime: OnnxCaptioner,
    canvases: Sequence[Pixels],
) -> float:
    assert bundle.manifest.policy is not None
    graph = open_session(bundle.path(bundle.manifest.policy.file), "cpu").session
    features = np.concatenate([runtime.encode(canvas).features for canvas in canvases])
    coverage = torch.zeros(len(canvases), policy.network.table.rows, policy.network.table.columns)
    truth = policy.network(torch.from_numpy(features), coverage).numpy()
    feed = {"encoder_hidden_states": features, "coverage": coverage.numpy()}
    return float(np.abs(graph.run(["q_values"], feed)[0] - truth).max())


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
