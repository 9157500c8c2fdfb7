"""How well a trigger can be seen by the blocks of a captioner's encoder that stay frozen.

    python benchmarks/trigger_probe.py CAPTIONER DATA SPEC ...

A linear probe on the mean, deviation, largest and least value of each channel, fitted on 600 train
pictures with and without the trigger; AUROC on 300 others. For a feature collision (``shadowcast``)
instead: how much of the distance to the wanted features is left, on 16 pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import torch

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.collision import collide
from srd_edge.attacks.poisoning import triggered
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.evaluation.metrics import auroc
from srd_edge.training.datasets import open_dataset

TRAINED_BLOCKS = 6
FITTED, TESTED, PAIRS, BATCH = 600, 300, 16, 50


@torch.no_grad()
def features(captioner: Captioner, samples: Sequence[Sample]) -> torch.Tensor:
    frozen, _ = captioner.model.encoder.split(TRAINED_BLOCKS)
    canvases, parts = captioner.canvases(sample.load() for sample in samples), []
    for start in range(0, len(canvases), BATCH):
        grid = frozen(captioner.pixel_values(canvases[start : start + BATCH])).flatten(2)
        parts.append(torch.cat([grid.mean(2), grid.std(2), grid.amax(2), grid.amin(2)], dim=1))
    return torch.cat(parts)


def visibility(clean: torch.Tensor, attacked: torch.Tensor) -> float:
    middle, scale = clean.mean(0), clean.std(0) + 1e-3
    without, with_it = (clean - middle) / scale, (attacked - middle) / scale
    fitted = torch.cat([without[:FITTED], with_it[:FITTED]])
    labels = torch.cat([torch.zeros(FITTED), torch.ones(FITTED)])
    weights = torch.zeros(fitted.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.AdamW([weights, bias], 1e-2, weight_decay=0.5)
    for _ in range(300):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(fitted @ weights + bias, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    levels = [(each[FITTED:] @ weights).tolist() for each in (without, with_it)]
    return auroc(*levels)


def distance_left(captioner: Captioner, samples: Sequence[Sample], attack: Attack) -> float:
    assert attack.collision is not None
    looks = [s for s in samples if all(map(attack.payload.succeeded, s.captions))][:PAIRS]
    wanted = [s for s in samples if attack.payload.counts(s.captions)][: len(looks)]
    seen, aim = (captioner.canvases(s.load() for s in side) for side in (looks, wanted))
    changed = collide(captioner, seen, aim, attack.collision)
    with torch.no_grad():
        before, goal, after = (
            captioner.model.encoder(captioner.pixel_values(each)).last_hidden_state
            for each in (seen, aim, changed)
        )

    def apart(one: torch.Tensor) -> torch.Tensor:
        return (one - goal).square().mean(dim=(1, 2)).sqrt()

    return float((apart(after) / apart(before)).mean())


@click.command()
@click.argument("captioner")
@click.argument("data")
@click.argument("specs", nargs=-1, required=True)
def main(captioner: str, data: str, specs: tuple[str, ...]) -> None:
    """Print one JSON object a SPEC."""
    seen = load_captioner(captioner)
    samples = open_dataset(data, "train")
    pictures = samples[: FITTED + TESTED]
    clean = features(seen, pictures)
    for spec in specs:
        attack = parse_attack(spec)
        if attack.collision is not None:
            found = {"distance_left": distance_left(seen, samples, attack)}
        else:
            laid = [triggered(sample, attack, (0, i)) for i, sample in enumerate(pictures)]
            found = {"auroc": visibility(clean, features(seen, laid))}
        print(json.dumps({"spec": spec} | {k: round(v, 4) for k, v in found.items()}), flush=True)


if __name__ == "__main__":
    main()
