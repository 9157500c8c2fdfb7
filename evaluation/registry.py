"""Every contestant by name, in the order of the tables, and how one's own are found.

One's own is a callable that takes a `Setting` and returns a `Contestant`, by the name of
``path/to/file.py:object`` or ``package.module:object``. Other packages add theirs under the
entry-point group ``srd_edge.defences``.
"""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any, Final, Literal, TypeAlias

from srd_edge.errors import UsageError
from srd_edge.evaluation.contestants import Contestant, Kind, Setting
from srd_edge.evaluation.controls import (
    DefenderContestant,
    NeverActs,
    RandomPolicy,
    ReferenceAlone,
    UntrainedPolicy,
)
from srd_edge.evaluation.fixed import BLUR, JPEG, SHRINK_PAD, Oracle, best_fixed, fixed
from srd_edge.evaluation.output_filter import output_filter
from srd_edge.evaluation.srd_as_coded import srd_as_coded
from srd_edge.evaluation.votes import MaskVote, Scan, Strip, screened
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.reference import ReferenceCaptioner

Need: TypeAlias = Literal["policy", "check", "own_reference", "language", "reference"]
ENTRY_POINTS: Final = "srd_edge.defences"


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant before it is made.

    Args:
        kind: its place in the table.
        about: one line for people.
        build: makes it; some look at dev pictures for it.
        needs: what of a setting it cannot do without.
        seeded: whether its answers depend on the seed.
        told: whether it is told the attack, so that its answers to clean pictures depend on that.
    """

    kind: Kind
    about: str
    build: Callable[[Setting], Contestant]
    needs: tuple[Need, ...] = ()
    seeded: bool = False
    told: bool = False


def _random(setting: Setting) -> Contestant:
    policy = RandomPolicy(len(setting.bundle.manifest.actions))
    return DefenderContestant(Defender(setting.bundle, policy=policy, check=False), policy)


def _untrained(setting: Setting) -> Contestant:
    policy = UntrainedPolicy(setting.bundle.manifest)
    return DefenderContestant(Defender(setting.bundle, policy=policy, check=False), policy)


def _check_alone(setting: Setting) -> Contestant:
    manifest = setting.bundle.manifest
    assert manifest.check is not None
    manifest = replace(manifest, check=replace(manifest.check, retries=0))
    table = manifest.actions
    stop = table.stop_index
    policy = NeverActs(len(table) - 1 if stop is None else stop, len(table))
    return DefenderContestant(Defender(replace(setting.bundle, manifest=manifest), policy=policy))


ENTRIES: Final[Mapping[str, Entry]] = {
    "none": Entry(
        "undefended",
        "the captioner as it is",
        lambda setting: DefenderContestant(Defender(setting.bundle, defend=False)),
    ),
    "policy": Entry(
        "policy",
        "the bundle's own defence, as `srd-edge run` has it: Q-network and check",
        lambda setting: DefenderContestant(Defender(setting.bundle)),
        needs=("policy",),
    ),
    "policy_alone": Entry(
        "control",
        "the Q-network without the check",
        lambda setting: DefenderContestant(Defender(setting.bundle, check=False)),
        needs=("policy", "check"),
    ),
    "check_alone": Entry(
        "control",
        "the check without the Q-network: what is refused is answered by the reference captioner",
        _check_alone,
        needs=("policy", "check"),
    ),
    "reference": Entry(
        "control",
        "the reference captioner in the suspect's place, for every picture",
        lambda setting: ReferenceAlone(ReferenceCaptioner(setting.bundle)),
        needs=("own_reference",),
    ),
    "random": Entry(
        "control", "an action drawn at random, stop included", _random, ("policy",), seeded=True
    ),
    "untrained": Entry(
        "control", "the Q-network before training", _untrained, ("policy",), seeded=True
    ),
    "best_fixed": Entry(
        "control",
        "the one perturbation that serves best everywhere; chosen on dev, told the trigger",
        best_fixed,
        told=True,
    ),
    "oracle": Entry(
        "control",
        "grey over the trigger and nothing else; told where it is",
        lambda setting: Oracle(setting.captioner),
    ),
    "blur": Entry(
        "rival",
        "Gaussian blur, sigma 2 px of 128, over every picture",
        lambda setting: fixed(setting, BLUR),
    ),
    "jpeg": Entry(
        "rival", "JPEG of quality 20, every picture", lambda setting: fixed(setting, JPEG)
    ),
    "shrink_pad": Entry(
        "rival",
        "every picture shrunk to 0.7 of its sides and padded",
        lambda setting: fixed(setting, SHRINK_PAD),
    ),
    "strip": Entry(
        "rival",
        "after STRIP: declines pictures whose caption survives 6 blends with others",
        lambda setting: screened(Strip.prepare(setting), setting),
        seeded=True,
    ),
    "onion": Entry(
        "rival",
        "after ONION: drops words of the caption that a language model does not expect",
        output_filter,
        needs=("language",),
    ),
    "mask_vote": Entry(
        "rival",
        "the caption that agrees most with others, of 6 views with half of the picture hidden",
        lambda setting: screened(MaskVote(setting.captioner), setting),
        seeded=True,
    ),
    "scan": Entry(
        "rival",
        "after BDMAE: repairs the one of 3 x 3 cells that changes the caption most",
        lambda setting: screened(Scan(setting.captioner), setting),
    ),
    "srd": Entry(
        "rival",
        "SRD as coded: the best of 5 red squares, by a Q-network that was never trained",
        srd_as_coded,
        needs=("language", "reference"),
        seeded=True,
    ),
}

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": tuple(ENTRIES),
    "default": ("none", "policy", "policy_alone", "check_alone", "random", "untrained"),
}


def resolve(names: Sequence[str]) -> dict[str, Entry]:
    """The entries of ``names`` in their order, each once.

    Args:
        names: of ``ENTRIES``, ``GROUPS``, other packages' defences, or one's own.

    Raises:
        UsageError: for anything else.
    """
    singles = [single for name in names for single in GROUPS.get(name, (name,))]
    return {name: _entry(name) for name in dict.fromkeys(singles)}


def missing(entry: Entry, setting: Setting) -> str | None:
    """Why ``entry`` cannot be made for ``setting``, in one line; None where it can."""
    if "policy" in entry.needs and setting.bundle.manifest.policy is None:
        return "the bundle has no policy"
    check = setting.bundle.manifest.check
    if "check" in entry.needs and check is None:
        return "the bundle has no check"
    if "own_reference" in entry.needs and (check is None or not check.reference):
        return "the bundle has no reference captioner"
    if "reference" in entry.needs and setting.reference is None:
        return "needs --clean-captioner"
    if "language" in entry.needs and (setting.language is None or setting.sentences is None):
        return "needs language models"
    return None


def _entry(name: str) -> Entry:
    if name in ENTRIES:
        return ENTRIES[name]
    for installed in entry_points(group=ENTRY_POINTS, name=name):
        return _own(installed.load(), name)
    return _own(_load(name), name)


def _own(build: Any, name: str) -> Entry:
    """Somebody else's: nobody knows what its answers depend on, so that nothing is assumed."""
    if not callable(build):
        raise _unknown(name, f"{build!r}, which cannot be called")
    about = (build.__doc__ or "").strip().partition("\n")[0]
    return Entry("rival", about or name, build, seeded=True, told=True)


def _load(name: str) -> Any:
    head, _, attribute = name.partition(":")
    if not head or not attribute:
        raise _unknown(name, repr(name))
    try:
        if head.endswith(".py"):
            return runpy.run_path(head)[attribute]
        return getattr(importlib.import_module(head), attribute)
    except Exception as error:  # whatever the user's own code raises while it is loaded
        found = f"{name!r} ({type(error).__name__}: {' '.join(str(error).split())})"
        raise _unknown(name, found) from error


def _unknown(name: str, found: str) -> UsageError:
    known = ", ".join([*ENTRIES, *GROUPS])
    return UsageError(
        expected=f"a defence out of {known}, package.module:object or file.py:object",
        found=found,
        do=f"correct the defence {name!r}",
    )
