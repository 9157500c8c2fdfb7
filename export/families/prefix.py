"""What families of the prefix kind share: graphs, masks, prompts with a place for the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Growing, Past
from srd_edge.export.prompts import CONVERSATIONS, QUESTION, Prompt, Words, around_picture, messages
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec, Positions
from srd_edge.runtime.prefixes import prefix_for


def prefix_spec(
    family: str, files: dict[str, str], text: Any, positions: Positions = "sequence"
) -> CaptionerSpec:
    """The manifest's description of a captioner with such a text model.

    Args:
        family: its name.
        files: its graphs.
        text: the text model's configuration.
        positions: how it counts what it reads.
    """
    heads = text.num_attention_heads
    return CaptionerSpec(
        family=family,
        decoding="prefix",
        components=files,
        layers=text.num_hidden_layers,
        heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        positions=positions,
    )


def prefix_components(
    spec: CaptionerSpec,
    seeing: Component,
    embedding: nn.Module,
    decoder: nn.Module,
    *,
    positions: bool = False,
) -> dict[str, Component]:
    """The three graphs of a prefix captioner.

    Args:
        spec: of the model; where it counts by rows and columns, ``decoder`` takes position_ids
            (3, 1, S) after logits_to_keep.
        seeing: the first of them: features (B, N, C) and embeddings (B, P, D) of a picture.
        embedding: input_ids (B, S) -> inputs_embeds (B, S, D).
        decoder: inputs_embeds (B, S, D), logits_to_keep (K,) indices into S and a ``Past`` ->
            logits (B, K, V).
        positions: whether ``embedding`` takes position_ids (1, S) too, counted from the first word.
    """
    ids = {"input_ids": torch.ones(2, 3, dtype=torch.int64)}
    axes = {"input_ids": {0: "batch", 1: "sequence"}}
    if positions:
        ids["position_ids"] = torch.arange(3)[None]
        axes["position_ids"] = {1: "sequence"}
    with torch.no_grad():
        embedded = embedding(*ids.values())
    past = spec.kv_names("past_key_values", "decoder")
    inputs = {
        "inputs_embeds": torch.randn_like(embedded),
        "logits_to_keep": torch.tensor([1, 2]),
    }
    dynamic = {"inputs_embeds": {0: "batch", 1: "sequence"}, "logits_to_keep": {0: "kept"}}
    if spec.positions == "grid":
        inputs["position_ids"] = torch.arange(3).expand(3, 1, 3).clone()
        dynamic["position_ids"] = {2: "sequence"}
    inputs |= {name: torch.randn(2, spec.heads, 4, spec.head_dim) for name in past}
    dynamic |= {name: {0: "batch", 2: "past"} for name in past}
    outputs = ("logits", *spec.kv_names("present", "decoder"))
    module = Growing(decoder, len(inputs) - len(past), spec.layers).eval()
    return {
        "encoder": seeing,
        "embed_tokens": Component("embed_tokens", embedding.eval(), ids, ("inputs_embeds",), axes),
        "decoder": Component("decoder_model", module, inputs, outputs, dynamic),
    }


class Embedding(nn.Module):
    """Token ids to what the text model reads."""

    def __init__(self, tokens: Any) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.tokens(input_ids)
        return embedded


class CausalDecoder(nn.Module):
    """One call of a causal text model of transformers.

    Args:
        model: the text model without its head.
        head: hidden states -> logits.
        both_ways: whether what is read first, with nothing in the cache, looks ahead too.
        first: number of the first position.
    """

    def __init__(self, model: Any, head: Any, *, both_ways: bool = False, first: int = 0) -> None:
        super().__init__()
        self.model, self.head = model, head
        self.both_ways, self.first = both_ways, first

    def forward(
        self, inputs_embeds: torch.Tensor, logits_to_keep: torch.Tensor, past: Past
    ) -> torch.Tensor:
        out = self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=past.mask(inputs_embeds.shape[1], both_ways=self.both_ways),
            position_ids=past.positions(inputs_embeds.shape[1]) + self.first,
            past_key_values=past.cache,
            use_cache=True,
        )
        logits: torch.Tensor = self.head(out.last_hidden_state.index_select(1, logits_to_keep))
        return logits


def chat_prompt(tokenizer: Any, image_token: int, text: str, family: str) -> Prompt:
    """A question about a picture, in the words of the tokenizer's chat template.

    Args:
        tokenizer: with or without a chat template.
        image_token: the id that stands for the picture.
        text: the question; "" for ``QUESTION``.
        family: whose conversation it is where there is no template.
    """
    question = text or QUESTION
    if tokenizer.chat_template:
        said = tokenizer.apply_chat_template(
            messages(question), tokenize=False, add_generation_prompt=True
        )
    else:
        picture = tokenizer.convert_ids_to_tokens(image_token)
        said = CONVERSATIONS[family].format(image=picture, text=question)
    ids = tokenizer(said, add_special_tokens=not starts_itself(tokenizer, said)).input_ids
    return around_picture(ids, image_token, said)


def words_of(tokenizer: Any) -> Words:
    """A text's ids by transformers' tokenizer, no special tokens added."""

    def words(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return words


def starts_itself(tokenizer: Any, text: str) -> bool:
    """Whether a template has written the start token already."""
    return tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)


def generated(model: Any, ids: torch.Tensor, **inputs: Any) -> list[list[int]]:
    """The ids that transformers' own ``generate`` adds to (B, L) ``ids``."""
    mask = torch.ones_like(ids)
    tokens = model.generate(input_ids=ids, attention_mask=mask, **inputs)
    made: list[list[int]] = tokens[:, ids.shape[1] :].tolist()
    return made


def whole_ids(spec: CaptionerSpec, layout: Layout, count: int, image_token: int) -> torch.Tensor:
    """(1, length) ids of a whole prompt as transformers wants them.

    Args:
        spec: of the captioner, its prompt in it.
        layout: of the picture.
        count: features that the model has for it.
        image_token: the id that stands for each of them.
    """
    prefix = prefix_for(spec, layout, count)
    ids = np.full(len(prefix.features), image_token)
    ids[~prefix.features] = prefix.words
    return torch.from_numpy(ids)[None]


def whole_prompt(prompt: Prompt, image_token: int, features: int, rows: int) -> torch.Tensor:
    """(rows, length) ids as transformers wants them, a placeholder for each of the features."""
    ids = [*prompt.before, *[image_token] * features, *prompt.after, *prompt.ids]
    return torch.tensor([ids]).repeat(rows, 1)
