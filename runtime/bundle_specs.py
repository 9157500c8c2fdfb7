"""The parts of a manifest: files, captioner, observation, policy, each a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from srd_edge.runtime.json_fields import JsonFields, check_integers, wrong_field

TOKENIZER_FILE: Final = "tokenizer.json"
FEATURES: Final = "last_hidden_state"
"""The encoder's output that is looked at, be it by a policy or only to count pictures."""
Decoding: TypeAlias = Literal["cross-attention", "prefix", "merged", "with-past", "merged-prefix"]
Positions: TypeAlias = Literal["sequence", "grid"]
Cache: TypeAlias = Literal["growing", "fixed"]
Ids: TypeAlias = tuple[int, ...]
COMPONENTS: Final[Mapping[Decoding, tuple[str, ...]]] = {
    "cross-attention": ("encoder", "decoder"),
    "prefix": ("encoder", "embed_tokens", "decoder"),
    "merged": ("encoder", "decoder"),
    "with-past": ("encoder", "decoder", "decoder_with_past"),
    "merged-prefix": ("encoder", "embed_tokens", "decoder"),
}
HIDDEN_STATE_KINDS: Final[frozenset[Decoding]] = frozenset({"merged", "with-past"})
"""Whose decoders read the encoder's hidden states."""
PREFIX_KINDS: Final[frozenset[Decoding]] = frozenset({"prefix", "merged-prefix"})
"""Whose decoders read the picture as embeddings among those of words."""
MERGED_KINDS: Final[frozenset[Decoding]] = frozenset({"merged", "merged-prefix"})
"""Whose decoders may choose between their first call and all others."""
USE_CACHE_BRANCH: Final = "use_cache_branch"
"""What a merged decoder chooses its branch by; no other graph may choose."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


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
class TileIds:
    """What is read among the tiles of a picture, of which the whole comes last.

    Args:
        cells: before each tile, by row and column.
        between_lines: between the last tile of a row and the first of the next.
        whole: between the last tile and the whole.
        alone: before the whole where there are no tiles.
    """

    cells: tuple[tuple[Ids, ...], ...]
    between_lines: Ids
    whole: Ids
    alone: Ids

    def to_json(self) -> dict[str, Any]:
        cells = [[list(ids) for ids in row] for row in self.cells]
        flat = {name: list(getattr(self, name)) for name in ("between_lines", "whole", "alone")}
        return flat | {"cells": cells}

    @classmethod
    def from_json(cls, data: object) -> TileIds:
        fields = JsonFields(data, "captioner.tiles")
        rows = fields.sequence("cells")
        where = "captioner.tiles.cells"
        if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
            raise wrong_field(where, "rows of the same length", rows)
        cells = tuple(tuple(check_integers(ids, where) for ids in row) for row in rows)
        spec = cls(
            cells=cells,
            between_lines=fields.integers("between_lines"),
            whole=fields.integers("whole"),
            alone=fields.integers("alone"),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True)
class CaptionerSpec:
    """The captioner's graphs and the shape of its key-value cache.

    Args:
        family: the export family, for people; the runtime goes by ``decoding`` alone.
        decoding: the kind of decoder; `runtime/decoders.py` says what its graphs take and give.
        components: component name -> file; at least those of ``COMPONENTS[decoding]``.
        layers: decoder layers.
        heads: key-value heads a layer.
        head_dim: channels a head.
        before, after: ids around the picture, of a prefix.
        tiles: ids among its tiles, of a prefix that has any.
        cache: whether the decoder's keys and values grow with every call, or have room for all and
            are given back with what was read written in at ``past_length``, an input of its graph.
        positions: how a prefix's decoder counts: one after the other, or the picture's features by
            row and column, which are then an input of its graph (M-RoPE).
    """

    family: str
    decoding: Decoding
    components: Mapping[str, str]
    layers: int
    heads: int
    head_dim: int
    before: Ids = ()
    after: Ids = ()
    tiles: TileIds | None = None
    positions: Positions = "sequence"
    cache: Cache = "growing"

    @property
    def memory_names(self) -> tuple[str, ...]:
        """The encoder's outputs that the decoder needs."""
        if self.decoding in PREFIX_KINDS:
            return ("image_features",)
        if self.decoding in HIDDEN_STATE_KINDS:
            return ("last_hidden_state",)
        return self.kv_names("present", "encoder")

    def kv_names(
        self, side: Literal["past_key_values", "present"], part: Literal["encoder", "decoder"]
    ) -> tuple[str, ...]:
        """Tensor names of a cache, layer by layer, each layer's key before its value.

        Those of the kinds that are exported here; graphs of the others say their own.

        Args:
            side: "past_key_values" for what a graph takes, "present" for what it gives.
            part: "encoder" for cross-attention, "decoder" for self-attention, which is all that a
                prefix decoder has and is not named there.
        """
        infix = "" if self.decoding in PREFIX_KINDS else f"{part}."
        return tuple(
            f"{side}.{layer}.{infix}{kind}"
            for layer in range(self.layers)
            for kind in ("key", "value")
        )

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "before": list(self.before),
            "after": list(self.after),
            "tiles": None if self.tiles is None else self.tiles.to_json(),
            "components": dict(self.components),
        }

    @classmethod
    def from_json(cls, data: object) -> CaptionerSpec:
        fields = JsonFields(data, "captioner")
        family, decoding = fields.text("family"), fields.choice("decoding", tuple(COMPONENTS))
        positions = fields.choice("positions", get_args(Positions))
        cache = fields.choice("cache", get_args(Cache))
        tiles = fields.take("tiles")
        components = JsonFields(fields.mapping("components"), "captioner.components")
        files = {name: components.text(name) for name in COMPONENTS[cast("Decoding", decoding)]}
        files |= {name: components.text(name) for name in components.rest()}
        spec = cls(
            family=family,
            decoding=cast("Decoding", decoding),
            components=files,
            layers=fields.integer("layers", low=1, high=1024),
            heads=fields.integer("heads", low=1, high=1024),
            head_dim=fields.integer("head_dim", low=1, high=65536),
            before=fields.integers("before"),
            after=fields.integers("after"),
            tiles=None if tiles is None else TileIds.from_json(tiles),
            positions=cast("Positions", positions),
            cache=cast("Cache", cache),
        )
        fields.end()
        return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationSpec:
    """What the policy looks at: an encoder output of (batch, extra + rows * columns, channels)."""

    rows: int
    columns: int
    channels: int
    tensor: str = FEATURES

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
        margin: what a perturbation must be worth more than stop; above 0, fewer clean frames are
            perturbed.
    """

    file: str
    pairing: str
    max_steps: int
    temperature: float
    margin: float = 0.0

    @classmethod
    def from_json(cls, data: object) -> PolicySpec:
        fields = JsonFields(data, "policy")
        spec = cls(
            file=fields.text("file"),
            pairing=fields.text("pairing"),
            max_steps=fields.integer("max_steps", low=1, high=64),
            temperature=fields.positive("temperature"),
            margin=fields.number("margin", low=0.0),
        )
        fields.end()
        return spec
