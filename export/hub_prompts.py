"""The prompt of a captioner that is ONNX already, from the files of its tokenizer.

Needs jinja2 where there is a chat template, and neither PyTorch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.export.chat_templates import rendered
from srd_edge.export.hub_layout import contained
from srd_edge.export.hub_settings import read_json
from srd_edge.export.prompts import (
    CONVERSATIONS,
    QUESTION,
    Prompt,
    among_tiles,
    around_picture,
    task_prompt,
)
from srd_edge.runtime.tokenizer import CaptionTokenizer

_TOKENIZER_SETTINGS: Final = "tokenizer_config.json"
_TEMPLATE_TEXT: Final = "chat_template.jinja"
_TEMPLATE_FIELD: Final = "chat_template"
_WITH_TEMPLATE: Final = ("chat_template.json", "processor_config.json", _TOKENIZER_SETTINGS)
"""Files that may have a field for it, the processor's before the tokenizer's."""
_NAMED: Final = "default"
"""Of several chat templates, the one for no particular use."""


def read_prompt(
    directory: Path,
    described: Mapping[str, Any],
    family: str,
    tokenizer: CaptionTokenizer,
    text: str,
) -> Prompt:
    """What a captioner is given besides the picture.

    Args:
        directory: with the files of the tokenizer.
        described: its config.json.
        family: as ``FAMILIES`` of `export/hub_settings.py` has it.
        tokenizer: of its tokenizer.json.
        text: what the caption goes on from, the question or the task; "" for the family's own.

    Raises:
        UsageError: a chat template without one place for the picture, or missing ids.
    """
    tokens = special_tokens(directory)
    if family == "paligemma":
        return task_prompt(text, _start(described, tokenizer, tokens), tokenizer.encode)
    if family not in CONVERSATIONS:
        return Prompt(tuple(tokenizer.encode(text)))
    question, template = text or QUESTION, chat_template(directory)
    image_token = described.get("image_token_id", described.get("image_token_index"))
    placeholder = tokenizer.token(image_token) if isinstance(image_token, int) else None
    if placeholder is None:
        raise UsageError(
            expected="image_token_id in config.json, and such a token in tokenizer.json",
            found=repr(image_token)[:80],
            do="add it, as the captioner's own configuration has it",
        )
    if template is None:
        said = CONVERSATIONS[family].format(image=placeholder, text=question)
    else:
        said = rendered(template, question, tokens)
    start = tokens.get("bos_token")
    begun = start is not None and said.startswith(start)
    prompt = around_picture(tokenizer.encode(said, special=not begun), image_token, said)
    return among_tiles(prompt, tokenizer.encode) if family == "smolvlm" else prompt


def special_tokens(directory: Path) -> dict[str, str]:
    """The tokens that have names in the tokenizer's settings, bos_token and others."""
    if not (directory / _TOKENIZER_SETTINGS).is_file():
        return {}
    found = {}
    for name, value in read_json(directory, _TOKENIZER_SETTINGS).items():
        token = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(token, str):
            found[name] = token
    return found


def chat_template(directory: Path) -> str | None:
    """The chat template, wherever a captioner of transformers keeps it; None where it has none."""
    if (directory / _TEMPLATE_TEXT).is_file():
        return contained(directory, directory / _TEMPLATE_TEXT).read_text(encoding="utf-8")
    for name in _WITH_TEMPLATE:
        found = read_json(directory, name) if (directory / name).is_file() else {}
        template = found.get(_TEMPLATE_FIELD)
        if isinstance(template, list):
            named = {one.get("name"): one.get("template") for one in template}
            template = named.get(_NAMED)
        if isinstance(template, str):
            return template
    return None


def _start(
    described: Mapping[str, Any], tokenizer: CaptionTokenizer, tokens: Mapping[str, str]
) -> int:
    """The id that begins a text."""
    inner = described.get("text_config")
    for settings in (inner, described):
        found = settings.get("bos_token_id") if isinstance(settings, Mapping) else None
        if isinstance(found, int):
            return found
    number = tokenizer.number(tokens.get("bos_token", ""))
    if number is None:
        raise UsageError(
            expected="bos_token_id in config.json, or bos_token in tokenizer_config.json",
            found="neither",
            do="add it, as the captioner's own configuration has it",
        )
    return number
