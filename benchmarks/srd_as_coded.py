"""What SRD costs as its code was published, and what ours costs, picture by picture.

    python benchmarks/srd_as_coded.py [--pictures 100] [--captioner DIR --bundle DIR]

`srd` is the published loop (see `evaluation/srd_as_coded.py`) on the captioner in PyTorch, eager:
it captions the picture, asks its Q-network, paints a square and captions the picture again, five
times, then rewards the five captions. In its favour the reference caption is given, and the two
models of the reward have two layers where the published ones are GPT-2 and a sentence encoder of
its size (they are fitted for a few steps: what they cost does not depend on what they know).
`srd_onnx` is the same loop on the captioner of the bundle in ONNX Runtime, so that what the runtime
saves and what the method saves can be told apart. `ours` is `Defender.caption` with that bundle.

`--captioner` is what the bundle was made of; for the built-in one its weights are read back from
its graphs (`built_in_twin.py`). How often both say the same is in the report. Every contestant
captions a picture before the next one is shown, each goes first in turn, every second picture is
triggered, and all have one core: PyTorch's threads wait for one another where a machine is busy,
and SRD would be charged for that. One JSON document is written to
benchmarks/results/srd_as_coded.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import click
import cv2
import numpy as np
import torch
from built_in_twin import twin

from srd_edge.attacks.poisoning import triggered
from srd_edge.attacks.specs import parse_attack
from srd_edge.evaluation.eager import EagerCaptioner
from srd_edge.evaluation.srd_as_coded import (
    EPSILON,
    OBSERVATION_PX,
    TRIES,
    SrdScores,
    nature_cnn,
)
from srd_edge.kernels.actions import SRD_TABLE, apply_action
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_canvas
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.records import Result
from srd_edge.runtime.terminal import progress_bar
from srd_edge.training.datasets import open_dataset
from srd_edge.training.language import fit_language_model, fit_sentence_encoder

RESULTS: Final = Path(__file__).parent / "results" / "srd_as_coded.json"
WARM_UP: Final = 4
RANKS: Final = (5, 50, 95, 99)
FITTED_ON: Final = 500
STEPS: Final = 2
PACKAGES: Final = ("onnxruntime", "torch", "transformers")


@dataclass
class AsCoded:
    """The published loop over a captioner."""

    caption: Callable[[Frame], Result]
    preprocessing: Preprocessing
    scores: SrdScores
    network: torch.nn.Module = field(default_factory=lambda: nature_cnn(0))
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def answer(self, frame: Frame, reference: str) -> str:
        canvas = to_canvas(frame.pixels, self.preprocessing)
        raw = self._said(canvas)
        captions = []
        for _ in range(TRIES):
            painted = canvas.copy()
            apply_action(painted, SRD_TABLE, self._choose(canvas), self.rng)
            captions.append(self._said(painted))
        rewards = self.scores.rewards(raw, reference, captions)
        return captions[rewards.index(max(rewards))]

    def _said(self, canvas: Pixels) -> str:
        return self.caption(Frame(canvas)).caption or ""

    @torch.inference_mode()
    def _choose(self, canvas: Pixels) -> int:
        if self.rng.random() < EPSILON:
            return int(self.rng.integers(len(SRD_TABLE)))
        size = (OBSERVATION_PX, OBSERVATION_PX)
        seen = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255
        return int(self.network(pixels)[0].argmax())


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{rank}": round(float(np.percentile(values, rank)), 3) for rank in RANKS}


def ratios(times_ms: dict[str, list[float]], over: str) -> dict[str, Any]:
    """Of each contestant's time for a picture to that of ``over`` for the same picture."""
    base = np.array(times_ms[over])
    return {
        name: percentiles((np.array(ms) / base).tolist())
        for name, ms in times_ms.items()
        if name != over
    }


def reward_models() -> SrdScores:
    """The two models of the reward, small and hardly fitted."""
    groups = [sample.captions for sample in open_dataset("scenes", "train", FITTED_ON)]
    with tempfile.TemporaryDirectory() as folder:
        sentences = fit_sentence_encoder(groups, Path(folder, "sentences"), steps=STEPS)
        flat = [caption for group in groups for caption in group]
        return SrdScores(sentences, fit_language_model(flat, Path(folder, "causal"), steps=STEPS))


@click.command()
@click.option("--captioner", help="What the bundle was made of.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
@click.option("--pictures", "count", default=100)
@click.option("--attack", default="badnet:target=banana")
def main(captioner: str | None, bundle: Path | None, count: int, attack: str) -> None:
    """Time SRD as coded beside ours."""
    if (captioner is None) != (bundle is None):
        raise click.UsageError("--captioner and --bundle go together")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        eager = EagerCaptioner(captioner or str(twin(Path(folder, "twin"))), bundle)
    defender = Defender.load(bundle, provider="cpu")
    undefended = Defender.load(bundle, provider="cpu", defend=False)
    preprocessing, scores = defender.bundle.manifest.preprocessing, reward_models()
    srd = AsCoded(eager.caption, preprocessing, scores)
    srd_onnx = AsCoded(undefended.caption, preprocessing, scores)
    contestants: dict[str, Callable[[Frame, str], object]] = {
        "ours": lambda frame, _: defender.caption(frame),
        "undefended": lambda frame, _: undefended.caption(frame),
        "pytorch": lambda frame, _: eager.caption(frame),
        "srd_onnx": srd_onnx.answer,
        "srd": srd.answer,
    }
    names = tuple(contestants)
    samples = open_dataset("scenes", "test", count + WARM_UP)
    recipe = parse_attack(attack)
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    agreed = 0
    with progress_bar(len(samples), "pictures") as progress:
        for number, sample in enumerate(samples):
            shown = sample if number % 2 == 0 else triggered(sample, recipe, (0, number))
            frame, first = Frame(shown.load(), number), number % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                contestants[name](frame, sample.captions[0])
                if number >= WARM_UP:
                    times_ms[name].append((time.perf_counter() - start) * 1e3)
            agreed += eager.caption(frame).caption == undefended.caption(frame).caption
            progress(number + 1)
    report = {
        "bundle": "built-in" if bundle is None else str(bundle),
        "captioner": captioner or "the built-in bundle's, in PyTorch",
        "attack": attack,
        "pictures": count,
        "captions_agree": round(agreed / len(samples), 4),
        "ms": {name: percentiles(ms) for name, ms in times_ms.items()},
        "over_ours": ratios(times_ms, "ours"),
        "all_over_ours": {
            name: round(sum(ms) / sum(times_ms["ours"]), 3) for name, ms in times_ms.items()
        },
    } | provenance(["benchmarks/srd_as_coded.py", *sys.argv[1:]], PACKAGES)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["over_ours"]))


if __name__ == "__main__":
    main()
