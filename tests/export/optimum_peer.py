"""optimum's export of a captioner, and transformers' captions of it, for `test_optimum.py`.

    optimum_peer.py MODEL PIXELS OUTPUT

Runs in an environment of its own (`constraints-optimum.txt`), so that it imports nothing of this
project. MODEL is a directory, or `trocr`: a small one with random weights and TrOCR's decoder,
whose cache holds cross-attention too. Prints ids for each number of beams.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optimum.exporters.onnx import main_export  # type: ignore[import-not-found]
from transformers import (
    TrOCRConfig,
    TrOCRForCausalLM,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

START, END, PAD = 1, 2, 0
LONGEST = 9


def trocr(folder: Path) -> Path:
    vision = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    words = TrOCRConfig(
        vocab_size=96,
        d_model=16,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        cross_attention_hidden_size=24,
        is_decoder=True,
        add_cross_attention=True,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = VisionEncoderDecoderModel(
        encoder=ViTModel(vision, add_pooling_layer=False), decoder=TrOCRForCausalLM(words)
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.7 / weight[0].numel() ** 0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.3, generator=generator)
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id, settings.eos_token_id = START, END
        settings.pad_token_id = PAD
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def captions(model: Any, pixels: torch.Tensor, beams: int) -> list[list[int]]:
    rows = []
    for picture in pixels:
        made = model.generate(
            picture[None], num_beams=beams, do_sample=False, max_new_tokens=LONGEST
        )
        row = made[0, 1:].tolist()
        rows.append(row[: row.index(END)] if END in row else row)
    return rows


def main(name: str, pixels: str, output: Path) -> None:
    source = trocr(output.with_name(f"{output.name}-source")) if name == "trocr" else Path(name)
    main_export(str(source), output, task="image-to-text-with-past")
    model = VisionEncoderDecoderModel.from_pretrained(source).eval()
    looked_at = torch.from_numpy(np.load(pixels))
    print(json.dumps({beams: captions(model, looked_at, beams) for beams in (1, 3)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
