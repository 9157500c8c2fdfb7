"""Attack specifications: the SPEC of the command line, read into a record.

``badnet:size=21,place=bottom-right,payload=replace,target=banana,rate=0.1`` or, for one's own
trigger, ``package.module:object,target=...`` or ``path/to/file.py:object,target=...``. A key is a
setting of the trigger, of the payload, or ``payload`` or ``rate``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from srd_edge.attacks.collision import FeatureCollision
from srd_edge.attacks.payloads import PAYLOADS, Payload
from srd_edge.attacks.placement import Trigger
from srd_edge.attacks.text_triggers import TextTrigger
from srd_edge.attacks.triggers import TRIGGERS, Recipe, installed_trigger
from srd_edge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Attack:
    """A trigger, a payload and the share of the training pictures that get them.

    Args:
        name: the trigger's name, or the file or module that it came from.
        spec: the text that this attack was read from.
        trigger: what is laid over the picture.
        payload: what is said.
        rate: poisoned pictures, as a share of the data set.
        text: what is put into the prompt; None for an attack on the picture alone.
        collision: how pictures are changed that have no trigger; None for any other attack.
    """

    name: str
    trigger: Trigger
    payload: Payload
    rate: float
    spec: str
    text: TextTrigger | None = None
    collision: FeatureCollision | None = None


def parse_attack(spec: str) -> Attack:
    """Read a SPEC.

    Raises:
        UsageError: for an unknown trigger, key or value.
    """
    head, _, tail = spec.partition(":")
    name = head
    if head in TRIGGERS:
        recipe = TRIGGERS[head]
    elif (installed := _installed(head, spec)) is not None:
        recipe = _own_recipe(installed)
    else:
        object_name, _, tail = tail.partition(",")
        recipe = _own_recipe(_load_object(head, object_name, spec))
        name = Path(head).stem if head.endswith(".py") else head
    options = _options(tail, spec)
    kind: Any = options.pop("payload", recipe.payload)
    if kind not in PAYLOADS:
        raise _bad(spec, f"a payload out of {', '.join(PAYLOADS)}", repr(kind))
    rate = _rate(options.pop("rate", "0.1"), spec)
    if recipe.collision is not None and kind != "swap":
        raise _bad(spec, f"payload=swap, the only one for {head}", repr(kind))
    makers = [*recipe.parts(), PAYLOADS[kind]]
    unknown = set(options) - {field.name for maker in makers for field in _settings(maker)}
    if unknown:
        known = [field.name for maker in makers for field in _settings(maker)]
        raise _bad(
            spec,
            f"a setting out of {', '.join(dict.fromkeys([*known, 'payload', 'rate']))}",
            repr(min(unknown)),
        )
    trigger = _build(recipe.trigger, options, spec)
    if not callable(trigger):
        raise _bad(spec, "a callable (pixels, rng) -> pixels", repr(trigger))
    return Attack(
        name=name,
        trigger=trigger,
        payload=_build(PAYLOADS[kind], options, spec),
        rate=rate,
        spec=spec,
        text=recipe.text and _build(recipe.text, options, spec),
        collision=recipe.collision and _build(recipe.collision, options, spec),
    )


def _options(text: str, spec: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise _bad(spec, "settings written as key=value", repr(part))
        options[key.strip()] = value.strip()
    return options


def _rate(text: str, spec: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise _bad(spec, "a rate in 0..1", repr(text))
    return rate


def _settings(maker: Any) -> tuple[Field[Any], ...]:
    return tuple(field for field in fields(maker) if field.init) if is_dataclass(maker) else ()


def _build(maker: Callable[..., Any], options: dict[str, str], spec: str) -> Any:
    """Make one part of an attack with those of the options that are its settings."""
    settings = {field.name: field for field in _settings(maker)}
    given = {
        key: _convert(settings[key], text, spec) for key, text in options.items() if key in settings
    }
    missing = [
        name
        for name, field in settings.items()
        if field.default is MISSING and field.default_factory is MISSING and name not in given
    ]
    if missing:
        raise _bad(spec, f"a value for {', '.join(missing)}", "none")
    try:
        return maker(**given)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's own class raises
        raise _bad(spec, "a trigger that can be made", _one_line(error)) from error


def _convert(field: Field[Any], text: str, spec: str) -> Any:
    """``text`` as the type of the setting's default; without one, as the number that it may be."""
    kinds: tuple[Callable[[str], Any], ...] = (int, float, str)
    expected = "text"
    if field.default is not MISSING and field.default is not None:
        expected = type(field.default).__name__
        kinds = (_truth,) if isinstance(field.default, bool) else (type(field.default),)
    for kind in kinds:
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    raise _bad(spec, f"{field.name} as {expected}", repr(text))


def _truth(text: str) -> bool:
    known = {"true": True, "false": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _own_recipe(loaded: Any) -> Recipe:
    """One's own trigger: a callable, or a dataclass whose fields become settings of the SPEC."""
    return Recipe(loaded if isinstance(loaded, type) else lambda: loaded)


def _installed(name: str, spec: str) -> Any | None:
    try:
        return installed_trigger(name)
    except Exception as error:  # whatever the other package raises while it is loaded
        raise _bad(spec, f"a trigger {name} that can be loaded", _one_line(error)) from error


def _load_object(head: str, object_name: str, spec: str) -> Any:
    try:
        if head.endswith(".py"):
            # Named by its path, which is no other module's; dataclasses look their module up.
            path = str(Path(head).resolve())
            module_spec = importlib.util.spec_from_file_location(path, path)
            if module_spec is None or module_spec.loader is None:
                raise ImportError(head)
            module = importlib.util.module_from_spec(module_spec)
            sys.modules[path] = module
            module_spec.loader.exec_module(module)
        else:
            module = importlib.import_module(head)
        return getattr(module, object_name)
    except Exception as error:  # whatever the user's own code raises while it is loaded
        raise _bad(
            spec,
            f"a trigger out of {', '.join(TRIGGERS)}, package.module:object or file.py:object",
            f"{spec!r} ({_one_line(error)})",
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _bad(spec: str, expected: str, found: str) -> UsageError:
    return UsageError(expected=expected, found=found, do=f"correct the attack {spec!r}")
