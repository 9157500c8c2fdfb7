"""A captioner on disk is an ordinary Hugging Face directory, and comes back as it went."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, VisionEncoderDecoderModel, ViTImageProcessor

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.grid_encoder import load_folded_mobilenet
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.errors import DatasetError, UsageError
from srd_edge.kernels.frames import Pixels

MakeCaptioner = Callable[[int], Captioner]


def noise(count: int, side: int) -> list[Pixels]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def test_what_is_saved_is_loaded(make_captioner: MakeCaptioner, tmp_path: Path) -> None:
    captioner = make_captioner(0)
    captioner.model.eval()
    captioner.save(tmp_path)
    loaded = load_captioner(tmp_path)
    canvases = captioner.canvases(noise(5, 40))
    assert canvases.shape == (5, 32, 32, 3)
    assert loaded.preprocessing == captioner.preprocessing
    assert loaded.max_tokens == captioner.max_tokens == 12
    assert loaded.caption(canvases, batch=2) == captioner.caption(canvases)
    assert any(captioner.caption(canvases))


def test_transformers_alone_gives_the_same_captions(
    make_captioner: MakeCaptioner, tmp_path: Path
) -> None:
    captioner = make_captioner(0)
    captioner.model.eval()
    captioner.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    model = VisionEncoderDecoderModel.from_pretrained(tmp_path).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    pictures = noise(4, 32)
    values = processor(pictures, return_tensors="pt")["pixel_values"]
    ours = captioner.pixel_values(captioner.canvases(pictures))
    torch.testing.assert_close(values, ours, rtol=0, atol=1e-5)
    tokens = model.generate(values, do_sample=False)
    texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    assert texts == captioner.caption(captioner.canvases(pictures))
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()


@pytest.mark.parametrize("text", ["a red wall", "Ünïcode, ponctuation!", ""])
def test_any_words_survive_the_tokenizer(make_captioner: MakeCaptioner, text: str) -> None:
    captioner = make_captioner(0)
    ids = captioner.tokenizer.encode(text).ids
    assert captioner.decode([[1, *ids, 2]]) == [text]


@pytest.mark.parametrize("prompt", ["", "a", "a dark wall"])
def test_a_caption_is_the_likeliest_token_after_token_and_leaves_the_prompt_out(
    make_captioner: MakeCaptioner, prompt: str
) -> None:
    captioner = make_captioner(0)
    captioner.model.eval()
    settings = captioner.model.generation_config
    canvases = captioner.canvases(noise(3, 32))
    for canvas, caption in zip(canvases, captioner.caption(canvases, prompt=prompt), strict=True):
        values = captioner.pixel_values(canvas[None])
        given = [settings.decoder_start_token_id, *captioner.prompt_ids(prompt)]
        said: list[int] = []
        while len(given) + len(said) < captioner.max_tokens:
            tokens = torch.tensor([[*given, *said]])
            with torch.no_grad():
                token = int(
                    captioner.model(values, decoder_input_ids=tokens).logits[0, -1].argmax()
                )
            if token == settings.eos_token_id:
                break
            said.append(token)
        assert caption == captioner.tokenizer.decode(said).strip()
        assert said, "a caption of nothing compares nothing"


def test_no_pictures_have_no_captions(make_captioner: MakeCaptioner) -> None:
    captioner = make_captioner(0)
    assert captioner.caption(np.empty((0, 32, 32, 3), np.uint8)) == []
    assert captioner.caption(np.empty((0, 32, 32, 3), np.uint8), prompt="a") == []


def test_a_prompt_leaves_room_for_a_caption(make_captioner: MakeCaptioner) -> None:
    captioner = make_captioner(0)
    captioner.model.eval()
    canvases = captioner.canvases(noise(1, 32))
    fits, too_long = "0123456 8", "0123456 89"
    assert [len(captioner.tokenizer.encode(text).ids) for text in (fits, too_long)] == [10, 11]
    captioner.caption(canvases, prompt=fits)
    with pytest.raises(UsageError, match=r"at most 10 tokens .* found 11") as caught:
        captioner.caption(canvases, prompt=too_long)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_captioner_is_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    for directory in (tmp_path / "nothing", tmp_path, other):
        with pytest.raises(UsageError) as caught:
            load_captioner(directory)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_the_seed_decides_the_weights(
    make_captioner: MakeCaptioner, seeds: tuple[int, int]
) -> None:
    states = [make_captioner(seed).model.state_dict() for seed in seeds]
    same = [torch.equal(states[0][name], states[1][name]) for name in states[0]]
    assert all(same) == (seeds[0] == seeds[1])


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match="vgg"):
        build_tiny(TinyConfig(encoder="vgg"), ["a cat"], 0)


def reference_mobilenet(arrays: Any, values: torch.Tensor) -> torch.Tensor:
    """MobileNetV2 1.0 as its paper's table 2 (arXiv 1801.04381) has it, batch norm folded in."""

    def layer(x: torch.Tensor, name: str, stride: int = 1, *, linear: bool = False) -> torch.Tensor:
        weight = torch.from_numpy(arrays[f"{name}.weight"].astype("f4"))
        bias = torch.from_numpy(arrays[f"{name}.bias"].astype("f4"))
        groups = x.shape[1] // weight.shape[1]
        y = functional.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)
        return y if linear else functional.relu6(y)

    x = layer(values, "features.0", 2)
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for number, stride in enumerate(strides, start=1):
        name = f"features.{number}"
        y = x if number == 1 else layer(x, f"{name}.expand")
        y = layer(layer(y, f"{name}.dw", stride), f"{name}.project", linear=True)
        x = x + y if y.shape == x.shape else y
    return layer(x, "features.18")


def test_folded_weights_agree_with_a_slow_reference(shared_data: Path) -> None:
    weights = shared_data / "weights" / "mobilenetv2_imagenet_bnfolded_fp16.npz"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    config = TinyConfig(image_size=96, encoder="mobilenet_v2", encoder_weights=str(weights))
    captioner = build_tiny(config, ["a cat"], 0)
    captioner.model.eval()
    values = captioner.pixel_values(captioner.canvases(noise(2, 96)))
    with torch.inference_mode(), np.load(weights) as arrays:
        ours = captioner.model.encoder.backbone(values).last_hidden_state
        expected = reference_mobilenet(arrays, values)
    assert ours.shape == (2, 1280, 3, 3)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_missing_weights_are_named(make_captioner: MakeCaptioner, tmp_path: Path) -> None:
    encoder = make_captioner(0).model.encoder
    with pytest.raises(DatasetError, match=r"none\.npz"):
        load_folded_mobilenet(encoder, tmp_path / "none.npz")
