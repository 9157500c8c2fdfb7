"""``manifest.json`` as frozen records: what a bundle holds and how to run it.

Reading is strict - every field present, of its type and in its range, and none that this schema
does not know - because a manifest is the only thing that stands between a file somebody sent and
a defence that is believed to be on. ``to_json`` and ``from_json`` are each other's inverse.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import ActionTable
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.json_fields import DO, JsonFields, check_integer, wrong_field

SCHEMA: Final = 1
TOKENIZER_FILE: Final = "tokenizer.json"
COMPONENTS: Final = ("encoder", "decoder")
MAX_CELLS: Final = 1 << 16
"""Of an action table's grid; the coverage canvas grows with it."""
MAX_SIDE_PX: Final = 8192
"""Of the encoder's canvas."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class _Writes(Protocol):
    def to_json(self) -> Mapping[str, Any]: ...


_T = TypeVar("_T", bound=_Writes)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the bundle: ``path`` relative to it, ``bytes`` its size, ``sha256`` in hex."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, data: object, where: str = "files[0]") -> FileEntry:
        fields = JsonFields(data, where)
        entry = cls(fields.text("path"), fields.integer("bytes", low=0), fields.text("sha256"))
        if not _SHA256.fullmatch(entry.sha256):
            raise wrong_field(f"{where}.sha256", "64 lower-case hexadecimal digits", entry.sha256)
        fields.end()
        return entry


@dataclass(frozen=True, slots=True)
class CaptionerSpec:
    """The captioner's graphs and the shape of its key-value cache.

    Args:
        family: the export family, for people; the runtime goes by ``decoding`` alone.
        decoding: the kind of generation loop. The encoder gives ``last_hidden_state`` and the
            cross-attention keys and values, computed once a picture; the decoder takes those
            and its own growing cache, each (batch, heads, length, head_dim).
        components: component name -> file; at least "encoder" and "decoder".
        layers: decoder layers.
        heads: key-value heads a layer.
        head_dim: channels a head.
    """

    family: str
    decoding: Literal["cross-attention"]
    components: Mapping[str, str]
    layers: int
    heads: int
    head_dim: int

    def kv_names(
        self, side: Literal["past_key_values", "present"], part: Literal["encoder", "decoder"]
    ) -> tuple[str, ...]:
        """Tensor names of a cache, layer by layer, each layer's key before its value.

        Args:
            side: "past_key_values" for what a graph takes, "present" for what it gives.
            part: "encoder" for cross-attention, "decoder" for self-attention.
        """
        return tuple(
            f"{side}.{layer}.{part}.{kind}"
            for layer in range(self.layers)
            for kind in ("key", "value")
        )

    @classmethod
    def from_json(cls, data: object) -> CaptionerSpec:
        fields = JsonFields(data, "captioner")
        family, decoding = fields.text("family"), fields.text("decoding")
        if decoding != "cross-attention":
            raise wrong_field("captioner.decoding", '"cross-attention"', decoding)
        components = JsonFields(fields.mapping("components"), "captioner.components")
        files = {name: components.text(name) for name in COMPONENTS}
        files |= {name: components.text(name) for name in components.rest()}
        spec = cls(
            family=family,
            decoding="cross-attention",
            components=files,
            layers=fields.integer("layers", low=1, high=1024),
            heads=fields.integer("heads", low=1, high=1024),
            head_dim=fields.integer("head_dim", low=1, high=65536),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """How a caption is decoded: token ids, and the longest caption in new tokens."""

    start_token: int
    end_token: int
    pad_token: int
    max_tokens: int
    suppress: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, data: object) -> GenerationDefaults:
        fields = JsonFields(data, "generation")
        defaults = cls(
            start_token=fields.integer("start_token", low=0),
            end_token=fields.integer("end_token", low=0),
            pad_token=fields.integer("pad_token", low=0),
            max_tokens=fields.integer("max_tokens", low=1, high=4096),
            suppress=tuple(
                check_integer(token, f"generation.suppress[{place}]", low=0)
                for place, token in enumerate(fields.sequence("suppress"))
            ),
        )
        fields.end()
        return defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationSpec:
    """What the policy looks at: an encoder output of (batch, extra + rows * columns, channels)."""

    rows: int
    columns: int
    channels: int
    tensor: str = "last_hidden_state"

    @classmethod
    def from_json(cls, data: object) -> ObservationSpec:
        fields = JsonFields(data, "observation")
        spec = cls(
            tensor=fields.text("tensor"),
            rows=fields.integer("rows", low=1, high=4096),
            columns=fields.integer("columns", low=1, high=4096),
            channels=fields.integer("channels", low=1, high=1 << 20),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """The Q-network.

    Args:
        file: its graph.
        pairing: ``pairing_id`` of the encoder, actions and observation it belongs to; "" until
            ``write_bundle`` fills it in.
        max_steps: most perturbations laid over one frame.
        temperature: of the logistic function that turns Q-values into suspicion.
    """

    file: str
    pairing: str
    max_steps: int
    temperature: float

    @classmethod
    def from_json(cls, data: object) -> PolicySpec:
        fields = JsonFields(data, "policy")
        spec = cls(
            file=fields.text("file"),
            pairing=fields.text("pairing"),
            max_steps=fields.integer("max_steps", low=1, high=64),
            temperature=fields.positive("temperature"),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All of ``manifest.json``; the bundle's writer fills in ``files``.

    ``policy`` is None in an undefended bundle. ``parity`` and ``provenance`` are free JSON.
    """

    captioner: CaptionerSpec
    preprocessing: Preprocessing
    generation: GenerationDefaults
    actions: ActionTable
    observation: ObservationSpec
    policy: PolicySpec | None
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
        captioner, generation = self.captioner, self.generation
        return {
            "schema": self.schema,
            "captioner": _plain(captioner) | {"components": dict(captioner.components)},
            "preprocessing": self.preprocessing.to_json(),
            "generation": _plain(generation) | {"suppress": list(generation.suppress)},
            "actions": self.actions.to_json(),
            "observation": _plain(self.observation),
            "policy": None if self.policy is None else _plain(self.policy),
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
        policy = fields.take("policy")
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
            observation=ObservationSpec.from_json(fields.take("observation")),
            policy=None if policy is None else PolicySpec.from_json(policy),
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
