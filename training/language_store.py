"""The two language models, loaded by name or fitted once on a data set's captions and kept.

What is fitted is kept under $SRD_EDGE_CACHE, by default ~/.cache/srd-edge, by what it was fitted
on, so that training and evaluation on the same captions share it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.training.language import (
    LanguageModel,
    SentenceEncoder,
    fit_language_model,
    fit_sentence_encoder,
    load_language_model,
    load_sentence_encoder,
)

_T = TypeVar("_T")
_RECIPE: Final = 1
"""Of the fitting: another number when it changes, so that what was kept is fitted anew."""


def open_language_models(
    groups: Sequence[Sequence[str]],
    *,
    sentence_encoder: str | None = None,
    language_model: str | None = None,
    seed: int = 0,
) -> tuple[SentenceEncoder, LanguageModel]:
    """A sentence encoder and a language model.

    Args:
        groups: the captions of each picture, for models that are fitted here.
        sentence_encoder, language_model: names or directories; None fits a small one.
        seed: of what is fitted.
    """
    flat = [caption for group in groups for caption in group]
    learned_from = hashlib.sha256(json.dumps([_RECIPE, groups, seed]).encode()).hexdigest()[:12]
    folder = cache_folder() / "language" / learned_from
    if sentence_encoder is not None:
        encoder = load_sentence_encoder(sentence_encoder)
    else:
        encoder = _kept(
            folder / "sentences",
            load_sentence_encoder,
            lambda to: fit_sentence_encoder(groups, to, seed=seed),
        )
    if language_model is not None:
        return encoder, load_language_model(language_model)
    model = _kept(
        folder / "causal",
        load_language_model,
        lambda to: fit_language_model(flat, to, seed=seed),
    )
    return encoder, model


def _kept(place: Path, load: Callable[[Path], _T], fit: Callable[[Path], _T]) -> _T:
    """Load what was fitted before, or fit it and keep it, whole or not at all.

    What was fitted is read back, so that the first run and the later ones use the same.
    """
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=place.parent) as folder:
            unfinished = Path(folder) / place.name
            fit(unfinished)
            try:
                unfinished.rename(place)
            except OSError:  # another process was faster
                if not place.is_dir():
                    raise
    return load(place)
