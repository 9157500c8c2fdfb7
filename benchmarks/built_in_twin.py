"""The built-in bundle's captioner in PyTorch: its weights, read back from its int8 graphs.

    python benchmarks/built_in_twin.py runs/twin

Not a way to make captioners: it knows the names that this one bundle's graphs have. With it a
benchmark can put PyTorch beside the built-in bundle without fitting the captioner anew.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.tiny import SCENES_TINY, build_tiny
from srd_edge.runtime.bundle import read_bundle
from srd_edge.training.datasets import open_dataset

MIDDLE = 128
"""The zero point of weights in blocks of 8 bits."""


def twin(directory: Path) -> Path:
    """Write the captioner as a Hugging Face model directory; which is ``directory``."""
    bundle = read_bundle(None)
    captions = [c for sample in open_dataset("scenes", "train", 500) for c in sample.captions]
    built = build_tiny(SCENES_TINY, captions, seed=0)
    parts = bundle.manifest.captioner.components
    encoder, decoder = (constants(bundle.path(parts[name])) for name in ("encoder", "decoder"))
    weights = encoder_weights(encoder) | decoder_weights(decoder, encoder)
    state = built.model.state_dict()
    expected = {name for name in state if not name.endswith("num_batches_tracked")}
    for name in expected:
        if name.endswith("normalization.weight"):
            weights[name] = np.ones(state[name].shape, np.float32)
        elif name.endswith("running_mean"):
            weights[name] = np.zeros(state[name].shape, np.float32)
        elif name.endswith("running_var"):  # with the epsilon that is added to it: 1
            weights[name] = np.full(state[name].shape, 1 - 1e-5, np.float32)
    assert set(weights) == expected, set(weights) ^ expected
    built.model.load_state_dict(
        {name: torch.from_numpy(weights[name].copy()) for name in expected}, strict=False
    )
    tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
    Captioner(built.model, tokenizer, built.preprocessing).save(directory)
    return directory


def constants(graph: Path) -> dict[str, NDArray[np.float32]]:
    """Every constant of a graph as float32, those that are quantised multiplied out."""
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(graph).graph.initializer}
    found = {}
    for name, values in stored.items():
        if name.endswith("_q8"):
            blocks = values.astype(np.float32) - MIDDLE
            rows = blocks * stored[f"{name}_scales"][:, :, None]
            found[name.removesuffix("_q8")] = rows.reshape(len(rows), -1)
        elif name.endswith("_quantized"):
            plain = name if f"{name}_scale" in stored else name.removesuffix("_quantized")
            scale, zero = stored[f"{plain}_scale"], stored[f"{plain}_zero_point"]
            found[name.removesuffix("_quantized")] = along(values, scale, zero)
        elif values.dtype == np.float32 and not name.endswith(("_scale", "_scales")):
            found[name] = values
    return found


def along(
    values: NDArray[np.generic], scale: NDArray[np.float32], zero: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Quantised values multiplied out; a scale for each of the axis that is as long as it is."""
    if scale.ndim:
        axis = values.shape.index(len(scale)) if values.shape[0] != len(scale) else 0
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values.astype(np.float32) - zero.astype(np.float32)) * scale


def encoder_weights(graph: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Those of the encoder; the bias that batch norm left in a convolution goes back to it."""
    weights = {}
    for name, values in graph.items():
        if name.endswith("convolution.weight_bias"):
            block = name.removesuffix("convolution.weight_bias")
            weights[f"{block}normalization.bias"] = values
        elif name.startswith("encoder."):
            weights[name] = values
    return weights


def decoder_weights(
    graph: dict[str, NDArray[np.float32]], encoder: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Those of the decoder, of which the cross-attention's keys and values are in the encoder."""
    weights = {}
    for name, values in graph.items():
        if name.startswith("decoder."):  # the wrapper's own name for the captioner's decoder
            is_turned = name.endswith("_by_column")
            plain = name.removeprefix("decoder.").removesuffix("_by_column")
            weights[plain] = values.T if is_turned else values
    weights["decoder.transformer.wte.weight"] = weights["decoder.lm_head.weight"]
    for name, values in encoder.items():
        if name.startswith("cross."):
            layer, rest = name.removeprefix("cross.").split(".", 1)
            weights[f"decoder.transformer.h.{layer}.crossattention.{rest}"] = values
    return weights


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def main(directory: Path) -> None:
    """Write the built-in bundle's captioner into DIRECTORY."""
    twin(directory)


if __name__ == "__main__":
    main()
