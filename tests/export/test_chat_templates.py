"""Chat templates come to what transformers makes of them; what runs away is refused."""

from __future__ import annotations

import sys
from datetime import datetime

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from srd_edge.errors import UsageError
from srd_edge.export.chat_templates import rendered
from srd_edge.export.prompts import messages

QUESTION = 'What\'s <in> "this"?\nSay é'
TEMPLATES = {
    "lines": "{{ bos_token }}\n{% for m in messages %}\n  {% if true %}\n{{ m.role }}:\n"
    "  {% endif %}"
    "{% for c in m.content %}\n\t{% if c.type == 'image' %}<image>{% else %}{{ c.text }}"
    "{% endif %}\n{% endfor %}\n{% endfor %}\n{% if add_generation_prompt %}A:{% endif %}\n",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "first": "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}"
    "{% continue %}{% endif %}{{ c['type'] }}{% break %}{% endfor %}{% endfor %}{{ eos_token }}",
    "count": "{% set n = namespace(value=0) %}{% for c in messages[0].content %}"
    "{% set n.value = n.value + 1 %}{% endfor %}{{ n.value }}{{ dict(a=1).a }}",
    "today": "{{ strftime_now('%Y') }}",
    "unknown": "{{ tools }}{{ pad_token }}{% if documents is defined %}{{ documents }}{% endif %}",
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2}, unk_token="<pad>"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **named)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_comes_to_what_transformers_makes_of_it(
    tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    theirs = tokenizer.apply_chat_template(
        messages(QUESTION),
        chat_template=TEMPLATES[name],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered(TEMPLATES[name], QUESTION, tokenizer.special_tokens_map) == theirs


def test_the_date_is_an_argument() -> None:
    told = rendered("{{ strftime_now('%d %b %Y') }}", "", {}, lambda: datetime(2026, 2, 3))
    assert told == "03 Feb 2026"


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ raise_exception('no pictures here') }}", "TemplateError: no pictures here"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ dict.__globals__.x }}", "SecurityError"),
        ("{% for i in range(1000000) %}{% endfor %}", "OverflowError"),
        ("{{ 'x' * 200000 }}", "200000 characters came of it"),
        ("x" * 200_000, "200000 characters"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused_in_one_line(
    template: str, found: str
) -> None:
    with pytest.raises(UsageError, match=found) as caught:
        rendered(template, QUESTION, {})
    assert "\n" not in str(caught.value)


def test_without_jinja2_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2.exceptions", None)
    with pytest.raises(UsageError, match="pip install"):
        rendered("{{ messages }}", QUESTION, {})
