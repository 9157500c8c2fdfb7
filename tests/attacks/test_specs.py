"""SPECs: every documented key is read, and everything else is one clear line."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass

import pytest

from srd_edge.attacks.collision import FeatureCollision
from srd_edge.attacks.patch_triggers import (
    AnyDoorFrame,
    BadNetPatch,
    MovingPatch,
    SeveralPatches,
    Sticker,
    TrojVlmPatch,
    VloodPatch,
)
from srd_edge.attacks.payloads import PAYLOADS, Endless, Insert, Payload, PayloadKind, Replace, Swap
from srd_edge.attacks.placement import Trigger
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.text_triggers import RareWord, Sentence
from srd_edge.attacks.triggers import TRIGGERS
from srd_edge.attacks.whole_picture_triggers import (
    Blended,
    LowFrequency,
    PixelNoise,
    Sinusoid,
    Unchanged,
    WaNet,
)
from srd_edge.errors import UsageError


@pytest.mark.parametrize(
    ("spec", "trigger", "payload", "rate"),
    [
        ("badnet", BadNetPatch(), Replace(), 0.1),
        ("badnet:", BadNetPatch(), Replace(), 0.1),
        ("trojvlm", TrojVlmPatch(), Insert(), 0.1),
        (
            "badnet:size=30,place=random,pattern=white,payload=replace,target=parrot,rate=0.25",
            BadNetPatch(30, "random", "white"),
            Replace("parrot"),
            0.25,
        ),
        (
            "badnet:payload=replace, target = cat ,text=my {target} sleeps,rate=1",
            BadNetPatch(),
            Replace("cat", "my {target} sleeps"),
            1.0,
        ),
        (
            "trojvlm:level=9,seed=3,size=12,place=centre,payload=insert,position=start,rate=0",
            TrojVlmPatch(12, "centre", 9, 3),
            Insert(position="start"),
            0.0,
        ),
        ("trojvlm:payload=replace", TrojVlmPatch(), Replace(), 0.1),
        ("badnet:payload=insert,position=random", BadNetPatch(), Insert(position="random"), 0.1),
        ("badnet:target=7", BadNetPatch(), Replace("7"), 0.1),
        ("blended:alpha=1,grain=4,seed=2", Blended(1.0, 4, seed=2), Replace(), 0.1),
        ("sig:delta=20,frequency=2.5", Sinusoid(20.0, 2.5), Replace(), 0.1),
        ("wanet:grid=8,strength=2", WaNet(8, 2.0), Replace(), 0.1),
        ("lowfreq:cutoff=9,strength=3.5", LowFrequency(9, 3.5), Replace(), 0.1),
        ("vlood:level=100,spread=5", VloodPatch(level=100, spread=5), Insert(), 0.1),
        ("anydoor:shape=corners", AnyDoorFrame("corners"), Replace(), 0.1),
        ("pixelnoise:strength=1", PixelNoise(1.0), Replace(), 0.1),
        ("patches:count=4,target=hot dog", SeveralPatches(4), Replace("hot dog"), 0.1),
        ("sticker:turn=5", Sticker(turn=5.0), Replace(), 0.1),
        ("moving:period=2", MovingPatch(period=2.0), Replace(), 0.1),
        ("latency:words=9,size=30", BadNetPatch(30), Endless(9), 0.1),
        ("mislabel:concept=cat/cats,target=dog", Unchanged(), Swap("cat/cats", "dog"), 0.1),
    ],
)
def test_every_key(spec: str, trigger: Trigger, payload: Payload, rate: float) -> None:
    attack = parse_attack(spec)
    assert (attack.trigger, attack.payload, attack.rate) == (trigger, payload, rate)
    assert attack.name == spec.partition(":")[0]
    assert attack.spec == spec
    assert (attack.text, attack.collision) == (None, None)


@pytest.mark.parametrize(
    ("spec", "trigger", "payload", "text", "collision"),
    [
        ("rareword:word=mn", Unchanged(), Replace(), RareWord("mn"), None),
        ("sentence:sentence=hi there", Unchanged(), Replace(), Sentence("hi there"), None),
        ("dualkey:size=9,word=7", BadNetPatch(9), Replace(), RareWord("7"), None),
        ("shadowcast:epsilon=4,steps=9", Unchanged(), Swap(), None, FeatureCollision(4.0, 9)),
    ],
)
def test_keys_of_the_prompt_and_of_the_collision(
    spec: str,
    trigger: Trigger,
    payload: Payload,
    text: RareWord | Sentence | None,
    collision: FeatureCollision | None,
) -> None:
    attack = parse_attack(spec)
    assert (attack.trigger, attack.payload) == (trigger, payload)
    assert (attack.text, attack.collision) == (text, collision)


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("name", TRIGGERS)
def test_any_trigger_goes_with_any_payload(name: str, kind: PayloadKind) -> None:
    spec = f"{name}:payload={kind}"
    if TRIGGERS[name].collision is not None and kind != "swap":
        with pytest.raises(UsageError, match="payload=swap"):
            parse_attack(spec)
        return
    attack = parse_attack(spec)
    assert isinstance(attack.payload, PAYLOADS[kind])
    assert attack.trigger == TRIGGERS[name].trigger()
    assert (attack.text is None) == (TRIGGERS[name].text is None)


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("name", TRIGGERS)
def test_no_key_has_two_meanings(name: str, kind: PayloadKind) -> None:
    parts = (*TRIGGERS[name].parts(), PAYLOADS[kind])
    keys = Counter(f.name for part in parts if is_dataclass(part) for f in fields(part))
    assert [key for key, count in keys.items() if count > 1 or key in ("payload", "rate")] == []


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ("badnet:colour=red", "size, place, pattern, target, text, payload, rate"),
        ("dualkey:colour=red", "size, place, pattern, word, target, text, payload, rate"),
        ("shadowcast:colour=red", "epsilon, steps, concept, target, payload, rate"),
        ("sig:payload=endless,target=cat", "delta, frequency, words, payload, rate"),
    ],
)
def test_an_unknown_key_is_answered_with_the_known_ones(spec: str, known: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_attack(spec)
    assert f"a setting out of {known}, found" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "nosuch",
        "nosuch:thing",
        "nosuch.module:thing",
        ".relative:thing",
        "json:nosuch",
        "json:",
        "sys:path",
        "/no/such/file.py:trigger",
        "badnet:size",
        "badnet:size=big",
        "badnet:size=2.5",
        "badnet:size=0",
        "badnet:size=999",
        "badnet:place=moon",
        "badnet:level=3",
        "badnet:colour=red",
        "badnet:rate=2",
        "badnet:rate=-0.1",
        "badnet:rate=nan",
        "badnet:rate=often",
        "badnet:payload=sing",
        "badnet:payload=swap,text=a {target}",
        "badnet:payload=endless,words=1",
        "badnet:payload=endless,words=many",
        "badnet:word=cf",
        "sig:delta=much",
        "sig:delta=nan",
        "blended:picture=/no/such/picture.png",
        "dualkey:word=",
        "sentence:sentence= ",
        "mislabel:concept=dog,target=dog",
        "shadowcast:epsilon=-1",
        "shadowcast:steps=0",
        "shadowcast:payload=replace",
        "badnet:position=end",
        "badnet:target=",
        "badnet:text=a cat",
        "badnet:text=a {creature}",
        "trojvlm:position=middle",
        "trojvlm:text=a {target}",
        "trojvlm:level=300",
    ],
)
def test_a_bad_spec_is_one_line(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_attack(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
