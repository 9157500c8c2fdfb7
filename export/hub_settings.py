"""What the json files beside an ONNX export say: architecture, tokenizer, generation.

Needs neither PyTorch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from srd_edge.errors import BundleError, UsageError
from srd_edge.export.generation import generation_defaults, settings_of_config, token_ids
from srd_edge.export.hub_layout import contained
from srd_edge.export.nearest import nearest_family
from srd_edge.export.prompts import Prompt
from srd_edge.runtime.bundle_specs import TOKENIZER_FILE, Decoding
from srd_edge.runtime.generation_specs import GenerationDefaults

_SEES_HIDDEN_STATES: Final = "vision-encoder-decoder"
FAMILIES: Final[Mapping[str, str]] = {
    _SEES_HIDDEN_STATES: _SEES_HIDDEN_STATES,
    "llava": "llava",
    "paligemma": "paligemma",
    "idefics3": "smolvlm",
    "smolvlm": "smolvlm",
    "qwen2_vl": "qwen-vl",
    "qwen2_5_vl": "qwen-vl",
}
"""By model type as config.json has it, the family of what such a directory may hold."""
_PROCESSOR: Final = "processor_config.json"
_LACKING: Final[Mapping[str, str]] = {
    "llava_onevision": "whose graphs lack the feature that ends a line of tiles",
    "florence2": "whose text encoder is a graph of its own",
    "qwen3_vl": "whose decoder takes features of several layers of the encoder",
}
"""By model type, why graphs of it cannot be used as they are."""


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """The object in the file ``name``.

    Raises:
        UsageError: no such file, or something else in it.
    """
    path = directory / name
    if not path.is_file():
        raise UsageError(
            expected=f"a {name} in {directory}",
            found="none",
            do="copy it from the captioner that was exported",
        )
    try:
        read = json.loads(contained(directory, path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            expected=f"{name} to be JSON", found=str(error)[:120], do="fetch it again"
        ) from error
    if not isinstance(read, dict):
        raise UsageError(
            expected=f"an object in {name}", found=type(read).__name__, do="fetch it again"
        )
    return read


def family_of(described: Mapping[str, Any]) -> str:
    """The family that a config.json says its captioner is of.

    Raises:
        UsageError: none of ``FAMILIES``; the nearest is named.
    """
    kind = str(described.get("model_type"))
    if kind in FAMILIES:
        return FAMILIES[kind]
    lacking, nearest = _LACKING.get(kind), nearest_family(kind)
    if nearest not in FAMILIES.values():
        nearest = "llava" if nearest == "llava-onevision" else None
    hint = f", or choose another ({nearest} is the nearest)" if nearest else ""
    raise UsageError(
        expected=f"an ONNX export of a captioner of type {', '.join(FAMILIES)}",
        found=f"model_type {kind[:80]!r} in its config.json" + (f", {lacking}" if lacking else ""),
        do=f"export the captioner from its PyTorch weights{hint}; docs/families.md names the"
        " families",
    )


def kinds_of(family: str) -> tuple[Decoding, ...]:
    """The kinds of decoder that a family's graphs may have, the better first."""
    return ("merged", "with-past") if family == _SEES_HIDDEN_STATES else ("merged-prefix",)


def processor_settings(directory: Path) -> dict[str, Any]:
    """The image processor's settings: of a file of its own, or of the processor's."""
    name = "preprocessor_config.json"
    if (directory / name).is_file() or not (directory / _PROCESSOR).is_file():
        return read_json(directory, name)
    inner = read_json(directory, _PROCESSOR).get("image_processor")
    if not isinstance(inner, dict):
        raise UsageError(
            expected=f"a {name}, or image_processor in {_PROCESSOR}",
            found="neither",
            do="copy it from the captioner that was exported",
        )
    return inner


def tokenizer_file(directory: Path) -> Path:
    """Where the tokenizer really lies."""
    if not (directory / TOKENIZER_FILE).is_file():
        raise UsageError(
            expected=f"a {TOKENIZER_FILE} in {directory}",
            found="none",
            do="copy it from the captioner that was exported, or make it with transformers",
        )
    return contained(directory, directory / TOKENIZER_FILE)


def read_generation(
    directory: Path,
    described: Mapping[str, Any],
    prompt: Prompt,
    *,
    beams: int | None = None,
    max_new_tokens: int | None = None,
) -> GenerationDefaults:
    """How captions are to be made.

    Args:
        directory: with a generation_config.json, or without one.
        described: its config.json.
        prompt: what is read beside the picture; where that is not a prefix, after a start token.
        beams, max_new_tokens: in place of the captioner's own settings.

    Raises:
        UsageError: settings that are missing, wrong, or not known to the runtime.
    """
    name = "generation_config.json"
    own = (directory / name).is_file()
    settings = read_json(directory, name) if own else settings_of_config(described)
    around, end = len(prompt.before) + len(prompt.after), settings.get("eos_token_id")
    start = settings.get("decoder_start_token_id")
    if start is None:
        start = settings.get("bos_token_id")
    if (start is None and not around) or end is None:
        raise UsageError(
            expected=f"decoder_start_token_id and eos_token_id in {name}",
            found=f"{start} and {end}",
            do="add them, as the captioner's own configuration has them",
        )
    try:
        defaults = generation_defaults(
            settings,
            (*([] if start is None or around else [start]), *prompt.ids),
            token_ids(end),
            around=around,
            beams=beams,
            max_new_tokens=max_new_tokens,
        )
        return GenerationDefaults.from_json(defaults.to_json())
    except (BundleError, TypeError, KeyError) as error:
        raise UsageError(
            expected=f"generation settings of their types and ranges in {name}",
            found=error.found if isinstance(error, BundleError) else str(error)[:120],
            do="correct them",
        ) from error
