"""``tiny``: a small VisionEncoderDecoder captioner, trained here from scratch.

The encoder is a `GridEncoder` (a small ResNet for scenes, a MobileNetV2 started from ImageNet for
photographs), the decoder a small GPT-2 with cross-attention.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MobileNetV2Config,
    ResNetConfig,
    VisionEncoderDecoderModel,
)

from srd_edge.attacks.captioner import END, PAD, START, Captioner
from srd_edge.attacks.grid_encoder import GridEncoder, GridEncoderConfig, load_folded_mobilenet
from srd_edge.errors import UsageError
from srd_edge.kernels.preprocess import Preprocessing


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any word can be written, the captions' own words are short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """The size of a ``tiny`` captioner.

    Args:
        image_size: side of the model's square canvas in pixels.
        encoder: ``resnet`` (small, from scratch) or ``mobilenet_v2`` (to start from ImageNet).
        width: channels of the ResNet's last stage (the others are a half and a quarter of it).
        decoder_width, decoder_layers, decoder_heads: the GPT-2's size.
        vocabulary: entries of the tokenizer, bytes included.
        max_tokens: longest caption in tokens.
        encoder_weights: an .npz of a MobileNetV2 with batch norm folded in.
    """

    image_size: int = 96
    encoder: str = "resnet"
    width: int = 128
    decoder_width: int = 128
    decoder_layers: int = 2
    decoder_heads: int = 4
    vocabulary: int = 400
    max_tokens: int = 32
    encoder_weights: str | None = None


SCENES_TINY: Final = TinyConfig()
PHOTOGRAPHS_TINY: Final = TinyConfig(
    image_size=224,
    encoder="mobilenet_v2",
    decoder_width=256,
    vocabulary=4000,
)


def build_tiny(config: TinyConfig, captions: Iterable[str], seed: int) -> Captioner:
    """A new ``tiny`` captioner with random weights (and a pretrained encoder where given)."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(captions, config.vocabulary)
    pad, start, end = (tokenizer.token_to_id(token) for token in (PAD, START, END))
    encoder = GridEncoder(_encoder_config(config))
    if config.encoder_weights is not None:
        load_folded_mobilenet(encoder, Path(config.encoder_weights))
    decoder = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokenizer.get_vocab_size(),
            n_positions=config.max_tokens,
            n_embd=config.decoder_width,
            n_layer=config.decoder_layers,
            n_head=config.decoder_heads,
            add_cross_attention=True,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.config.decoder_start_token_id = start
    model.config.pad_token_id, model.config.eos_token_id = pad, end
    for name, value in (
        ("decoder_start_token_id", start),
        ("bos_token_id", start),
        ("eos_token_id", end),
        ("pad_token_id", pad),
        ("max_length", config.max_tokens),
    ):
        setattr(model.generation_config, name, value)
    imagenet = config.encoder == "mobilenet_v2"
    preprocessing = Preprocessing(
        width=config.image_size,
        height=config.image_size,
        resample="bilinear",
        mean=(0.485, 0.456, 0.406) if imagenet else (0.5, 0.5, 0.5),
        std=(0.229, 0.224, 0.225) if imagenet else (0.25, 0.25, 0.25),
    )
    return Captioner(model, tokenizer, preprocessing)


def _encoder_config(config: TinyConfig) -> GridEncoderConfig:
    if config.encoder == "mobilenet_v2":
        backbone = MobileNetV2Config(image_size=config.image_size, tf_padding=False)
        hidden, stride = 1280, 32
    elif config.encoder == "resnet":
        backbone = ResNetConfig(
            embedding_size=config.width // 4,
            hidden_sizes=[config.width // 4, config.width // 2, config.width],
            depths=[1, 1, 1],
            layer_type="basic",
        )
        hidden, stride = config.width, 16
    else:
        raise UsageError(
            expected="an encoder out of resnet, mobilenet_v2", found=config.encoder, do="choose one"
        )
    side = -(-config.image_size // stride)
    settings = {"model_type": backbone.model_type} | backbone.to_diff_dict()
    return GridEncoderConfig(
        backbone=settings, hidden_size=hidden, grid=(side, side), image_size=config.image_size
    )
