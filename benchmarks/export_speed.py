"""Full-size captioners exported, against PyTorch eager and optimum, in one interleaved run.

    python benchmarks/export_speed.py [--only NAME ...] [--precision P ...] [--optimum PYTHON]

Models have their published sizes and random weights (no hub is reached), spread so that captions
differ from picture to picture. Every round captions one picture by each contestant in turn; speeds
are medians over rounds, as ratios to eager fp32 `generate` of the same model on as many threads.
Agreement is of captions with eager's. Beside each stage stands its bound: bytes of weights over the
memory's measured rate, operations over the measured rate of a matrix product. --optimum names the
interpreter of an environment with optimum-onnx, which the ViT-GPT2 is exported and run by.

One JSON line a model is added to benchmarks/results/export_speed.jsonl. Models and bundles are kept
under $SRD_EDGE_CACHE.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.export.parity import transformers_tokens
from srd_edge.export.source import Source, open_source
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.sessions import usable_cores

RESULTS: Final = Path(__file__).parent / "results" / "export_speed.jsonl"
PEER: Final = Path(__file__).parent / "optimum_peer.py"
NEW_TOKENS: Final = 20
PRECISIONS: Final = ("fp32", "int8", "int4")
OPTIMUM_TAKES: Final = "vit-gpt2"
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


def exported(model: Path, precision: str) -> tuple[Path, dict[str, float]]:
    """The bundle, written once by the command; and what that took."""
    folder = model.with_name(f"{model.name}-{precision}")
    record = folder.with_suffix(".json")
    if not record.is_file():
        words = ["srd-edge", "export", "--captioner", str(model), "--precision", precision]
        words += ["--max-tokens", str(NEW_TOKENS), "--beams", "1", "--overwrite", "-o", str(folder)]
        start = time.monotonic()
        process = subprocess.Popen(words)
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        seconds, peak = time.monotonic() - start, used.ru_maxrss / 1e6
        record.write_text(json.dumps({"seconds": seconds, "peak_gb": peak}))
    cost: dict[str, float] = json.loads(record.read_text())
    return folder, cost


class Peer:
    """optimum's ORTModelForVision2Seq in its own environment, asked over a pipe."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        command = [python, str(PEER), str(model), str(NEW_TOKENS), str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        self.versions: dict[str, str] = json.loads(self._process.stdout.readline())

    def caption(self, pixel_values: NDArray[np.float32], file: Path) -> tuple[float, list[int]]:
        """Seconds and ids for (1, 3, H, W); the pictures go by way of a file."""
        np.save(file, pixel_values)
        print(file, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], answer["tokens"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def pictures(source: Source, count: int) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 canvases of coloured blocks."""
    height, width = source.size
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return blocks[:, rows[:, None], columns]


def rates(threads: int) -> dict[str, float]:
    """What this machine can do: bytes a second read, and operations a second in a product."""
    block = np.ones((threads, 1 << 26), np.float32)
    seconds = []
    for _ in range(5):
        readers = [threading.Thread(target=row.max) for row in block]
        start = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        seconds.append(time.perf_counter() - start)
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    products = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(left, right)
        products.append(time.perf_counter() - start)
    return {
        "read_gb_s": block.nbytes / min(seconds) / 1e9,
        "gemm_gflop_s": 2 * 1024**3 / statistics.median(products) / 1e9,
    }


def compare(
    source: Source, bundles: dict[str, Path], rounds: int, peer: Peer | None, scratch: Path
) -> dict[str, Any]:
    """Seconds of each contestant, stage by stage, and how many captions are eager's."""
    runtimes = {name: OnnxCaptioner(read_bundle(path), "cpu") for name, path in bundles.items()}
    canvases = pictures(source, rounds + 1)
    seconds: dict[str, list[dict[str, float]]] = {}
    agree: dict[str, list[float]] = {name: [] for name in (*bundles, "optimum")}
    said = set()
    for number, canvas in enumerate(canvases):
        row: dict[str, dict[str, float]] = {}
        start = time.perf_counter()
        truth = transformers_tokens(source, source.generation, canvas[None])[0]
        row["eager"] = {"total": time.perf_counter() - start}
        said.add(tuple(truth))
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            encoded = runtime.encode(canvas)
            middle = time.perf_counter()
            tokens = list(runtime.generate(encoded).tokens)
            end = time.perf_counter()
            parts = {"encode": middle - start, "decode": end - middle}
            row[name] = parts | {"total": end - start, "tokens": float(len(tokens))}
            agree[name].append(float(tokens == truth))
        if peer is not None:
            values = source.captioner.pixel_values(canvas[None]).numpy()
            total, tokens = peer.caption(values, scratch / "pixels.npy")
            row["optimum"] = {"total": total}
            agree["optimum"].append(float(tokens[: len(truth)] == truth))
        if number:  # the first round pays for what is allocated once
            for name, parts in row.items():
                seconds.setdefault(name, []).append(parts)
    eager = statistics.median(part["total"] for part in seconds["eager"])
    return {"different_captions": len(said), "rounds": rounds} | {
        name: _summary(parts, eager) | _agreement(agree.get(name))
        for name, parts in seconds.items()
    }


def _summary(parts: list[dict[str, float]], eager: float) -> dict[str, float]:
    middle = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
    return middle | {"times_eager": eager / middle["total"]}


def _agreement(equal: list[float] | None) -> dict[str, float]:
    return {"captions_equal": statistics.mean(equal)} if equal else {}


def bounds(bundle: Path, rate: dict[str, float]) -> dict[str, float]:
    """Milliseconds that reading the decoder's weights takes, a token."""
    manifest = read_bundle(bundle).manifest
    decoder = manifest.entry(manifest.captioner.components["decoder"])
    assert decoder is not None
    return {
        "bundle_mb": sum(entry.bytes for entry in manifest.files) / 1e6,
        "decoder_mb": decoder.bytes / 1e6,
        "read_ms_a_token": decoder.bytes / rate["read_gb_s"] / 1e6,
    }


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(MODELS)), help="Default: all.")
@click.option("--precision", "precisions", multiple=True, default=PRECISIONS)
@click.option("--rounds", default=8)
@click.option("--optimum", help="Interpreter of an environment with optimum-onnx.")
def main(
    only: tuple[str, ...], precisions: tuple[str, ...], rounds: int, optimum: str | None
) -> None:
    """Export captioners of full size and compare their speed."""
    place = cache_folder() / "full_size"
    place.mkdir(parents=True, exist_ok=True)
    threads = usable_cores()
    torch.set_num_threads(threads)
    for name in only or MODELS:
        model = made(name, place)
        bundles, costs = {}, {}
        for precision in precisions:
            bundles[precision], costs[precision] = exported(model, precision)
        source = open_source(model, beams=1, max_new_tokens=NEW_TOKENS)
        peer = None
        if optimum is not None and name == OPTIMUM_TAKES:
            peer = Peer(optimum, model, threads)
        rate = rates(threads)
        line = {
            "model": name,
            "parameters_m": sum(p.numel() for p in source.captioner.model.parameters()) / 1e6,
            "threads": threads,
            "machine": {"processor": platform.machine(), "rates": rate},
            "versions": {p: version(p) for p in ("torch", "transformers", "onnxruntime")},
            "export": costs,
            "bounds": {p: bounds(path, rate) for p, path in bundles.items()},
            "seconds": compare(source, bundles, rounds, peer, place),
            "command": shlex.join(["benchmarks/export_speed.py", *sys.argv[1:]]),
        }
        if peer is not None:
            line["versions"] |= {f"optimum's {k}": v for k, v in peer.versions.items()}
            peer.close()
        with RESULTS.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        print(json.dumps(line["seconds"], indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
