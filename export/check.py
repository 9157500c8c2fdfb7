"""The check of captions as a part of a bundle: the language model, and what the manifest says."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.runtime.check_specs import CheckSpec, LanguageSpec, Limit
from srd_edge.runtime.language import LANGUAGE_OUTPUT
from srd_edge.training.language import LanguageModel

LANGUAGE_STEM: Final = "language_model"
LANGUAGE_TOKENIZER: Final = "language_tokenizer.json"
RETRIES: Final = 1
_NO_LIMIT: Final = Limit(0.0, 1.0)


class _LogProbabilities(nn.Module):
    """(B, T) ids -> (B, T - 1) log-probabilities of all but the first, in nats."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=input_ids, use_cache=False).logits[:, :-1]
        values: torch.Tensor = logits.log_softmax(dim=2).gather(2, input_ids[:, 1:, None])[..., 0]
        return values


def language_component(language: LanguageModel) -> Component:
    """``language``, ready to be exported."""
    return Component(
        LANGUAGE_STEM,
        _LogProbabilities(language.model).eval(),
        {"input_ids": torch.ones(2, 5, dtype=torch.int64)},
        (LANGUAGE_OUTPUT,),
        {"input_ids": {0: "batch", 1: "tokens"}},
    )


def language_tokenizer(language: LanguageModel) -> bytes:
    """The tokenizer.json of ``language``.

    Raises:
        UsageError: for a tokenizer that has none.
    """
    fast = getattr(language.tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise UsageError(
            expected="a language model with a fast tokenizer",
            found=type(language.tokenizer).__name__,
            do="choose another with `srd-edge train --language-model`",
        )
    return bytes(fast.to_str().encode())


def check_spec(language: LanguageModel, file: str, *, reference: bool) -> CheckSpec:
    """A check whose limits are yet to be found; see `export/limits.py`."""
    tokenizer, config = language.tokenizer, language.model.config
    spec = LanguageSpec(
        file=file,
        tokenizer=LANGUAGE_TOKENIZER,
        start_token=tokenizer.bos_token_id,
        end_token=tokenizer.eos_token_id,
        max_tokens=config.max_position_embeddings,
    )
    return CheckSpec(
        language=spec,
        confidence=_NO_LIMIT,
        information=_NO_LIMIT,
        evidence=_NO_LIMIT,
        confidence_weight=0.0,
        reference=reference,
        views=False,
        peer=False,
        retries=RETRIES,
    )
