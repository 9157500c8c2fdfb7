"""Generation settings as transformers writes them, and what they come to in the runtime.

Needs neither PyTorch nor transformers: the settings are a plain mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.runtime.generation_specs import EarlyStopping, GenerationDefaults

_NEW_TOKENS: Final = 20
"""Longest caption of a model that names none, as in transformers."""
_STOPPING: Final[dict[Any, EarlyStopping]] = {
    None: "heuristic",
    False: "heuristic",
    True: "first",
    "never": "never",
}
_UNKNOWN: Final = {
    "bad_words_ids": None,
    "num_beam_groups": 1,
    "constraints": None,
    "force_words_ids": None,
    "sequence_bias": None,
    "begin_suppress_tokens": None,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "diversity_penalty": 0.0,
    "renormalize_logits": False,
}
"""Settings of transformers that change what is said and that no runtime of ours knows, with the
values that change nothing."""
_SET_BY_DEFAULT: Final[dict[str, Any]] = {
    "max_length": 20,
    "min_length": 0,
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
"""What an old config.json has of a setting that nobody chose."""


def generation_defaults(
    settings: Mapping[str, Any],
    prompt: tuple[int, ...],
    end_tokens: tuple[int, ...],
    *,
    around: int = 0,
    beams: int | None = None,
    max_new_tokens: int | None = None,
) -> GenerationDefaults:
    """What transformers' ``settings`` come to in the runtime.

    Args:
        settings: of a generation_config.json; what is not there is not set.
        prompt: ids that the decoder is given first.
        end_tokens: ids that end a caption.
        around: how many ids of a prefix stand around the picture.
        beams, max_new_tokens: in place of the settings'.

    Raises:
        UsageError: a setting that changes captions and that the runtime does not know.
    """
    for name, neutral in _UNKNOWN.items():
        value = settings.get(name)
        if value not in (None, neutral, []):
            raise UsageError(
                expected=f"a generation setting {name} of {neutral}",
                found=repr(value),
                do="change it in the model's generation_config.json",
            )
    given = around + len(prompt)
    longest = max_new_tokens or settings.get("max_new_tokens")
    if longest is None:
        length = settings.get("max_length")
        longest = length - given if length else _NEW_TOKENS
    shortest = settings.get("min_new_tokens")
    if shortest is None:
        shortest = max((settings.get("min_length") or 0) - given, 0)
    return GenerationDefaults(
        prompt=prompt,
        end_tokens=end_tokens,
        max_new_tokens=max(longest, 1),
        beams=beams or settings.get("num_beams") or 1,
        length_penalty=_or(settings.get("length_penalty"), 1.0),
        early_stopping=_STOPPING[settings.get("early_stopping")],
        min_new_tokens=shortest,
        repetition_penalty=_or(settings.get("repetition_penalty"), 1.0),
        no_repeat_ngram=settings.get("no_repeat_ngram_size") or 0,
        suppress=tuple(settings.get("suppress_tokens") or ()),
        first_token=settings.get("forced_bos_token_id"),
        last_token=settings.get("forced_eos_token_id"),
    )


def settings_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The generation settings of a config.json that has no generation_config.json beside it.

    Its own come first, its decoder's where its own are those of nobody's choice, as in
    transformers' ``GenerationConfig.from_model_config``.
    """
    inner = (config.get(name) for name in ("decoder", "text_config"))
    settings = dict(next((one for one in inner if isinstance(one, Mapping)), {}))
    for name, value in config.items():
        chosen = value is not None and value != _SET_BY_DEFAULT.get(name)
        if chosen or settings.get(name) is None:
            settings[name] = value
    return settings


def token_ids(ids: int | list[int]) -> tuple[int, ...]:
    """One id or several, as transformers' settings have them."""
    return (ids,) if isinstance(ids, int) else tuple(ids)


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
