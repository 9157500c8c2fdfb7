"""Does the bundle say what PyTorch says? Logits at two past lengths, captions token for token."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from srd_edge.attacks.captioner import Captioner
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import CrossAttentionCaptioner
from srd_edge.runtime.sessions import open_session
from srd_edge.training.checkpoints import PolicyCheckpoint

PAST_LENGTHS: Final = (1, 7)
"""Both differ from the length that the graph was traced with."""


LOGIT_TOLERANCE: Final = 1e-3
"""Largest difference between PyTorch's and onnxruntime's fp32 logits that rounding explains."""


def measure_parity(
    bundle: Bundle,
    captioner: Captioner,
    policy: PolicyCheckpoint | None,
    canvases: NDArray[np.uint8],
) -> dict[str, Any]:
    """Compare ``bundle`` on the CPU with the models that it was exported from.

    Args:
        canvases: (B, H, W, 3) uint8 RGB, not used for calibration.

    Returns:
        ``logits_max_abs_difference`` by past length, ``captions``, ``captions_equal`` and
        ``tokens_equal`` as shares, and ``q_values_max_abs_difference``.
    """
    runtime = CrossAttentionCaptioner(bundle, "cpu")
    truth = _generate(captioner, canvases)
    made = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
    equal = [t == m for t, m in zip(truth, made, strict=True)]
    tokens = [
        sum(a == b for a, b in zip(t, m, strict=False)) / max(len(t), len(m), 1)
        for t, m in zip(truth, made, strict=True)
    ]
    report: dict[str, Any] = {
        "captions": len(truth),
        "captions_equal": float(np.mean(equal)),
        "tokens_equal": float(np.mean(tokens)),
        "logits_max_abs_difference": _logit_differences(bundle, captioner, canvases, truth),
    }
    if policy is not None:
        report["q_values_max_abs_difference"] = _q_difference(bundle, captioner, policy, canvases)
    return report


@torch.inference_mode()
def _generate(captioner: Captioner, canvases: NDArray[np.uint8]) -> list[list[int]]:
    model = captioner.model
    tokens = model.generate(captioner.pixel_values(canvases), do_sample=False, num_beams=1)
    end = model.generation_config.eos_token_id
    rows: list[list[int]] = tokens[:, 1:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


@torch.inference_mode()
def _logit_differences(
    bundle: Bundle,
    captioner: Captioner,
    canvases: NDArray[np.uint8],
    captions: list[list[int]],
) -> dict[str, float]:
    """The decoder graph fed with PyTorch's own caches, so that errors do not add up."""
    model, spec = captioner.model, bundle.manifest.captioner
    graph = open_session(bundle.path(spec.components["decoder"]), "cpu").session
    hidden = model.encoder(captioner.pixel_values(canvases[:1])).last_hidden_state
    hidden = getattr(model, "enc_to_dec_proj", torch.nn.Identity())(hidden)
    start = model.generation_config.decoder_start_token_id
    longest = max(PAST_LENGTHS) + 1
    # Over and over: a caption may be short, even empty.
    ids = torch.tensor([([start, *captions[0]] * longest)[:longest]])
    differences = {}
    for past in PAST_LENGTHS:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        settings = {"encoder_hidden_states": hidden, "past_key_values": cache, "use_cache": True}
        model.decoder(input_ids=ids[:, :past], **settings)
        feed = {"input_ids": ids[:, past : past + 1].numpy()}
        own, cross = _flat(cache.self_attention_cache), _flat(cache.cross_attention_cache)
        feed |= dict(zip(spec.kv_names("past_key_values", "decoder"), own, strict=True))
        feed |= dict(zip(spec.kv_names("past_key_values", "encoder"), cross, strict=True))
        logits = graph.run(["logits"], feed)[0]
        truth = model.decoder(input_ids=ids[:, past : past + 1], **settings).logits.numpy()
        differences[str(past)] = float(np.abs(logits - truth).max())
    return differences


def _flat(cache: Any) -> list[NDArray[np.float32]]:
    return [t.numpy() for layer in cache.layers for t in (layer.keys, layer.values)]


@torch.inference_mode()
def _q_difference(
    bundle: Bundle,
    captioner: Captioner,
    policy: PolicyCheckpoint,
    canvases: NDArray[np.uint8],
) -> float:
    assert bundle.manifest.policy is not None
    graph = open_session(bundle.path(bundle.manifest.policy.file), "cpu").session
    hidden = captioner.model.encoder(captioner.pixel_values(canvases)).last_hidden_state
    coverage = torch.zeros(len(canvases), policy.network.table.rows, policy.network.table.columns)
    truth = policy.network(hidden, coverage).numpy()
    feed = {"encoder_hidden_states": hidden.numpy(), "coverage": coverage.numpy()}
    return float(np.abs(graph.run(["q_values"], feed)[0] - truth).max())


def check_fp32(report: dict[str, Any]) -> list[str]:
    """What an fp32 export must not show; empty when it is sound."""
    problems = []
    for past, difference in report["logits_max_abs_difference"].items():
        if difference > LOGIT_TOLERANCE:
            problems.append(f"logits differ by {difference:.2g} at past length {past}")
    if report["captions_equal"] < 1:
        problems.append(f"only {report['captions_equal']:.0%} of the captions are the same")
    return problems
