"""The rules are transformers' own logits processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.token_rules import TokenRules

WORDS, LONGEST = 7, 6
RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "repetition": {"repetition_penalty": 1.7},
    "n-grams": {"no_repeat_ngram": 2},
    "single words": {"no_repeat_ngram": 1},
    "minimum": {"min_new_tokens": 3, "end_tokens": (2, 4)},
    "suppressed": {"suppress": (1, 5)},
    "first": {"first_token": 3},
    "last": {"last_token": 4},
    "all": {
        "repetition_penalty": 0.6,
        "no_repeat_ngram": 3,
        "min_new_tokens": 2,
        "suppress": (6,),
        "first_token": 2,
        "last_token": 2,
    },
}


def theirs(settings: GenerationDefaults) -> LogitsProcessorList:
    given, ends = len(settings.prompt), list(settings.end_tokens)
    chosen: list[Any] = []
    if settings.repetition_penalty != 1:
        chosen.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        chosen.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))
    if settings.min_new_tokens:
        chosen.append(MinNewTokensLengthLogitsProcessor(given, settings.min_new_tokens, ends))
    if settings.first_token is not None:
        chosen.append(ForcedBOSTokenLogitsProcessor(settings.first_token))
    if settings.last_token is not None:
        longest = given + settings.max_new_tokens
        chosen.append(ForcedEOSTokenLogitsProcessor(longest, settings.last_token))
    if settings.suppress:
        chosen.append(SuppressTokensLogitsProcessor(list(settings.suppress)))
    return LogitsProcessorList(chosen)


@pytest.mark.parametrize("said", range(LONGEST))
@pytest.mark.parametrize("name", RULES)
def test_scores_are_changed_as_transformers_changes_them(name: str, said: int) -> None:
    defaults: dict[str, Any] = {"prompt": (1,), "end_tokens": (2,), "max_new_tokens": LONGEST}
    settings = GenerationDefaults(**defaults | RULES[name])
    rules = TokenRules(settings, settings.prompt)
    rng = np.random.default_rng(said)
    for _ in range(20):
        rows = rng.integers(0, WORDS, (4, said)).tolist()
        scores = rng.normal(size=(4, WORDS)).astype(np.float32)
        before = scores.copy()
        ids = torch.tensor([[*settings.prompt, *row] for row in rows])
        expected = theirs(settings)(ids, torch.from_numpy(before.copy())).numpy()
        np.testing.assert_array_equal(rules(scores, rows), expected)
        np.testing.assert_array_equal(scores, before)


def test_without_rules_nothing_is_copied() -> None:
    rules = TokenRules(GenerationDefaults(prompt=(1,), end_tokens=(2,), max_new_tokens=3), (1,))
    scores = np.zeros((2, WORDS), np.float32)
    assert rules(scores, [[], []]) is scores
