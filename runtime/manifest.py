"""``manifest.json`` as frozen records: what a bundle holds and how to run it.

Reading is strict - every field present, of its type and in its range, and none that this schema
does not know - because a manifest is the only thing that stands between a file somebody sent and
a defence that is believed to be on. ``to_json`` and ``from_json`` are each other's inverse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import ActionTable
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.bundle_specs import (
    CaptionerSpec,
    FileEntry,
    ObservationSpec,
    PolicySpec,
)
from srd_edge.runtime.check_specs import CheckSpec
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.json_fields import DO, JsonFields, wrong_field

SCHEMA: Final = 4
MAX_CELLS: Final = 1 << 16
"""Of an action table's grid; the coverage canvas grows with it."""
MAX_SIDE_PX: Final = 8192
"""Of the encoder's canvas."""


class _Writes(Protocol):
    def to_json(self) -> Mapping[str, Any]: ...


_T = TypeVar("_T", bound=_Writes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All of ``manifest.json``; the bundle's writer fills in ``files``.

    ``policy`` is None in an undefended bundle, ``check`` where captions are not checked, and
    ``observation`` where the features lie on no fixed grid, so that there can be no policy.
    ``parity`` and ``provenance`` are free JSON.
    """

    captioner: CaptionerSpec
    preprocessing: Preprocessing
    generation: GenerationDefaults
    actions: ActionTable
    observation: ObservationSpec | None
    policy: PolicySpec | None
    check: CheckSpec | None = None
    precision: str
    opset: int
    parity: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    schema: int = SCHEMA

    def entry(self, path: str) -> FileEntry | None:
        """The listed file of that path, or None."""
        return next((entry for entry in self.files if entry.path == path), None)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; ``from_json`` reads it back."""
        return {
            "schema": self.schema,
            "captioner": self.captioner.to_json(),
            "preprocessing": self.preprocessing.to_json(),
            "generation": self.generation.to_json(),
            "actions": self.actions.to_json(),
            "observation": None if self.observation is None else _plain(self.observation),
            "policy": None if self.policy is None else _plain(self.policy),
            "check": None if self.check is None else self.check.to_json(),
            "precision": self.precision,
            "opset": self.opset,
            "parity": dict(self.parity),
            "provenance": dict(self.provenance),
            "files": [_plain(entry) for entry in self.files],
        }

    @classmethod
    def from_json(cls, data: object) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises:
            BundleError: another schema, or a field that is missing, mistyped, out of range or
                unknown; the message names it.
        """
        fields = JsonFields(data, "manifest")
        # First, so that a newer bundle is called newer and not damaged.
        schema = fields.integer("schema", low=0)
        if schema != SCHEMA:
            raise BundleError(
                expected=f"a bundle of schema {SCHEMA}",
                found=f"schema {schema}",
                do="update srd-edge" if schema > SCHEMA else DO,
            )
        policy, check = fields.take("policy"), fields.take("check")
        observation = fields.take("observation")
        if observation is None and policy is not None:
            raise wrong_field("observation", "what the policy looks at", observation)
        actions = _delegate("actions", ActionTable.from_json, fields.mapping("actions"))
        if actions.rows * actions.columns > MAX_CELLS:
            raise wrong_field(
                "actions.grid", f"at most {MAX_CELLS} cells", [actions.rows, actions.columns]
            )
        preprocessing = _delegate(
            "preprocessing", Preprocessing.from_json, fields.mapping("preprocessing")
        )
        if max(preprocessing.width, preprocessing.height) > MAX_SIDE_PX:
            size = f"{preprocessing.width} x {preprocessing.height}"
            raise wrong_field("preprocessing.width, height", f"at most {MAX_SIDE_PX} pixels", size)
        manifest = cls(
            schema=schema,
            captioner=CaptionerSpec.from_json(fields.take("captioner")),
            preprocessing=preprocessing,
            generation=GenerationDefaults.from_json(fields.take("generation")),
            actions=actions,
            observation=None if observation is None else ObservationSpec.from_json(observation),
            policy=None if policy is None else PolicySpec.from_json(policy),
            check=None if check is None else CheckSpec.from_json(check),
            precision=fields.text("precision"),
            opset=fields.integer("opset", low=1, high=1024),
            parity=fields.mapping("parity"),
            provenance=fields.mapping("provenance"),
            files=tuple(
                FileEntry.from_json(entry, f"files[{place}]")
                for place, entry in enumerate(fields.sequence("files"))
            ),
        )
        fields.end()
        return manifest


def pairing_id(encoder_sha256: str, actions: ActionTable, observation: ObservationSpec) -> str:
    """The identity of all that a policy's numbers depend on, as a sha256 in hex.

    Args:
        encoder_sha256: of the encoder graph as shipped, in hex.
        actions: what its outputs count.
        observation: what its inputs are.
    """
    # Through from_json once, so that a strength of 3 and of 3.0 are the same table.
    table = ActionTable.from_json(actions.to_json()).to_json()
    parts = {"encoder": encoder_sha256, "actions": table, "observation": _plain(observation)}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _delegate(where: str, read: Callable[[Mapping[str, Any]], _T], data: dict[str, Any]) -> _T:
    """Let another station's ``from_json`` read ``data`` and hold it to what it understood.

    Those readers convert (``bool("false")``, ``int(2.5)``); what does not come back as it went in
    was not what they took it for.
    """
    try:
        value = read(data)
        back = json.loads(json.dumps(value.to_json()))
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise wrong_field(where, "fields as this version writes them", error) from error
    if back != data:
        names = sorted(set(back) | set(data))
        name = next(name for name in names if back.get(name) != data.get(name))
        raise wrong_field(f"{where}.{name}", json.dumps(back.get(name)), data.get(name))
    return value


def _plain(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
