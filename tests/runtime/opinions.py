"""A second opinion of one frame, as tests ask for it, at limits of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from srd_edge.kernels.frames import Frame
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.budget import FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.records import Opinion
from srd_edge.runtime.second_opinion import FrameOpinion, SecondOpinion

EVERYTHING, NOTHING = Limit(-1e4, 1.0), Limit(1e4, 1.0)  # is above it
FRAME = Frame(np.random.default_rng(5).integers(0, 256, (40, 60, 3), np.uint8))


def said_of(bundle: Bundle, frame: Frame = FRAME, end_token: int | None = None) -> Generated:
    """The suspect's caption; another end token makes it end before it is at its longest."""
    settings = bundle.manifest.generation
    settings = replace(settings, end_tokens=(end_token or settings.end_tokens[0],))
    captioner = OnnxCaptioner(
        replace(bundle, manifest=replace(bundle.manifest, generation=settings)), "cpu"
    )
    return captioner.generate(
        captioner.encode(to_canvas(frame.pixels, bundle.manifest.preprocessing))
    )


def opinion_of(
    bundle: Bundle,
    timer: FrameTimer | None = None,
    /,
    frame: Frame = FRAME,
    *,
    perturbed: bool = False,
    **changes: Any,
) -> FrameOpinion:
    assert bundle.manifest.check is not None
    spec = replace(bundle.manifest.check, **changes)
    bundle = replace(bundle, manifest=replace(bundle.manifest, check=spec))
    timer = timer or FrameTimer(LatencyBudget(), StageCosts())
    return SecondOpinion(bundle, spec, "cpu", strict=True).at(frame, timer, perturbed=perturbed)


def judged(here: FrameOpinion, said: Generated) -> Opinion:
    opinion = here.judge(said)
    assert opinion is not None
    return opinion
