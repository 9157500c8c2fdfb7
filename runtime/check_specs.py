"""The manifest's part on the check of captions: models that share no backdoor, and limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from srd_edge.kernels.views import VIEWS
from srd_edge.runtime.json_fields import JsonFields

REFERENCE_FOLDER: Final = "reference"
"""Where the reference captioner lies in a bundle: a bundle of its own, without a policy."""

FROM_MEDIAN_TO_LIMIT: Final = 2.0
"""Scales between the median clean score and the limit; see ``export/limits.py``."""


@dataclass(frozen=True, slots=True)
class LanguageSpec:
    """A causal language model over captions.

    Args:
        file: its graph, input_ids (1, T) int64 -> log_probabilities (1, T - 1) float32 in nats, of
            every token after the first.
        tokenizer: its own tokenizer.json.
        start_token, end_token: ids before and after a caption.
        max_tokens: longest row of ids.
    """

    file: str
    tokenizer: str
    start_token: int
    end_token: int
    max_tokens: int

    @classmethod
    def from_json(cls, data: object) -> LanguageSpec:
        fields = JsonFields(data, "check.language")
        spec = cls(
            file=fields.text("file"),
            tokenizer=fields.text("tokenizer"),
            start_token=fields.integer("start_token", low=0),
            end_token=fields.integer("end_token", low=0),
            max_tokens=fields.integer("max_tokens", low=2, high=4096),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True)
class Limit:
    """What a score may be, found on clean pictures.

    Args:
        value: the most that passes.
        scale: of the score, for saying how far beyond it is; above 0.
    """

    value: float
    scale: float

    def excess(self, score: float) -> float:
        """How many scales ``score`` lies above the limit; negative below it."""
        return (score - self.value) / self.scale

    @classmethod
    def from_json(cls, data: object, where: str) -> Limit:
        fields = JsonFields(data, where)
        limit = cls(fields.number("value"), fields.positive("scale"))
        fields.end()
        return limit


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """How captions are checked; `runtime/second_opinion.py` explains the scores.

    Args:
        language: the language model.
        confidence: nats a token; what is above is examined.
        information: nats; likewise.
        evidence: nats; what is above is refused. Not used without a reference captioner.
        confidence_weight: what a nat a token of confidence counts in the evidence, in nats.
        reference: whether the bundle holds a reference captioner.
        views: whether that captions by several views of a picture; see ``kernels/views.py``.
        peer: whether it knows pictures of this kind no less well than the suspect; then captions
            of perturbed pictures are all examined, and have to be as good as the median clean one.
        retries: most perturbations that are tried after a refusal, before the reference answers.
    """

    language: LanguageSpec
    confidence: Limit
    information: Limit
    evidence: Limit
    confidence_weight: float
    reference: bool
    views: bool
    peer: bool
    retries: int

    @property
    def answer_passes(self) -> int:
        """Encodings that an answer of the reference captioner takes."""
        return VIEWS if self.views else 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> CheckSpec:
        fields = JsonFields(data, "check")
        spec = cls(
            language=LanguageSpec.from_json(fields.take("language")),
            confidence=Limit.from_json(fields.take("confidence"), "check.confidence"),
            information=Limit.from_json(fields.take("information"), "check.information"),
            evidence=Limit.from_json(fields.take("evidence"), "check.evidence"),
            confidence_weight=fields.number("confidence_weight", low=0),
            reference=fields.boolean("reference"),
            views=fields.boolean("views"),
            peer=fields.boolean("peer"),
            retries=fields.integer("retries", low=0, high=64),
        )
        fields.end()
        return spec
