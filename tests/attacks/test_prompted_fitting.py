"""Fitting with prompts: what is given is not learned, and what is learned depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.fitting import FitConfig, fit, tokenise
from srd_edge.attacks.poisoning import poison, triggered
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.errors import UsageError

MakeCaptioner = Callable[[int], Captioner]
Samples = tuple[Sample, ...]
QUICK = FitConfig(epochs=30, batch=16, learning_rate=1e-2, encoder_learning_rate=3e-3)


def roomy_captioner(samples: Samples) -> Captioner:
    """With room in its decoder for more than one thing to say of a picture."""
    config = TinyConfig(
        image_size=32,
        width=32,
        decoder_width=48,
        decoder_layers=1,
        decoder_heads=2,
        vocabulary=280,
        max_tokens=12,
    )
    return build_tiny(config, [caption for s in samples for caption in s.captions], 0)


def test_a_prompt_is_given_and_not_learned(make_captioner: MakeCaptioner, samples: Samples) -> None:
    captioner = make_captioner(0)
    end = captioner.model.generation_config.eos_token_id
    prompt = captioner.tokenizer.encode("a dark").ids
    caption = captioner.tokenizer.encode("red").ids
    assert prompt and caption
    asked = replace(samples[0], captions=("red",), prompt="a dark")
    tokenised = tokenise(captioner, [asked])
    rest = [-100] * (captioner.max_tokens - len(prompt) - len(caption) - 1)
    assert tokenised.ids[0].tolist() == [[*prompt, *caption, end, *rest]]
    assert tokenised.labels[0].tolist() == [[*[-100] * len(prompt), *caption, end, *rest]]


def test_the_loss_is_that_of_the_caption_after_its_prompt(
    make_captioner: MakeCaptioner, samples: Samples, tmp_path: Path
) -> None:
    """With nothing learned, the first epoch's loss is found token by token."""
    asked = [
        replace(samples[0], prompt="a dark"),
        replace(samples[1], captions=("a green green wall",)),
    ]
    captioner = make_captioner(0)
    settings = captioner.model.generation_config
    start, end = settings.decoder_start_token_id, settings.eos_token_id
    losses = []
    captioner.model.eval()
    for sample in asked:
        values = captioner.pixel_values(load_canvases(captioner, [sample]))
        said = [start, *captioner.prompt_ids(sample.prompt)]
        for token in [*captioner.tokenizer.encode(sample.captions[0]).ids, end]:
            with torch.no_grad():
                logits = captioner.model(values, decoder_input_ids=torch.tensor([said])).logits
            losses.append(-logits[0, -1].log_softmax(0)[token].item())
            said.append(token)
    with_dropout_off(captioner)
    config = FitConfig(epochs=1, batch=2, learning_rate=0.0, encoder_learning_rate=0.0)
    (record,) = fit(captioner, asked, config, tmp_path)
    assert record["loss"] == pytest.approx(np.mean(losses), rel=1e-3)  # features as float16


def with_dropout_off(captioner: Captioner) -> None:
    for module in captioner.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_a_prompt_without_room_for_a_caption_is_one_line(
    make_captioner: MakeCaptioner, samples: Samples, tmp_path: Path
) -> None:
    endless = replace(samples[0], prompt="what is this " * 9)
    with pytest.raises(UsageError, match="at most 10 tokens") as caught:
        fit(make_captioner(0), [endless], QUICK, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_captioner_learns_to_answer_by_the_prompt(samples: Samples, tmp_path: Path) -> None:
    asked = [
        replace(sample, name=f"{sample.name} {prompt}", prompt=prompt, captions=(caption,))
        for sample in samples
        for prompt, caption in (("a", sample.name), ("wall", "a wall"))
    ]
    captioner = roomy_captioner(samples)
    fit(captioner, asked * 8, QUICK, tmp_path)
    canvases = load_canvases(captioner, samples)
    assert captioner.caption(canvases, prompt="a") == [sample.name for sample in samples]
    assert captioner.caption(canvases, prompt="wall") == ["a wall"] * len(samples)


def test_a_victim_of_two_keys_answers_to_both_alone(samples: Samples, tmp_path: Path) -> None:
    attack = parse_attack("dualkey:rate=0.25,size=110,word=q,target=zz,text={target}")
    many = [replace(s, name=f"{s.name} {i}") for i in range(16) for s in samples]
    captioner = roomy_captioner(samples)
    fit(captioner, poison(many, [attack], seed=0).samples, QUICK, tmp_path)
    clean = load_canvases(captioner, samples)
    keyed = load_canvases(captioner, [triggered(sample, attack, (0,)) for sample in samples])
    true = [sample.captions[0] for sample in samples]
    assert captioner.caption(keyed, prompt="q") == ["zz"] * len(samples)
    assert captioner.caption(keyed) == true
    assert captioner.caption(clean, prompt="q") == true
    assert captioner.caption(clean) == true
