"""LLaVA-OneVision: LLaVA that looks at pictures of any resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.llava import Llava, LlavaVision
from srd_edge.export.families.prefix import (
    CausalDecoder,
    Embedding,
    chat_prompt,
    generated,
    prefix_components,
    whole_ids,
)
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.any_resolution import AnyResolution
from srd_edge.kernels.image_processor import read_image_processor
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.kernels.tiling import Layout


class LlavaOnevision(Llava):
    """See the module's text."""

    name = "llava-onevision"
    model_types: tuple[str, ...] = ("llava_onevision",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        return chat_prompt(tokenizer, model.config.image_token_id, text, self.name)

    def preprocessing(self, model: Any, image_processor: Any) -> Preprocessing:
        # Which only makes a batch of pictures with different numbers of tiles.
        settings = image_processor.to_dict() | {"do_pad": False}
        return replace(read_image_processor(settings), tiling=_tiling(model.config))

    def bounded(self, model: Any, spec: Preprocessing, most_pixels: int) -> Preprocessing:
        bounded = spec.bounded(most_pixels)
        assert isinstance(bounded.tiling, AnyResolution)
        model.config.image_grid_pinpoints = [list(size) for size in bounded.tiling.resolutions]
        return bounded

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec, inner = self.spec(model, {}), model.model
        seeing = Component(
            "vision_encoder",
            _Vision(inner, model.config).eval(),
            {
                "pixel_values": torch.randn(3, 3, height, width),
                "gather_index": torch.arange(20).reshape(5, 4) % 7,
                "gather_weight": torch.rand(5, 4),
            },
            ("last_hidden_state", *spec.memory_names),
            {
                "pixel_values": {0: "tiles"},
                "gather_index": {0: "features"},
                "gather_weight": {0: "features"},
            },
        )
        decoder = CausalDecoder(inner.language_model, model.lm_head)
        embedding = Embedding(inner.get_input_embeddings())
        return prefix_components(spec, seeing, embedding, decoder)

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        features = len(_tiling(model.config).gathered(layout)[0])
        spec = self.prompted(model, prompt, {})
        ids = whole_ids(spec, layout, features, model.config.image_token_id)
        return generated(
            model,
            ids,
            pixel_values=pixel_values[None],
            image_sizes=torch.tensor([[layout.height, layout.width]]),
            **settings,
        )


class _Vision(nn.Module):
    """Tiles to one row of embeddings, by the runtime's list of which features make the picture."""

    def __init__(self, model: Any, config: Any) -> None:
        super().__init__()
        self.look, self.line_end = LlavaVision(model, config), model.image_newline

    def forward(
        self, pixel_values: torch.Tensor, gather_index: torch.Tensor, gather_weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, embedded = self.look(pixel_values)
        known = torch.cat([embedded.flatten(0, 1), self.line_end[None]])
        chosen = known[gather_index] * gather_weight[:, :, None]
        return features, chosen.sum(dim=1)[None]


def _tiling(config: Any) -> AnyResolution:
    vision = config.vision_config
    return AnyResolution(
        tuple((height, width) for height, width in config.image_grid_pinpoints),
        int(config.vision_aspect_ratio.removeprefix("anyres_max_")),
        vision.image_size // vision.patch_size,
    )
