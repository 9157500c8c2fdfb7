"""The manifest: what goes out comes back, and what is not a manifest is named and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import DEFAULT_TABLE, PRESETS, SRD_TABLE, ActionTable, Perturbation
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.bundle_specs import (
    CaptionerSpec,
    FileEntry,
    ObservationSpec,
    PolicySpec,
)
from srd_edge.runtime.check_specs import CheckSpec, LanguageSpec, Limit
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.manifest import SCHEMA, Manifest, pairing_id

OBSERVATION = ObservationSpec(rows=7, columns=7, channels=192)
MANIFEST = Manifest(
    captioner=CaptionerSpec(
        family="vision-encoder-decoder",
        decoding="cross-attention",
        components={"encoder": "encoder_model_int8.onnx", "decoder": "decoder_model_int8.onnx"},
        layers=2,
        heads=4,
        head_dim=48,
    ),
    preprocessing=Preprocessing(8, 6, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)),
    generation=GenerationDefaults(prompt=(1,), end_tokens=(2,), max_new_tokens=23, suppress=(3, 5)),
    actions=DEFAULT_TABLE,
    observation=OBSERVATION,
    policy=PolicySpec("policy.onnx", "ab" * 32, max_steps=3, temperature=0.5, margin=0.25),
    check=CheckSpec(
        language=LanguageSpec("language_model.onnx", "language_tokenizer.json", 1, 2, 64),
        confidence=Limit(-0.1, 0.2),
        information=Limit(40.0, 5.0),
        evidence=Limit(-3.5, 2.5),
        confidence_weight=1.5,
        reference=True,
        views=True,
        peer=True,
        retries=1,
    ),
    precision="int8",
    opset=18,
    parity={"logits": {"max_abs": 1e-4}, "captions": [True, None]},
    provenance={"licence": "Apache-2.0"},
    files=(FileEntry("policy.onnx", 12, "0" * 64),),
)


def as_json() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(MANIFEST.to_json()))
    return data


def put(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place: Any = data
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value


def leaves(data: Any, path: str = "") -> list[str]:
    """Dotted paths of every field that the schema prescribes."""
    found = []
    for name, value in data.items():
        found.append(f"{path}{name}")
        if isinstance(value, dict) and name not in ("parity", "provenance"):
            found += leaves(value, f"{path}{name}.")
    return found


@pytest.mark.parametrize("table", PRESETS)
@pytest.mark.parametrize("policy", [MANIFEST.policy, None])
@pytest.mark.parametrize("check", [MANIFEST.check, None])
def test_round_trip(table: str, policy: PolicySpec | None, check: CheckSpec | None) -> None:
    manifest = replace(MANIFEST, actions=PRESETS[table], policy=policy, check=check)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


@pytest.mark.parametrize("path", leaves(as_json()))
def test_every_field_is_needed(path: str) -> None:
    data = as_json()
    parents, _, last = path.rpartition(".")
    place = data
    for name in parents.split(".") if parents else ():
        place = place[name]
    del place[last]
    with pytest.raises(BundleError, match=path.split(".")[0]) as caught:
        Manifest.from_json(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", leaves(as_json()))
@pytest.mark.parametrize("value", [None, "", "7", True, -1, 1.5, [], {}, [[]], float("inf")])
def test_a_mistyped_field_is_refused_by_its_name_or_kept(path: str, value: Any) -> None:
    data = as_json()
    put(data, path, value)
    try:
        # Some values are right somewhere: null for no policy, "7" for a family, [] for no files.
        assert Manifest.from_json(data).to_json() == data
    except BundleError as error:
        assert path.split(".")[-1] in str(error) or path.split(".")[0] in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "1"),
        ("opset", True),
        ("precision", 8),
        ("captioner.layers", 2.0),
        ("captioner.layers", 10**9),
        ("captioner.decoding", "suffix"),
        ("captioner.components", []),
        ("captioner.components.encoder", None),
        ("generation.suppress", [1, "2"]),
        ("generation.max_new_tokens", 0),
        ("actions.stop", "false"),
        ("actions.grid", [5.5, 5]),
        ("actions.grid", [10**5, 10**5]),
        ("actions.grid", [1e400, 1]),
        ("actions.whole.0.op", "launch"),
        ("actions.regional.0.colour", [1]),
        ("actions.regional.0.strength", "1.0"),
        ("preprocessing.width", "8"),
        ("preprocessing.width", 10**9),
        ("preprocessing.mean", 0.5),
        ("preprocessing.std", [1, 1, 0]),
        ("preprocessing.resample", []),
        ("observation.rows", 0),
        ("policy.temperature", 0),
        ("policy.temperature", float("nan")),
        ("policy.max_steps", 10**6),
        ("policy.margin", -1),
        ("policy.margin", float("nan")),
        ("policy.margin", True),
        ("check", []),
        ("check.language", None),
        ("check.language.file", ""),
        ("check.language.start_token", -1),
        ("check.language.max_tokens", 1),
        ("check.confidence", 0.5),
        ("check.confidence.value", float("nan")),
        ("check.confidence.value", float("-inf")),
        ("check.confidence.value", "-0.1"),
        ("check.confidence.scale", 0),
        ("check.information.scale", -1.0),
        ("check.evidence.scale", float("nan")),
        ("check.evidence.scale", float("inf")),
        ("check.confidence_weight", -0.5),
        ("check.confidence_weight", True),
        ("check.reference", "yes"),
        ("check.reference", 1),
        ("check.views", None),
        ("check.retries", -1),
        ("check.retries", 1.0),
        ("check.retries", 65),
        ("files", {}),
        ("files.0.bytes", -1),
        ("files.0.sha256", "0" * 63),
        ("files.0.sha256", "G" * 64),
        ("files.0.path", 3),
    ],
)
def test_refused(path: str, value: Any) -> None:
    data = as_json()
    put(data, path, value)
    with pytest.raises(BundleError, match=path.split(".")[0]):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    "path",
    [
        "extra",
        "captioner.extra",
        "policy.extra",
        "check.extra",
        "check.language.extra",
        "check.confidence.extra",
        "files.0.extra",
        "preprocessing.extra",
    ],
)
def test_an_unknown_field_is_refused(path: str) -> None:
    data = as_json()
    put(data, path, 1)
    with pytest.raises(BundleError, match="extra"):
        Manifest.from_json(data)


@pytest.mark.parametrize(("schema", "do"), [(SCHEMA + 1, "update srd-edge"), (0, "export")])
def test_another_schema_says_what_to_do(schema: int, do: str) -> None:
    # Nothing else of another schema may be looked at.
    with pytest.raises(BundleError, match=do):
        Manifest.from_json({"schema": schema})


@pytest.mark.parametrize("data", [None, [], "manifest", 3])
def test_not_an_object(data: Any) -> None:
    with pytest.raises(BundleError, match="an object"):
        Manifest.from_json(data)


def test_a_long_value_is_shortened() -> None:
    data = as_json()
    data["opset"] = "\x1b[31m\n" * 10_000
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(data)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("1" * 64, DEFAULT_TABLE, OBSERVATION), id="encoder"),
        pytest.param(("0" * 64, SRD_TABLE, OBSERVATION), id="table"),
        pytest.param(("0" * 64, replace(DEFAULT_TABLE, stop=False), OBSERVATION), id="stop"),
        pytest.param(("0" * 64, DEFAULT_TABLE, replace(OBSERVATION, rows=8)), id="rows"),
        pytest.param(("0" * 64, DEFAULT_TABLE, replace(OBSERVATION, tensor="pooled")), id="tensor"),
    ],
)
def test_pairing_differs_with_each_part(other: tuple[str, ActionTable, ObservationSpec]) -> None:
    assert pairing_id(*other) != pairing_id("0" * 64, DEFAULT_TABLE, OBSERVATION)


def test_pairing_survives_the_manifest() -> None:
    # A strength written as a whole number comes back as a float.
    table = ActionTable(1, 1, (), (Perturbation("median", 5, size=None),))
    back = ActionTable.from_json(json.loads(json.dumps(table.to_json())))
    assert pairing_id("0" * 64, table, OBSERVATION) == pairing_id("0" * 64, back, OBSERVATION)


def test_kv_names_go_layer_by_layer() -> None:
    assert MANIFEST.captioner.kv_names("past_key_values", "encoder") == (
        "past_key_values.0.encoder.key",
        "past_key_values.0.encoder.value",
        "past_key_values.1.encoder.key",
        "past_key_values.1.encoder.value",
    )
