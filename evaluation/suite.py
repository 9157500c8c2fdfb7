"""``srd-edge evaluate``: attacks times contestants times seeds over a data set, into a report.

The report is a directory: results.json and results.csv (the same from one run to the next),
timing.json (never the same), report.html, and ``work``, the answers given so far, from which a run
that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

import srd_edge
from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.poisoning import counted
from srd_edge.attacks.progress import bar
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.evaluation.contestants import BlackBox, Setting
from srd_edge.evaluation.judging import UNDEFENDED, Fidelity, judge_contestants, judge_victim
from srd_edge.evaluation.page import Strip
from srd_edge.evaluation.plan import (
    EvaluateConfig,
    attack_keys,
    bundles_and_attacks,
    header,
)
from srd_edge.evaluation.registry import Entry, missing, resolve
from srd_edge.evaluation.strips import keep_images, make_strips
from srd_edge.evaluation.timing import SCHEMA, measure_times
from srd_edge.evaluation.trials import Trial
from srd_edge.runtime.bundle import MANIFEST_FILE, Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.training.caption_metrics import CaptionScorer
from srd_edge.training.datasets import open_dataset
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.language_store import open_language_models

WORK: Final = "work"
_DEV_PICTURES: Final = 200


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that an evaluation found.

    Args:
        results: results.json: the same whenever it is run again.
        timing: timing.json.
        strips: pictures for the page.
    """

    results: dict[str, Any]
    timing: dict[str, Any]
    strips: list[Strip]


def evaluate(config: EvaluateConfig) -> Evaluated:
    """Measure; docs/measuring.md explains every figure.

    Raises:
        UsageError: for contestants, attacks or a data set that cannot be meant.
        BundleError: for a bundle that is refused.
    """
    torch.set_num_threads(1)  # PyTorch's contestants must not take the others' cores
    entries = resolve(config.contestants)
    pairs = bundles_and_attacks(config)
    samples = open_dataset(config.data, config.split, config.limit)
    for _, attack in pairs:
        counted(samples, attack)  # found out before an hour of captioning, not after
    keys = attack_keys([attack for _, attack in pairs])
    parts, times, strips = [], {}, []
    with CaptionScorer([sample.captions for sample in samples]) as scorer, bar() as progress:
        common = _Common.prepare(config, entries, samples, scorer)
        trials = [common.trial(bundle, attack) for bundle, attack in pairs]
        task = progress.add_task(
            "evaluating", total=sum(trial.rounds + config.timed for trial, _ in trials)
        )

        def advance() -> None:
            progress.advance(task)

        for key, (bundle, attack), (trial, skipped) in zip(keys, pairs, trials, strict=True):
            progress.update(task, description=f"evaluating {key}")
            outcomes = trial.run(advance)
            judged = judge_contestants(trial, entries, outcomes, common.scorer, common.fidelity)
            undefended = next(row for row in judged if row["name"] == UNDEFENDED)
            number = len(counted(samples, attack))
            parts.append(
                {
                    "key": key,
                    "bundle": bundle.directory.name,
                    "spec": attack.spec,
                    "trigger": attack.name,
                    "payload": attack.payload.kind,
                    "target": attack.payload.target,
                    "counted": number,
                    "victim": judge_victim(undefended, number, common.twin, attack.payload.kind),
                    "contestants": judged,
                    "skipped": skipped,
                }
            )
            strips += make_strips(key, trial, outcomes)
            if config.images:
                keep_images(config.output / "images" / key, trial, outcomes)
            if config.timed:
                times[key] = measure_times(trial, config.timed, advance)
    return Evaluated(
        results={**header(config, samples), "attacks": parts},
        timing={"schema": SCHEMA, "pictures": config.timed, "attacks": times},
        strips=strips,
    )


@dataclass(frozen=True, slots=True)
class _Common:
    """What all trials of an evaluation share."""

    config: EvaluateConfig
    entries: dict[str, Entry]
    samples: Sequence[Sample]
    dev: Sequence[Sample]
    scorer: CaptionScorer
    language: tuple[Any, Any] | None
    fidelity: Fidelity | None
    reference: Captioner | None
    twin: float | None

    @classmethod
    def prepare(
        cls,
        config: EvaluateConfig,
        entries: dict[str, Entry],
        samples: Sequence[Sample],
        scorer: CaptionScorer,
    ) -> _Common:
        referenced = config.clean_captioner is not None
        taking_part = [e for e in entries.values() if referenced or "reference" not in e.needs]
        needs = {need for entry in taking_part for need in entry.needs}
        language, fidelity = None, None
        if config.fidelity or "language" in needs:
            language = open_language_models(
                [sample.captions for sample in open_dataset(config.data, "train")],
                sentence_encoder=config.sentence_encoder,
                language_model=config.language_model,
            )
        if config.fidelity and language is not None:
            score = SemanticFidelity(*language)
            references = score.references([sample.captions for sample in samples])
            fidelity = lambda captions: float(score.score(captions, references).mean())  # noqa: E731
        reference, twin = None, None
        if config.clean_captioner is not None:
            reference = load_captioner(config.clean_captioner)
            canvases = reference.canvases(sample.load() for sample in samples)
            twin = scorer.score(reference.caption(canvases))["cider_d"]
        needs_dev = any(entry.kind in ("control", "rival") for entry in entries.values())
        dev = open_dataset(config.data, "dev", _DEV_PICTURES) if needs_dev else ()
        return cls(config, entries, samples, dev, scorer, language, fidelity, reference, twin)

    def trial(self, bundle: Bundle, attack: Attack) -> tuple[Trial, list[dict[str, str]]]:
        """The trial of an attack, and the contestants that cannot take part with the reason."""
        captioner = OnnxCaptioner(bundle)
        sentences, model = self.language or (None, None)
        setting = Setting(
            bundle=bundle,
            captioner=BlackBox(captioner.caption_batch, bundle.manifest.preprocessing),
            dev=self.dev,
            attack=attack,
            language=model,
            sentences=sentences,
            reference=None if self.reference is None else self.reference.caption,
        )
        reasons = {name: missing(entry, setting) for name, entry in self.entries.items()}
        taking_part = {n: e for n, e in self.entries.items() if reasons[n] is None}
        skipped = [{"name": name, "why": why} for name, why in reasons.items() if why is not None]
        identity = self._identity(bundle)
        trial = Trial(
            setting,
            taking_part,
            self.samples,
            range(self.config.seeds),
            self.config.output / WORK / bundle.directory.name,
            identity,
        )
        return trial, skipped

    def _identity(self, bundle: Bundle) -> str:
        """Of all that answers depend on but the attack, the contestant and the seed."""
        digest = hashlib.sha256((bundle.directory / MANIFEST_FILE).read_bytes())
        config = self.config
        names = [sample.name for sample in (*self.samples, *self.dev)]
        models = [config.sentence_encoder, config.language_model]
        reference = self.reference and self.reference.fingerprint()
        text = json.dumps([srd_edge.__version__, config.data, names, models, reference])
        digest.update(text.encode())
        return digest.hexdigest()
