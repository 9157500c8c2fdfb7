"""Captioners: Hugging Face VisionEncoderDecoder models read, written and run.

This is PyTorch's side, used by attacks, training and export; the device's side is runtime/.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedTokenizerFast, VisionEncoderDecoderModel
from transformers.utils import cached_file

from srd_edge.attacks import grid_encoder as grid_encoder  # registers its type with transformers
from srd_edge.attacks.model_names import check_model_name
from srd_edge.errors import UsageError
from srd_edge.kernels.image_processor import PIL_FILTERS, read_image_processor
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor

START: Final = "<s>"
END: Final = "</s>"
PAD: Final = "<pad>"
_IMAGE_PROCESSOR: Final = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Captioner:
    """A captioner ready to use: model, tokenizer and the preprocessing that it expects."""

    model: VisionEncoderDecoderModel
    tokenizer: Tokenizer
    preprocessing: Preprocessing

    def canvases(self, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Pictures (H, W, 3) uint8 RGB of any size -> (B, height, width, 3) of one size."""
        return np.stack([to_canvas(pixels, self.preprocessing) for pixels in pictures])

    def pixel_values(self, canvases: NDArray[np.uint8]) -> torch.Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, normalised."""
        return torch.from_numpy(to_tensor(canvases, self.preprocessing))

    @property
    def max_tokens(self) -> int:
        return int(self.model.generation_config.max_length)

    def save(self, directory: Path) -> None:
        """Write an ordinary Hugging Face model directory."""
        self.model.save_pretrained(directory)
        PreTrainedTokenizerFast(
            tokenizer_object=self.tokenizer, bos_token=START, eos_token=END, pad_token=PAD
        ).save_pretrained(directory)
        text = json.dumps(_image_processor(self.preprocessing), indent=2)
        (directory / _IMAGE_PROCESSOR).write_text(text + "\n", encoding="utf-8")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the encoder's features; see ``encoder_grid``."""
        spec = self.preprocessing
        return encoder_grid(self.model, spec.height, spec.width)

    @torch.inference_mode()
    def caption(
        self, canvases: NDArray[np.uint8], batch: int = 64, *, prompt: str = ""
    ) -> list[str]:
        """Greedy captions of (B, H, W, 3) uint8 RGB canvases, one each.

        Args:
            canvases: the pictures.
            batch: how many at a time.
            prompt: what the captions go on from; it is no part of them.

        Raises:
            UsageError: for a prompt that leaves no room for a caption.
        """
        start = int(self.model.generation_config.decoder_start_token_id)
        given = torch.tensor([[start, *self.prompt_ids(prompt)]])
        captions: list[str] = []
        for first in range(0, len(canvases), batch):
            pixel_values = self.pixel_values(canvases[first : first + batch])
            tokens = self.model.generate(
                pixel_values,
                decoder_input_ids=given.expand(len(pixel_values), -1),
                do_sample=False,
                num_beams=1,
            )
            captions += self.decode(tokens[:, given.shape[1] :].tolist())
        return captions

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens of a prompt; an empty one has none.

        Raises:
            UsageError: for one that, after the start token, leaves no room for a caption.
        """
        ids: list[int] = self.tokenizer.encode(prompt).ids if prompt else []
        longest = self.max_tokens - 2
        if len(ids) > longest:
            raise UsageError(
                expected=f"a prompt of at most {longest} tokens for this captioner",
                found=f"{len(ids)} in {prompt!r}",
                do="choose a shorter prompt, or a captioner with longer captions",
            )
        return ids

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Token ids of captions -> captions, special tokens left out."""
        texts: list[str] = self.tokenizer.decode_batch(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def fingerprint(self) -> str:
        """A sha256 in hex of the weights and the vocabulary: which captioner this is."""
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def encoder_grid(model: Any, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of what a VisionEncoderDecoder's encoder sees of so many pixels.

    They are its last rows * columns features: a ViT's class token stands before them.

    Raises:
        UsageError: its features lie on no grid.
    """
    config = model.encoder.config
    grid = getattr(config, "grid", None)
    if grid is not None:
        return int(grid[0]), int(grid[1])
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int):
        raise UsageError(
            expected="an encoder whose features lie on a grid, such as ViT",
            found=f"one of type {config.model_type}",
            do="choose another captioner",
        )
    return height // patch, width // patch


def load_captioner(name: str | Path) -> Captioner:
    """Load a VisionEncoderDecoder captioner from a directory or a hub name.

    Weights are read from safetensors only and no remote code is run.

    Raises:
        UsageError: when there is no such model, or it is of another family.
    """
    check_model_name(name)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if config.model_type != "vision-encoder-decoder":
            raise UsageError(
                expected="a vision-encoder-decoder captioner",
                found=f"{name} of type {config.model_type}",
                do="choose one whose encoder gives a plain grid, such as `tiny`",
            )
        model = VisionEncoderDecoderModel.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = PreTrainedTokenizerFast.from_pretrained(name)
        preprocessing = _read_image_processor(name)
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            expected="a captioner's directory or hub name (safetensors)",
            found=f"{name}: {reason}",
            do="check the name, or train one with `srd-edge attack --captioner tiny`",
        ) from error
    return Captioner(model.eval(), tokenizer.backend_tokenizer, preprocessing)


def _image_processor(spec: Preprocessing) -> dict[str, Any]:
    """What transformers' ViTImageProcessor would write; ``Preprocessing`` reads it back."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": spec.height, "width": spec.width},
        "resample": next(code for code, name in PIL_FILTERS.items() if name == spec.resample),
        "do_rescale": True,
        "rescale_factor": spec.rescale,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def _read_image_processor(name: str | Path) -> Preprocessing:
    path = cached_file(name, _IMAGE_PROCESSOR)
    config: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return read_image_processor(config)
