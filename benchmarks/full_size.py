"""Captioners of published size with random weights, made once and kept under $SRD_EDGE_CACHE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

WORDS: Final = "<unk>"


def vit_gpt2() -> tuple[Any, Any, int]:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
        ViTModel,
    )

    model = VisionEncoderDecoderModel(
        encoder=ViTModel(ViTConfig(), add_pooling_layer=False),
        decoder=GPT2LMHeadModel(GPT2Config(add_cross_attention=True)),
    )
    settings = model.generation_config
    settings.decoder_start_token_id = settings.eos_token_id = settings.pad_token_id = 50256
    model.config.decoder_start_token_id = model.config.pad_token_id = 50256
    return model, ViTImageProcessorPil(size={"height": 224, "width": 224}), 50257


def blip_base() -> tuple[Any, Any, int]:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    vision = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision |= {"intermediate_size": 3072, "image_size": 384, "patch_size": 16}
    text = {"encoder_hidden_size": 768, "num_attention_heads": 12}
    model = BlipForConditionalGeneration(BlipConfig(vision_config=vision, text_config=text))
    return model, BlipImageProcessorPil(), 30524


def git_base() -> tuple[Any, Any, int]:
    from transformers import CLIPImageProcessorPil, GitConfig, GitForCausalLM

    return GitForCausalLM(GitConfig()), CLIPImageProcessorPil(), 30522


def qwen2_vl_2b() -> tuple[Any, Any, int]:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
    text |= {"num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    text["rope_parameters"]["mrope_section"] = [16, 24, 24]
    config = Qwen2VLConfig(
        vision_config={"hidden_size": 1536, "embed_dim": 1280, "depth": 32, "num_heads": 16},
        text_config=text,
        image_token_id=151655,
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = 151645
    # A captioner on a device sees small pictures: at most 8 x 8 cells.
    size = {"shortest_edge": 4 * 28**2, "longest_edge": 64 * 28**2}
    return model, Qwen2VLImageProcessorPil(size=size), 151936


MODELS: Final[dict[str, Callable[[], tuple[Any, Any, int]]]] = {
    "vit-gpt2": vit_gpt2,
    "blip-base": blip_base,
    "git-base": git_base,
    "qwen2-vl-2b": qwen2_vl_2b,
}


def made(name: str, place: Path) -> Path:
    """The model's directory, written once."""
    folder = place / name
    if not (folder / "done").is_file():
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        torch.manual_seed(0)
        model, processor, words = MODELS[name]()
        spread(model)
        vocabulary = {WORDS: 0} | {f"w{number}": number for number in range(1, words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        image = getattr(model.config, "image_token_id", None)
        special = [] if image is None else [f"w{image}"]
        words_as = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=special)
        for part in (model, processor, words_as):
            part.save_pretrained(folder)
        (folder / "done").touch()
    return folder


@torch.no_grad()
def spread(model: Any) -> None:
    """Weights as wide as their inputs are many, as in the tests: captions follow the picture."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(0, 1.7 / weight[0].numel() ** 0.5, generator=generator)
        elif name.endswith("bias"):
            weight.normal_(0, 0.3, generator=generator)
