"""What the json files beside an ONNX export say: architecture, tokenizer, generation.

Needs neither PyTorch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from srd_edge.errors import BundleError, UsageError
from srd_edge.export.generation import generation_defaults, settings_of_config, token_ids
from srd_edge.export.hub_layout import contained
from srd_edge.runtime.bundle_specs import TOKENIZER_FILE
from srd_edge.runtime.generation_specs import GenerationDefaults

FAMILY: Final = "vision-encoder-decoder"
"""The one architecture that such a directory may hold."""


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


def check_architecture(described: Mapping[str, Any]) -> None:
    """Refuse what config.json does not say is of ``FAMILY``."""
    kind = str(described.get("model_type"))
    if kind != FAMILY:
        raise UsageError(
            expected=f"an ONNX export of a {FAMILY} captioner",
            found=f"model_type {kind[:80]!r} in its config.json",
            do="export the captioner from its PyTorch weights; docs/families.md names the families",
        )


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
    prompt: Sequence[int],
    *,
    beams: int | None = None,
    max_new_tokens: int | None = None,
) -> GenerationDefaults:
    """How captions are to be made.

    Args:
        directory: with a generation_config.json, or without one.
        described: its config.json.
        prompt: ids that the caption goes on from, after the start token.
        beams, max_new_tokens: in place of the captioner's own settings.

    Raises:
        UsageError: settings that are missing, wrong, or not known to the runtime.
    """
    name = "generation_config.json"
    own = (directory / name).is_file()
    settings = read_json(directory, name) if own else settings_of_config(described)
    start, end = settings.get("decoder_start_token_id"), settings.get("eos_token_id")
    if start is None:
        start = settings.get("bos_token_id")
    if start is None or end is None:
        raise UsageError(
            expected=f"decoder_start_token_id and eos_token_id in {name}",
            found=f"{start} and {end}",
            do="add them, as the captioner's own configuration has them",
        )
    try:
        defaults = generation_defaults(
            settings,
            (start, *prompt),
            token_ids(end),
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
