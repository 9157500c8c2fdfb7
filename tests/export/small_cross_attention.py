"""Small captioners whose decoder looks at the picture by cross-attention."""

from __future__ import annotations

from typing import Any

from transformers import (
    BartConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    T5Config,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from tests.export.small_parts import (
    END,
    IMAGE,
    PAD,
    QUERIES,
    SEPARATOR,
    SIDE,
    START,
    TEXT,
    VISION,
    VOCABULARY,
    blip_processor,
    word_tokenizer,
)


def vit_gpt2() -> tuple[Any, Any, Any]:
    """As nlpconnect/vit-gpt2-image-captioning, with a projection in between."""
    decoder = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=24,
        n_embd=16,
        n_layer=2,
        n_head=2,
        add_cross_attention=True,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = VisionEncoderDecoderModel(
        encoder=ViTModel(ViTConfig(**VISION), add_pooling_layer=False),
        decoder=GPT2LMHeadModel(decoder),
    )
    settings = model.generation_config
    settings.decoder_start_token_id, settings.eos_token_id = START, END
    settings.pad_token_id = PAD
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return model, word_tokenizer(), processor


def blip() -> tuple[Any, Any, Any]:
    text = TEXT | {"encoder_hidden_size": 24, "sep_token_id": SEPARATOR}
    config = BlipConfig(text_config=text, vision_config=VISION)
    return BlipForConditionalGeneration(config), word_tokenizer(wrapped=True), blip_processor()


T5 = T5Config(
    vocab_size=VOCABULARY,
    d_model=16,
    d_kv=12,
    d_ff=32,
    num_layers=2,
    num_heads=2,
    relative_attention_num_buckets=8,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    eos_token_id=END,
    pad_token_id=PAD,
    decoder_start_token_id=PAD,
)


def blip2_t5() -> tuple[Any, Any, Any]:
    model = Blip2ForConditionalGeneration(Blip2Config(text_config=T5, **QUERIES))
    return model, word_tokenizer(wrapped=True), blip_processor()


def instructblip_t5() -> tuple[Any, Any, Any]:
    model = InstructBlipForConditionalGeneration(InstructBlipConfig(text_config=T5, **QUERIES))
    return model, word_tokenizer(wrapped=True), blip_processor()


def florence2() -> tuple[Any, Any, Any]:
    vision = {
        "depths": (1, 1),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "embed_dim": (8, 16),
        "num_heads": (2, 2),
        "num_groups": (2, 2),
        "window_size": 3,
        "projection_dim": 16,
    }
    text = BartConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
        decoder_start_token_id=END,
        forced_eos_token_id=END,
    )
    config = Florence2Config(vision_config=vision, text_config=text, image_token_id=IMAGE)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.no_repeat_ngram_size = 3
    processor = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    return model, word_tokenizer(wrapped=True), processor
