"""The manifest's part on generation: how token ids become a caption, whichever loop makes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from srd_edge.runtime.json_fields import JsonFields, check_integer, wrong_field

EarlyStopping: TypeAlias = Literal["heuristic", "first", "never"]
"""When a beam search ends; transformers' False, True and "never"."""
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """How a caption is decoded; each setting means what it means in transformers.

    Args:
        prompt: ids that the decoder is given first, the start token among them.
        end_tokens: ids that end a caption.
        max_new_tokens: longest caption, the end token included.
        beams: 1 for greedy decoding.
        length_penalty, early_stopping: of a beam search.
        min_new_tokens: before them no end token is said.
        repetition_penalty: above 1, what was said is less likely; 1 for none.
        no_repeat_ngram: no so many tokens twice in a row; 0 for any.
        suppress: ids that are never said.
        first_token, last_token: what the first is, and what the longest caption ends with; None
            for any.
    """

    prompt: tuple[int, ...]
    end_tokens: tuple[int, ...]
    max_new_tokens: int
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "heuristic"
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    suppress: tuple[int, ...] = ()
    first_token: int | None = None
    last_token: int | None = None

    def to_json(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("prompt", "end_tokens", "suppress")}
        return asdict(self) | lists

    @classmethod
    def from_json(cls, data: object) -> GenerationDefaults:
        fields = JsonFields(data, "generation")
        stopping = fields.choice("early_stopping", get_args(EarlyStopping))
        defaults = cls(
            prompt=fields.integers("prompt"),
            end_tokens=fields.integers("end_tokens"),
            max_new_tokens=fields.integer("max_new_tokens", low=1, high=_LONGEST),
            beams=fields.integer("beams", low=1, high=64),
            length_penalty=fields.number("length_penalty", low=-10, high=10),
            early_stopping=cast("EarlyStopping", stopping),
            min_new_tokens=fields.integer("min_new_tokens", low=0, high=_LONGEST),
            repetition_penalty=fields.positive("repetition_penalty"),
            no_repeat_ngram=fields.integer("no_repeat_ngram", low=0, high=_LONGEST),
            suppress=fields.integers("suppress"),
            first_token=_id_or_none(fields, "first_token"),
            last_token=_id_or_none(fields, "last_token"),
        )
        if not defaults.end_tokens:
            raise wrong_field("generation.end_tokens", "one id or more", [])
        fields.end()
        return defaults


def _id_or_none(fields: JsonFields, name: str) -> int | None:
    value = fields.take(name)
    return None if value is None else check_integer(value, f"generation.{name}", low=0)
