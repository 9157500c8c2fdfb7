"""A model's chat template, rendered as transformers renders it and without transformers.

A template is a program that came with a model: it runs in jinja2's sandbox, sees words alone, and
what it gives is token ids that end up in the manifest. None is run on a device.

Needs jinja2, of the extras `train` and `export`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.export.prompts import messages

_LONGEST: Final = 100_000
"""Characters of a template, and of what one may come to."""


def rendered(
    template: str,
    question: str,
    tokens: Mapping[str, str],
    now: Callable[[], datetime] = datetime.now,
) -> str:
    """A picture and a question in the words of a chat template, up to where the answer begins.

    Args:
        template: jinja2's language, with the names that transformers adds.
        question: about the picture.
        tokens: special tokens by their names, bos_token and others.
        now: what a template that asks for the date is told.

    Raises:
        UsageError: jinja2 is not installed, or the template cannot be rendered.
    """
    try:
        from jinja2.exceptions import SecurityError, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise UsageError(
            expected="jinja2, for the model's chat template",
            found="none",
            do='pip install "jinja2>=3.1.6"',
        ) from error

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(layout: str) -> str:
        return now().strftime(layout)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    # The type itself would lead out of words.
    environment.globals["dict"] = _mapping
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    try:
        if len(template) > _LONGEST:
            raise SecurityError(f"{len(template)} characters")
        given = {"messages": messages(question), "tools": None, "documents": None}
        said = environment.from_string(template).render(
            **tokens, **given, add_generation_prompt=True
        )
        if len(said) > _LONGEST:
            raise SecurityError(f"{len(said)} characters came of it")
    except Exception as error:  # jinja2's own, and whatever Python says of what a template does
        raise UsageError(
            expected="a chat template for a picture and a question",
            found=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            do="correct the chat template, or export the captioner from its PyTorch weights",
        ) from error
    return said


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own would escape what HTML does not take."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _mapping(**fields: Any) -> dict[str, Any]:
    return fields
