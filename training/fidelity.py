"""The semantic fidelity score (SFS): does a caption say what the picture shows, in sound language?

    SFS = w * consistency + (1 - w) * fluency,   both in 0..1

* consistency: cosine of the sentence embeddings of caption and reference, the mean over several
  references, negative values counted as 0;
* fluency: min(1, PPL(references) / PPL(caption)), perplexities as geometric means over tokens.

After SRD (arXiv 2506.04743), which rewards semantic consistency and fluency jointly. Here the two
are one bounded, deterministic number, padding is masked, and an empty caption scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from srd_edge.training.language import LanguageModel, SentenceEncoder


@dataclass(frozen=True, slots=True)
class Reference:
    """What a picture's captions are held against, embedded once.

    Args:
        vectors: (R, D) float32 unit vectors of the reference captions.
        log_perplexity: mean over the references, nats a token; empty captions left out.
    """

    vectors: torch.Tensor
    log_perplexity: float


@dataclass(frozen=True, slots=True)
class SemanticFidelity:
    """Scores captions against references.

    Args:
        sentences: embeds captions.
        language: gives perplexities.
        weight: share of consistency in the score, 0..1.
    """

    sentences: SentenceEncoder
    language: LanguageModel
    weight: float = 0.5

    def reference(self, captions: Sequence[str]) -> Reference:
        """Embed the reference captions of one picture."""
        return self.references([captions])[0]

    def references(self, captions: Sequence[Sequence[str]]) -> list[Reference]:
        """Embed the reference captions of several pictures at once."""
        flat = [caption for group in captions for caption in group]
        vectors = self.sentences.embed(flat)
        perplexities = self.language.log_perplexity(flat)
        references, start = [], 0
        for group in captions:
            spoken = [start + i for i, caption in enumerate(group) if caption.strip()]
            # Without a single word to be held against, nothing is fluent.
            expected = float(perplexities[spoken].mean()) if spoken else -torch.inf
            references.append(Reference(vectors[spoken or slice(start, start + 1)], expected))
            start += len(group)
        return references

    def score(self, captions: Sequence[str], references: Sequence[Reference]) -> torch.Tensor:
        """(B,) float32 SFS in 0..1 of one caption for each reference."""
        consistency, fluency = self.parts(captions, references)
        return self.weight * consistency + (1 - self.weight) * fluency

    def parts(
        self, captions: Sequence[str], references: Sequence[Reference]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Consistency and fluency apart, each (B,) float32 in 0..1."""
        vectors = self.sentences.embed(captions)
        consistency = torch.stack(
            [
                (reference.vectors @ vector).clamp(0, 1).mean()
                for vector, reference in zip(vectors, references, strict=True)
            ]
        )
        expected = torch.tensor([reference.log_perplexity for reference in references])
        log_perplexity = self.language.log_perplexity(captions)
        fluency = torch.exp(-(log_perplexity - expected).clamp(min=0))
        return consistency, fluency.masked_fill(log_perplexity.isinf(), 0.0)  # inf - inf is nan
