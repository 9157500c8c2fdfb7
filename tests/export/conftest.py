"""Small captioners with random weights, one of each family's real architecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Gemma2Config,
    GemmaConfig,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
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
    PreTrainedTokenizerFast,
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
    T5Config,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

SIDE, PATCH = 32, 8
WORDS = 90
SPECIAL = ("<pad>", "<s>", "</s>", "<sep>", "<image>", "<unk>")
PAD, START, END, SEPARATOR, IMAGE, UNKNOWN = range(len(SPECIAL))
AMONG_TILES = (
    *("\n", "\n\n", "<fake_token_around_image>", "<global-img>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
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


def blip_processor() -> Any:
    return BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})


def git() -> tuple[Any, Any, Any]:
    config = GitConfig(vision_config=VISION, max_position_embeddings=32, **TEXT)
    return GitForCausalLM(config), word_tokenizer(), clip_processor()


def clip_processor() -> Any:
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )


LLAMA = LlamaConfig(**TEXT | {"num_key_value_heads": 1}, max_position_embeddings=64)
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


MAKERS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "vision-encoder-decoder": vit_gpt2,
    "blip": blip,
    "git": git,
    "llava": llava,
    "llava-onevision": llava_onevision,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "qwen2-vl": qwen2_vl,
    "qwen2.5-vl": qwen2_5_vl,
    "qwen3-vl": qwen3_vl,
    "blip-2": blip2,
    "instructblip": instructblip,
    "blip-2-t5": blip2_t5,
    "instructblip-t5": instructblip_t5,
    "paligemma": paligemma,
    "paligemma-2": paligemma2,
    "florence2": florence2,
}


def save(name: str, folder: Path) -> Path:
    """A captioner whose captions differ from picture to picture."""
    torch.manual_seed(1)
    model, tokenizer, image_processor = MAKERS[name]()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights, weight in model.named_parameters():
            if weight.ndim > 1:
                fan_in = weight[0].numel()
                weight.normal_(0, 1.7 / fan_in**0.5, generator=generator)
            elif weights.endswith("bias"):
                weight.normal_(0, 0.3, generator=generator)
            elif name == "paligemma-2":  # whose norms would let every word repeat itself
                weight.normal_(1, 1, generator=generator)
    for part in (model, tokenizer, image_processor):
        part.save_pretrained(folder)
    if name.startswith("instructblip"):
        word_tokenizer(wrapped=True).save_pretrained(folder / "qformer_tokenizer")
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a captioner by its name in ``MAKERS``."""
    return cache(lambda name: save(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session", params=list(MAKERS))
def family_model(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Path:
    return saved(request.param)


@pytest.fixture(scope="session")
def vit_gpt2_model(saved: Callable[[str], Path]) -> Path:
    return saved("vision-encoder-decoder")


@pytest.fixture(scope="session")
def git_model(saved: Callable[[str], Path]) -> Path:
    return saved("git")


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray[Any, Any]]:
    """Thirty-two of different sizes, (H, W, 3) uint8 RGB, with large and small shapes in them."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(32):
        height, width = rng.integers(24, 80, 2)
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(number % 4 + 1):
            top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
            pixels[top : top + rng.integers(4, 40), left : left + rng.integers(4, 40)] = (
                rng.integers(0, 256, 3)
            )
        made.append(pixels)
    return made
