"""Small captioners whose decoder reads the picture as what goes before the words."""

from __future__ import annotations

from typing import Any

from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPVisionConfig,
    Gemma2Config,
    GemmaConfig,
    GitConfig,
    GitForCausalLM,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    OPTConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
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
    clip_processor,
    word_tokenizer,
)


def git() -> tuple[Any, Any, Any]:
    config = GitConfig(vision_config=VISION, max_position_embeddings=32, **TEXT)
    return GitForCausalLM(config), word_tokenizer(), clip_processor()


LLAMA = LlamaConfig(**TEXT | {"num_key_value_heads": 1}, max_position_embeddings=64)


def llava() -> tuple[Any, Any, Any]:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION), text_config=LLAMA, image_token_index=IMAGE
    )
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}w1 {% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text }} {% endfor %}w2 {% endfor %}"
    )
    return LlavaForConditionalGeneration(config), tokenizer, clip_processor()


def llava_onevision() -> tuple[Any, Any, Any]:
    grid = [[rows * SIDE, columns * SIDE] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION | {"vision_use_head": False}),
        text_config=Qwen2Config(**TEXT | {"num_key_value_heads": 1}, max_position_embeddings=256),
        image_token_index=IMAGE,
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_2",
    )
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid
    )
    return LlavaOnevisionForConditionalGeneration(config), word_tokenizer(), processor


AMONG_TILES = (
    *("\n", "\n\n", "<fake_token_around_image>", "<global-img>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)


def smolvlm_of(model: Any, config: Any, processor: Any) -> tuple[Any, Any, Any]:
    sizes = {"size": {"longest_edge": 3 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    text = TEXT | {"num_key_value_heads": 1, "vocab_size": VOCABULARY + len(AMONG_TILES)}
    settings = config(
        vision_config=VISION,
        text_config=LlamaConfig(**text, max_position_embeddings=256),
        image_token_id=IMAGE,
        scale_factor=2,
    )
    return model(settings), word_tokenizer(further=AMONG_TILES), processor(**sizes)


def smolvlm() -> tuple[Any, Any, Any]:
    return smolvlm_of(SmolVLMForConditionalGeneration, SmolVLMConfig, SmolVLMImageProcessorPil)


def idefics3() -> tuple[Any, Any, Any]:
    return smolvlm_of(Idefics3ForConditionalGeneration, Idefics3Config, Idefics3ImageProcessorPil)


QWEN_VISION = {"depth": 3, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
QWEN_TEXT = TEXT | {
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
}


def qwen_of(model: Any, config: Any, vision: dict[str, Any]) -> tuple[Any, Any, Any]:
    settings = config(
        vision_config=QWEN_VISION | vision,
        text_config=QWEN_TEXT,
        image_token_id=IMAGE,
        vision_start_token_id=SEPARATOR,
    )
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 512, "longest_edge": 4096}
    )
    return model(settings), word_tokenizer(), processor


def qwen2_vl() -> tuple[Any, Any, Any]:
    vision = {"embed_dim": 24, "hidden_size": 16, "mlp_ratio": 2}
    return qwen_of(Qwen2VLForConditionalGeneration, Qwen2VLConfig, vision)


def qwen2_5_vl() -> tuple[Any, Any, Any]:
    vision = {
        **{"hidden_size": 24, "out_hidden_size": 16, "intermediate_size": 32},
        **{"window_size": 16, "fullatt_block_indexes": [1]},
    }
    return qwen_of(Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, vision)


def qwen3_vl() -> tuple[Any, Any, Any]:
    vision = {
        **{"hidden_size": 24, "out_hidden_size": 16, "intermediate_size": 32},
        **{"num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2]},
    }
    return qwen_of(Qwen3VLForConditionalGeneration, Qwen3VLConfig, vision)


def blip2() -> tuple[Any, Any, Any]:
    text = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        max_position_embeddings=64,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    config = Blip2Config(text_config=text, **QUERIES)
    return Blip2ForConditionalGeneration(config), word_tokenizer(wrapped=True), blip_processor()


def instructblip() -> tuple[Any, Any, Any]:
    model = InstructBlipForConditionalGeneration(InstructBlipConfig(text_config=LLAMA, **QUERIES))
    return model, word_tokenizer(wrapped=True), blip_processor()


def paligemma_of(text: Any) -> tuple[Any, Any, Any]:
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION),
        text_config=text,
        image_token_index=IMAGE,
        projection_dim=16,
    )
    processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return PaliGemmaForConditionalGeneration(config), word_tokenizer(), processor


GEMMA = TEXT | {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}


def paligemma() -> tuple[Any, Any, Any]:
    return paligemma_of(GemmaConfig(**GEMMA))


def paligemma2() -> tuple[Any, Any, Any]:
    return paligemma_of(Gemma2Config(**GEMMA, final_logit_softcapping=3.0, query_pre_attn_scalar=8))
