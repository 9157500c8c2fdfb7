"""What small captioners are made of: sizes, a word a token, image processors and a Q-Former."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BlipImageProcessorPil, CLIPImageProcessorPil, PreTrainedTokenizerFast

SIDE, PATCH = 32, 8
WORDS = 90
SPECIAL = ("<pad>", "<s>", "</s>", "<sep>", "<image>", "<unk>")
PAD, START, END, SEPARATOR, IMAGE, UNKNOWN = range(len(SPECIAL))
VOCABULARY = len(SPECIAL) + WORDS
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": PATCH,
}
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
QFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "encoder_hidden_size": 24,
    "vocab_size": VOCABULARY,
}
QUERIES: dict[str, Any] = {
    "vision_config": VISION,
    "qformer_config": QFORMER,
    "num_query_tokens": 5,
    "image_token_index": IMAGE,
}


def word_tokenizer(
    *, wrapped: bool = False, further: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """A word a token: "w0" to "w89"; ``wrapped`` puts a start before and a separator after."""
    words = [*SPECIAL, *(f"w{number}" for number in range(WORDS)), *further]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    if wrapped:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A <sep>", special_tokens=[("<s>", START), ("<sep>", SEPARATOR)]
        )
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=["<sep>", "<image>", *further],
        **named,
    )


def blip_processor() -> Any:
    return BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})


def clip_processor() -> Any:
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
