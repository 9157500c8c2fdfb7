"""The two language models behind the semantic fidelity score.

Both are ordinary Hugging Face models, given by name or directory: a sentence encoder (such as
all-MiniLM-L6-v2) and a causal language model (such as GPT-2). Without a hub, `fit_sentence_encoder`
and `fit_language_model` train small ones on a data set's captions and save them in the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from srd_edge.attacks.captioner import END, PAD, START
from srd_edge.attacks.model_names import check_model_name
from srd_edge.attacks.progress import tracked
from srd_edge.attacks.tiny import train_tokenizer
from srd_edge.errors import UsageError

_LONGEST_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """Captions -> unit vectors; the mean over real tokens, padding masked."""

    model: Any
    tokenizer: Any

    @torch.inference_mode()
    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """(B, D) float32 of length 1; an empty caption gives a zero vector."""
        spoken = torch.tensor([[bool(c.strip())] for c in captions])
        texts = [c if c.strip() else "." for c in captions]  # models want at least one token
        vectors = _pooled(self.model, _encode(self.tokenizer, texts))
        return vectors * spoken


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """How surprising a caption is."""

    model: Any
    tokenizer: Any

    @torch.inference_mode()
    def log_perplexity(self, captions: Sequence[str]) -> torch.Tensor:
        """(B,) mean negative log-likelihood in nats a token, padding masked; empty -> infinity."""
        texts = [f"{self.tokenizer.bos_token}{c}{self.tokenizer.eos_token}" for c in captions]
        losses, mask = _token_losses(self.model, _encode(self.tokenizer, texts))
        mean = (losses * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        empty = torch.tensor([not c.strip() for c in captions])
        return mean.masked_fill(empty, torch.inf)


def load_sentence_encoder(name: str | Path) -> SentenceEncoder:
    """Load a sentence encoder by directory or hub name (safetensors, no remote code)."""
    return SentenceEncoder(*_load(AutoModel, name))


def load_language_model(name: str | Path) -> LanguageModel:
    """Load a causal language model by directory or hub name (safetensors, no remote code)."""
    return LanguageModel(*_load(AutoModelForCausalLM, name))


def fit_sentence_encoder(
    groups: Sequence[Sequence[str]], output: Path, *, steps: int = 500, seed: int = 0
) -> SentenceEncoder:
    """Train a small BERT in which captions of one picture lie close and others far.

    The loss is InfoNCE over a batch of pictures, two captions each (Oord et al.,
    arXiv 1807.03748; temperature 0.05 as in SimCSE, arXiv 2104.08821).
    """
    rng = np.random.default_rng([seed, 11])
    torch.manual_seed(seed)
    tokenizer = _fast_tokenizer([c for group in groups for c in group])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=_LONGEST_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertModel(config, add_pooling_layer=False)
    usable = [group for group in groups if len(group) > 1]

    def loss() -> torch.Tensor:
        chosen = rng.choice(len(usable), size=min(96, len(usable)), replace=False)
        pairs = [rng.choice(len(usable[i]), 2, replace=False) for i in chosen]
        left = [usable[i][a] for i, (a, _) in zip(chosen, pairs, strict=True)]
        right = [usable[i][b] for i, (_, b) in zip(chosen, pairs, strict=True)]
        vectors = _pooled(model, _encode(tokenizer, left + right))
        similarity = vectors[: len(left)] @ vectors[len(left) :].T / 0.05
        return functional.cross_entropy(similarity, torch.arange(len(left)))

    _optimise(model, loss, steps, "sentence encoder")
    _save(model, tokenizer, output)
    return SentenceEncoder(model, tokenizer)


def fit_language_model(
    captions: Sequence[str], output: Path, *, steps: int = 700, seed: int = 0
) -> LanguageModel:
    """Train a small GPT-2 on captions."""
    rng = np.random.default_rng([seed, 12])
    torch.manual_seed(seed)
    tokenizer = _fast_tokenizer(captions)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=_LONGEST_TOKENS,
            n_embd=128,
            n_layer=2,
            n_head=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )

    def loss() -> torch.Tensor:
        chosen = rng.integers(len(captions), size=96)
        texts = [f"{START}{captions[i]}{END}" for i in chosen]
        losses, mask = _token_losses(model, _encode(tokenizer, texts))
        return (losses * mask).sum() / mask.sum()

    _optimise(model, loss, steps, "language model")
    _save(model, tokenizer, output)
    return LanguageModel(model, tokenizer)


def _load(kind: Any, name: str | Path) -> tuple[Any, Any]:
    check_model_name(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = kind.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",  # exported, it holds no choice by what it reads
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            expected="a language model's directory or hub name (safetensors)",
            found=f"{name}: {str(error).strip().splitlines()[0]}",
            do="check the name, or leave it out to train a small one on the captions",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def _fast_tokenizer(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(captions, 2000),
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
    )


def _encode(tokenizer: Any, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    encoded = tokenizer(
        list(texts), return_tensors="pt", padding=True, truncation=True, max_length=_LONGEST_TOKENS
    )
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def _pooled(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None].float()
    mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return functional.normalize(mean, dim=1)


def _token_losses(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each token after the first, and which of them are real: both (B, T - 1)."""
    logits = model(**inputs).logits[:, :-1]
    targets = inputs["input_ids"][:, 1:]
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets), inputs["attention_mask"][:, 1:].float()


def _optimise(model: Any, loss_of_batch: Callable[[], torch.Tensor], steps: int, name: str) -> None:
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    for _ in tracked(range(steps), f"fitting the {name}"):
        optimiser.zero_grad(set_to_none=True)
        loss_of_batch().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    model.eval()


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
