"""How a contestant stands beside the policy: both ways round, and by the figures as they are.

No difference is called significant here. The intervals are on the page, and two contestants met the
same pictures, so that intervals that overlap do not make a difference chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

Standing: TypeAlias = Literal[
    "better", "lower ASR, larger drop", "equal", "higher ASR, smaller drop", "worse"
]
"""Of a contestant, seen from the policy. ``better`` is worse in neither ASR nor clean drop, and
better in one."""
STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)

LOWER_IS_BETTER: Final = (
    "asr",
    "clean_drop",
    "false_alarms",
    "captioner_passes_clean",
    "captioner_passes_triggered",
    "ratio_clean",
    "ratio_triggered",
)
HIGHER_IS_BETTER: Final = ("rp", "auroc", "tpr_at_1_percent_fpr", "mask_iou")


def standing(row: Mapping[str, Any], policy: Mapping[str, Any]) -> Standing:
    """Compare two contestants of one attack; by ASR alone where a clean drop is missing."""
    asr = _compare(row["asr"], policy["asr"])
    drops = row["clean_drop"], policy["clean_drop"]
    drop = 0 if None in drops else _compare(*drops)
    if asr * drop < 0:
        return "lower ASR, larger drop" if asr < 0 else "higher ASR, smaller drop"
    total = asr + drop
    if total == 0:
        return "equal"
    return "better" if total < 0 else "worse"


def better_figures(
    row: Mapping[str, Any], policy: Mapping[str, Any], names: Sequence[str] | None = None
) -> frozenset[str]:
    """The figures, out of ``names``, in which ``row`` is better than ``policy``.

    A figure that one of the two lacks is nobody's.
    """
    signs = dict.fromkeys(LOWER_IS_BETTER, -1) | dict.fromkeys(HIGHER_IS_BETTER, 1)
    return frozenset(
        name
        for name in (signs if names is None else names)
        if row.get(name) is not None
        and policy.get(name) is not None
        and signs[name] * _compare(row[name], policy[name]) > 0
    )


def count_standings(
    attacks: Sequence[Mapping[str, Any]],
) -> dict[str, Counter[Standing]]:
    """For every rival and control: how often it stands how, over attacks that did not fail."""
    counts: dict[str, Counter[Standing]] = {}
    for attack in attacks:
        policy = find_policy(attack["contestants"])
        if policy is None or attack["victim"]["verdict"] == "failed attack":
            continue
        for row in attack["contestants"]:
            if row["kind"] in ("control", "rival"):
                counts.setdefault(row["name"], Counter())[standing(row, policy)] += 1
    return counts


def find_policy(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The contestant that the others are compared with; None where it takes no part."""
    return next((row for row in rows if row["kind"] == "policy"), None)


def _compare(ours: float, theirs: float) -> int:
    return (ours > theirs) - (ours < theirs)
