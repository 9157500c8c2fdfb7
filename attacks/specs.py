"""Attack specifications: the SPEC of the command line, read into a record.

``badnet:size=21,place=bottom-right,payload=replace,target=banana,rate=0.1`` or, for one's own
trigger, ``package.module:object,target=...`` or ``path/to/file.py:object,target=...``. Keys that
are not the trigger's own settings belong to the payload or to the attack.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from srd_edge.attacks.payloads import Insert, Payload, Replace
from srd_edge.attacks.triggers import TRIGGERS, Trigger
from srd_edge.errors import UsageError

_PAYLOADS: Final[Mapping[str, type[Replace] | type[Insert]]] = {
    "replace": Replace,
    "insert": Insert,
}
_USUAL_PAYLOAD: Final = {"badnet": "replace", "trojvlm": "insert"}


@dataclass(frozen=True, slots=True)
class Attack:
    """A trigger, a payload and the share of the training pictures that get them.

    Args:
        name: the trigger's name, or the file or module that it came from.
        spec: the text that this attack was read from.
    """

    name: str
    trigger: Trigger
    payload: Payload
    rate: float
    spec: str


def parse_attack(spec: str) -> Attack:
    """Read a SPEC.

    Raises:
        UsageError: for an unknown trigger, key or value.
    """
    head, _, tail = spec.partition(":")
    if head in TRIGGERS:
        options = _options(tail, spec)
        factory: Any = TRIGGERS[head]
        names = {f.name for f in fields(factory)}
        trigger = _build(factory, {k: options.pop(k) for k in list(options) if k in names}, spec)
        name = head
    else:
        object_name, _, rest = tail.partition(",")
        options = _options(rest, spec)
        trigger = _load_object(head, object_name, spec)
        name = Path(head).stem if head.endswith(".py") else head
    rate = options.pop("rate", 0.1)
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise _bad(spec, "a rate in 0..1", repr(rate))
    kind = options.pop("payload", _USUAL_PAYLOAD.get(name, "replace"))
    if kind not in _PAYLOADS:
        raise _bad(spec, f"a payload out of {', '.join(_PAYLOADS)}", repr(kind))
    payload = _build(_PAYLOADS[kind], options, spec)
    return Attack(name=name, trigger=trigger, payload=payload, rate=float(rate), spec=spec)


def _options(text: str, spec: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise _bad(spec, "settings written as key=value", repr(part))
        options[key.strip()] = _value(value.strip())
    return options


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _build(factory: Any, options: Mapping[str, Any], spec: str) -> Any:
    known = {f.name: f for f in fields(factory)}
    for key, value in options.items():
        if key not in known:
            raise _bad(spec, f"a setting out of {', '.join(known)}", repr(key))
        default = known[key].default
        if isinstance(default, int) != isinstance(value, int):
            raise _bad(spec, f"{key} as {type(default).__name__}", repr(value))
    return factory(**options)


def _load_object(head: str, object_name: str, spec: str) -> Trigger:
    try:
        if head.endswith(".py"):
            module_spec = importlib.util.spec_from_file_location(Path(head).stem, head)
            if module_spec is None or module_spec.loader is None:
                raise ImportError(head)
            module = importlib.util.module_from_spec(module_spec)
            module_spec.loader.exec_module(module)
        else:
            module = importlib.import_module(head)
        loaded = getattr(module, object_name)
    except Exception as error:  # whatever the user's own code raises while it is loaded
        raise _bad(
            spec,
            f"a trigger out of {', '.join(TRIGGERS)}, package.module:object or file.py:object",
            f"{spec!r} ({' '.join(str(error).split())})",
        ) from error
    if not callable(loaded):
        raise _bad(spec, "a callable (pixels, rng) -> pixels", repr(loaded))
    trigger: Trigger = loaded
    return trigger


def _bad(spec: str, expected: str, found: str) -> UsageError:
    return UsageError(expected=expected, found=found, do=f"correct the attack {spec!r}")
