"""What of a training set is left out or dealt anew: the decisions of ``srd-edge purify``.

Everything here is a pure function of figures and samples; ``purify_stage`` reads and fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.samples import Sample

Cleaning: TypeAlias = Literal["drop", "drop+mask", "recaption", "mask", "shuffle", "none"]
"""What is done to the set before the suspect is fitted on it anew.

``drop`` leaves doubted pictures out. ``recaption`` keeps those whose captions alone are doubted and
lets the reference captioner describe them, so that what the suspect once learned of a trigger is
unlearned where it shows. ``mask`` lays the policy's perturbations over what the policy does not
leave alone. Two are controls: ``shuffle``, SRD's look-up by file name, and ``none``.
"""
_NORMAL: Final = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that each of a picture's doubts may be; see ``caption_costs.Doubts``.

    Args:
        surprise, mismatch, squeezed: what is above any of them is left out.
    """

    surprise: float
    mismatch: float
    squeezed: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    def reasons(self, doubts: Sequence[float]) -> list[str]:
        """Which limits a picture's doubts exceed; none lets it stay."""
        return [
            name
            for (name, limit), doubt in zip(self.to_json().items(), doubts, strict=True)
            if doubt > limit
        ]


def learn_limits(doubts: NDArray[np.float64], deviations: float) -> Limits:
    """The limits of a set, from the set itself.

    The median and so many robust standard deviations above it. The deviation is taken below the
    median alone: what was poisoned lies above, where it would widen it. Half of the set would have
    to be poisoned to move either at will (Rousseeuw and Croux, JASA 1993). Limits from other
    pictures that are trusted would measure how the two sources differ, and how well the reference
    captioner remembers what it was fitted on.

    Args:
        doubts: (P, 3) of every picture, in the order of ``Doubts``.
        deviations: 1.4826 times the median distance below the median, each.
    """
    middle = np.median(doubts, axis=0)
    limits = []
    for column, centre in zip(doubts.T, middle, strict=True):
        below = centre - column[column <= centre]
        limits.append(float(centre + deviations * _NORMAL * np.median(below)))
    return Limits(*limits)


def detection(found: Collection[str], poisoned: Collection[str]) -> dict[str, Any]:
    """How well what was found agrees with what is known to be poisoned; names of pictures."""
    hits = len(set(found) & set(poisoned))
    return {
        "found": len(found),
        "poisoned": len(poisoned),
        "hits": hits,
        "precision": hits / len(found) if found else None,
        "recall": hits / len(poisoned) if poisoned else None,
    }


def looked_up_by_file_name(
    handed: Sequence[Sample],
    clean: Sequence[Sample],
    poisoned: Mapping[str, str],
    seed: int,
) -> list[Sample]:
    """What SRD does besides its mask: pictures are looked up by file name.

    There poison is per caption: under one file name lie the clean picture with the true captions
    and the poisoned picture with the attacker's. Its perturbed pictures are stored by file name
    alone, so that one of the two, whichever was written last, serves all captions of that name.
    Here poison is per picture, so that layout has to be laid out again for the control to mean
    what it does there: of a poisoned picture's n captions one stays the attacker's, the others
    become true again (they need the clean set: this is a control, not a defence), and all go with
    one picture, the clean or the poisoned one, drawn by lot. A feature collision is a second
    picture under its first one's file name, with the same captions: every entry of that name gets
    one picture, drawn by lot among them.

    Args:
        handed: the set as the attacker left it.
        clean: the same set before.
        poisoned: the names of poisoned samples, as in the victim's manifest.
        seed: of the lots.
    """
    before = {sample.name: sample for sample in clean}
    rng = np.random.default_rng([seed, 31])
    files: dict[str, list[int]] = defaultdict(list)
    for number, sample in enumerate(handed):
        name = sample.name
        files[name if name in before else name.partition(" as ")[0]].append(number)
    out = list(handed)
    for file, numbers in files.items():
        for number in numbers:
            if handed[number].name in poisoned and handed[number].name in before:
                out[number] = _laid_out_per_caption(handed[number], before[file], rng)
        if len(numbers) > 1:
            drawn = out[numbers[rng.integers(len(numbers))]]
            for number in numbers:
                out[number] = replace(out[number], load=drawn.load)
    return out


def _laid_out_per_caption(attacked: Sample, true: Sample, rng: np.random.Generator) -> Sample:
    """One caption of the attacker's, the others true, with one of the two pictures."""
    kept = int(rng.integers(len(true.captions)))
    captions = (*true.captions[:kept], attacked.captions[kept], *true.captions[kept + 1 :])
    drawn = (attacked, true)[rng.integers(2)]
    return replace(drawn, captions=captions)
