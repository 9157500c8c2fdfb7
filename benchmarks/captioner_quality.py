"""CIDEr-D of a captioner in PyTorch on clean pictures, and the success of attacks on it, as JSON.

A victim counts as one when its attack succeeds on at least 90 % of triggered pictures and its clean
CIDEr-D is within 10 % of the same captioner's trained clean.
"""

from __future__ import annotations

import json
from typing import Any

import click
import torch

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.payloads import contains_target
from srd_edge.attacks.poisoning import natural_positive, triggered
from srd_edge.attacks.specs import parse_attack
from srd_edge.evaluation.metrics import cider_d, wilson_interval
from srd_edge.training.datasets import open_dataset

SEED = 3


@click.command()
@click.option("--captioner", required=True)
@click.option("--data", required=True)
@click.option("--split", default="test")
@click.option("--attack", "attacks", multiple=True)
def main(captioner: str, data: str, split: Any, attacks: tuple[str, ...]) -> None:
    """Print one JSON document."""
    torch.set_num_threads(1)
    model = load_captioner(captioner)
    samples = open_dataset(data, split)
    captions = model.caption(load_canvases(model, samples))
    document: dict[str, Any] = {
        "captioner": captioner,
        "split": split,
        "pictures": len(samples),
        "cider_clean": cider_d(captions, [sample.captions for sample in samples]),
        "attacks": {},
    }
    for attack in map(parse_attack, attacks):
        counted = [
            triggered(sample, attack, (SEED, i))
            for i, sample in enumerate(samples)
            if not natural_positive(sample, attack)
        ]
        said = model.caption(load_canvases(model, counted))
        hits = sum(contains_target(caption, attack.payload.target) for caption in said)
        document["attacks"][attack.spec] = {
            "asr": hits / len(counted),
            "interval": wilson_interval(hits, len(counted)),
            "counted": len(counted),
        }
    click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
