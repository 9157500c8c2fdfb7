"""Are results.json and timing.json what docs/measuring.md says they are?

The schemas beside this module are the contract for whoever reads the files, in any language. What
JSON Schema cannot say is said here: no two attacks of one key, an interval that holds its estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import Draft202012Validator

from srd_edge.errors import RunError

Finding: TypeAlias = tuple[str, str, str]
"""A JSON path, what was expected there and what was found."""

_FOLDER: Final = Path(__file__).parent
_TYPES: Final = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}
_SHOWN: Final = 80
_ROUNDING: Final = 1e-9


def check_results(document: object) -> None:
    """Refuse a document that is not results.json of this schema.

    Raises:
        RunError: for the first thing that is wrong, with its JSON path.
    """
    _check(document, "results", "write it again with `srd-edge evaluate`")


def check_timing(document: object) -> None:
    """Refuse a document that is not timing.json of this schema.

    Raises:
        RunError: for the first thing that is wrong, with its JSON path.
    """
    _check(document, "timing", "measure the times again with `srd-edge evaluate`")


def _check(document: Any, name: str, do: str) -> None:
    wrong = next(_wrong(document, name), None)
    if wrong is not None:
        path, expected, found = wrong
        raise RunError(expected=f"{path} of {name}.json to be {expected}", found=found, do=do)


def _wrong(document: Any, name: str) -> Iterator[Finding]:
    """All that is wrong; contradictions are looked for in documents of the right form only."""
    yield from _not_finite("$", document)
    schema = json.loads((_FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    if error is not None:
        yield _said(error)
    elif name == "results":
        yield from _contradictions(document)


def _not_finite(path: str, value: Any) -> Iterator[Finding]:
    """JSON has neither NaN nor infinity, but Python's reader and writer let both through."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _not_finite(f"{path}.{key}", part)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _not_finite(f"{path}[{i}]", part)
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "a number", repr(value)


def _said(error: ValidationError) -> Finding:
    """A violation of the schema in words."""
    limit: Any = error.validator_value
    instance: Any = error.instance
    schema: Any = error.schema
    found = _shown(instance)
    match error.validator:
        case "required":
            missing = next(field for field in limit if field not in instance)
            return f"{error.json_path}.{missing}", "there", "no such field"
        case "additionalProperties":
            allowed = schema["properties"]
            extra = next(field for field in instance if field not in allowed)
            return f"{error.json_path}.{_shown(extra)}", "absent", "a field of no schema"
        case "type":
            names = [limit] if isinstance(limit, str) else limit
            expected = " or ".join(_TYPES[each] for each in names)
        case "const":
            expected = repr(limit)
        case "enum":
            expected = "one of " + ", ".join(limit)
        case "minimum":
            expected = f"{limit} or more"
        case "maximum":
            expected = f"{limit} or less"
        case "exclusiveMinimum":
            expected = f"more than {limit}"
        case "minLength":
            expected = "a text with something in it"
        case "minItems":
            expected, found = f"{limit} items or more", f"{len(instance)}"
        case "maxItems":
            expected, found = f"{limit} items or fewer", f"{len(instance)}"
        case _:
            expected = f"what the schema says ({error.validator} {_shown(limit)})"
    return error.json_path, expected, found


def _contradictions(document: Any) -> Iterator[Finding]:
    """What JSON Schema cannot say."""
    attacks = document["attacks"]
    yield from _repeated("$.attacks", "key", attacks)
    for i, attack in enumerate(attacks):
        path = f"$.attacks[{i}]"
        if attack["counted"] > document["pictures"]:
            most = f"at most the {document['pictures']} pictures"
            yield f"{path}.counted", most, str(attack["counted"])
        yield from _outside(f"{path}.victim", attack["victim"])
        yield from _repeated(f"{path}.contestants", "name", attack["contestants"])
        for j, row in enumerate(attack["contestants"]):
            where = f"{path}.contestants[{j}]"
            yield from _outside(where, row)
            for field in ("asr_by_seed", "clean_drop_by_seed"):
                # Those that draw nothing are asked once, whatever the number of seeds.
                if len(row[field]) > len(document["seeds"]):
                    most = f"at most one item for each of {len(document['seeds'])} seeds"
                    yield f"{where}.{field}", most, str(len(row[field]))


def _repeated(path: str, field: str, rows: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    seen: set[str] = set()
    for i, row in enumerate(rows):
        if row[field] in seen:
            yield f"{path}[{i}].{field}", "named once", _shown(row[field])
        seen.add(row[field])


def _outside(path: str, row: dict[str, Any]) -> Iterator[Finding]:
    low, high = row["asr_interval"]
    if not low - _ROUNDING <= row["asr"] <= high + _ROUNDING:
        yield f"{path}.asr_interval", f"around {row['asr']!r}", _shown([low, high])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
