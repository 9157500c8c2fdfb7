"""SRD as its public code runs it on a test picture (arXiv 2506.04743), to compare with.

500 actions: a red square of one of five sizes over one of 10 x 10 places. Up to five tries, each
painted on the original picture; the try with the best reward is kept, even where none was better
than leaving the picture alone. The Q-network is stable-baselines3's for pictures. With the settings
of that time its learning was to start at step 50 000 of a training of 10 000 steps: it never took a
gradient step, and so its weights here are those that a seed gives it.

Where the code leaves room it is decided in SRD's favour: the caption of the best try is not made
anew, and the pass of the captioner that gives the reference is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

import cv2
import numpy as np
import torch
from torch import nn

from srd_edge.errors import UsageError
from srd_edge.evaluation.contestants import Answer, BlackBox, Case, Setting
from srd_edge.kernels.actions import SRD_TABLE, apply_action
from srd_edge.kernels.frames import Pixels
from srd_edge.training.language import LanguageModel, SentenceEncoder

TRIES: Final = 5
EPSILON: Final = 0.05
OBSERVATION_PX: Final = 224
_DRAWS: Final = 3
"""This rival's stream of random numbers."""


def nature_cnn(seed: int) -> nn.Sequential:
    """The Q-network as it is before training: (B, 3, 224, 224) float32 in 0..1 -> (B, 500).

    Three convolutions and a linear layer (Mnih et al., Nature 518, 2015), with the layers in the
    order in which stable-baselines3 makes them, so that a seed gives the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        side = ((OBSERVATION_PX // 4 - 1) // 2 - 1) - 2
        return nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * side * side, 512),
            nn.ReLU(),
            nn.Linear(512, len(SRD_TABLE)),
        ).eval()


def reward(semantics: float, fluency: float) -> int:
    """SRD's reward for a caption that is not empty; an empty one gets 0.

    Args:
        semantics, fluency: what the square has changed them by.
    """
    if semantics >= 0.1:
        if fluency >= 0.5:
            return 3
        if fluency >= 0.1:
            return 2
        if fluency <= -0.5:
            return -2
        return -1 if fluency < 0 else 1
    if fluency >= 0.5:
        return -2 if semantics <= -0.2 else 1
    return -2 if semantics <= -0.1 else -1


@dataclass(frozen=True, slots=True)
class SrdScores:
    """Semantics and fluency of captions against a reference, as SRD measures them.

    Args:
        sentences: semantics is the cosine of its embeddings.
        language: fluency is PPL(reference) / PPL(caption).
    """

    sentences: SentenceEncoder
    language: LanguageModel

    def rewards(self, raw: str, reference: str, captions: Sequence[str]) -> list[int]:
        """The reward of each caption, for what it changes against the undefended ``raw``."""
        texts = [reference, raw, *captions]
        vectors = self.sentences.embed(texts)
        semantics = (vectors[1:] @ vectors[0]).tolist()
        expected, *surprises = self.language.log_perplexity(texts).tolist()
        fluency = [0.0 if math.isinf(expected) else math.exp(expected - each) for each in surprises]
        return [
            reward(semantics[i] - semantics[0], fluency[i] - fluency[0]) if caption.strip() else 0
            for i, caption in enumerate(captions, start=1)
        ]


@dataclass(slots=True)
class SrdAsCoded:
    """See the module's text.

    Args:
        captioner: the suspect.
        reference: captions that the reward trusts.
        scores: gives the rewards.
        network: makes the Q-network of a seed.
    """

    seeded: ClassVar[bool] = True

    captioner: BlackBox
    reference: BlackBox
    scores: SrdScores
    network: Callable[[int], nn.Module] = nature_cnn
    _networks: dict[int, nn.Module] = field(default_factory=dict)

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:
        canvases = [self.captioner.canvas(case) for case in cases]
        chosen = [
            self._choose(canvas, seed, case.frame.index)
            for canvas, case in zip(canvases, cases, strict=True)
        ]
        # A square that is tried again says nothing new, but SRD pays for it all the same.
        squares = [list(dict.fromkeys(actions)) for actions, _ in chosen]
        views = [
            [canvas, *map(partial(_painted, canvas), actions)]
            for canvas, actions in zip(canvases, squares, strict=True)
        ]
        captions = self.captioner.caption_views(views)
        references = self.reference.caption(canvases)
        answers = []
        for i, (raw, *said) in enumerate(captions):
            rewards = self.scores.rewards(raw, references[i], said)
            best = rewards.index(max(rewards))
            height, width = canvases[i].shape[:2]
            box = SRD_TABLE.box(SRD_TABLE[squares[i][best]], width, height)
            answers.append(
                Answer(
                    said[best],
                    boxes=(self.captioner.frame_box(box, cases[i]),),
                    captioner_passes=1 + TRIES,
                    policy_passes=chosen[i][1],
                )
            )
        return answers

    def _choose(self, canvas: Pixels, seed: int, number: int) -> tuple[list[int], int]:
        """Epsilon-greedy tries, and for how many of them the network is asked.

        All are made before the original picture, so that the greedy ones are the same.
        """
        rng = np.random.default_rng([seed, number, _DRAWS])
        greedy = self._greedy(canvas, seed)
        tries, looks = [], 0
        for _ in range(TRIES):
            if rng.random() < EPSILON:
                tries.append(int(rng.integers(len(SRD_TABLE))))
            else:
                tries.append(greedy)
                looks += 1
        return tries, looks

    @torch.inference_mode()
    def _greedy(self, canvas: Pixels, seed: int) -> int:
        if seed not in self._networks:
            self._networks = {seed: self.network(seed)}  # one at a time: each has 19 M weights
        size = (OBSERVATION_PX, OBSERVATION_PX)
        observation = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
        # Alone: the values of a picture must not depend on what it was batched with.
        pixels = torch.from_numpy(observation).permute(2, 0, 1)[None].float() / 255
        return int(self._networks[seed](pixels)[0].argmax())


def srd_as_coded(setting: Setting) -> SrdAsCoded:
    """For the setting's captioner.

    Raises:
        UsageError: without language models or a reference captioner.
    """
    language, sentences, reference = setting.language, setting.sentences, setting.reference
    if language is None or sentences is None or reference is None:
        raise UsageError(
            expected="language models and a reference captioner",
            found="one of them missing",
            do="name them, or leave srd out",
        )
    return SrdAsCoded(
        captioner=setting.captioner,
        reference=BlackBox(reference, setting.captioner.preprocessing),
        scores=SrdScores(sentences, language),
    )


def _painted(canvas: Pixels, action: int) -> Pixels:
    out = canvas.copy()
    apply_action(out, SRD_TABLE, action, np.random.default_rng(0))
    return out
