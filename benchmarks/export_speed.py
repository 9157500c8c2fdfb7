"""Full-size captioners exported, against PyTorch eager and optimum, in one interleaved run.

    python benchmarks/export_speed.py [--only NAME ...] [--precision P ...] [--optimum PYTHON]
    python benchmarks/export_speed.py --device cuda

Models have their published sizes and random weights (no hub is reached), spread so that captions
differ from picture to picture. Every round captions one picture by each contestant in turn; speeds
are medians over rounds, as ratios to PyTorch's eager `generate` of the same model: on the CPU in
fp32 and on as many threads, on CUDA in fp16, with `torch.compile` beside it. Agreement is of
captions with eager's. Beside each stage stands its bound: the operations of the encoder over the
measured rate of a matrix product, the bytes of the decoder's weights over the memory's measured
rate. --optimum names the interpreter of an environment with optimum-onnx, which the ViT-GPT2 is
exported and run by.

One JSON line a model is added to benchmarks/results/export_speed.jsonl. Models and bundles are kept
under $SRD_EDGE_CACHE.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import numpy as np
import torch
from full_size import MODELS, made
from machine_rates import bytes_a_token, operations, rates
from numpy.typing import NDArray

from srd_edge.export.source import Source, open_source
from srd_edge.kernels.preprocess import to_tensor
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.captioning import OnnxCaptioner, encoder_inputs
from srd_edge.runtime.machine import processor, usable_cores
from srd_edge.runtime.provenance import installed

RESULTS: Final = Path(__file__).parent / "results" / "export_speed.jsonl"
PEER: Final = Path(__file__).parent / "optimum_peer.py"
NEW_TOKENS: Final = 20
PRECISIONS: Final = {"cpu": ("fp32", "int8", "int4"), "cuda": ("fp32", "fp16", "int4")}
OPTIMUM_TAKES: Final = "vit-gpt2"
ARITHMETIC: Final = {
    "fp32": "fp32_gop_s",
    "fp16": "fp16_gop_s",
    "int8": "int8_gop_s",
    "int4": "int8_gop_s",
}
"""Of an encoder, by precision: the rate that bounds it."""
PACKAGES: Final = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu")
Canvas: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Said:
    """One caption by one contestant: seconds by stage, and its ids."""

    seconds: dict[str, float]
    tokens: list[int]


Contestant: TypeAlias = Callable[[Canvas], Said]


def exported(model: Path, precision: str, device: str) -> tuple[Bundle, dict[str, float]]:
    """The bundle, written once by the command; and what that took."""
    target = ["--target", "cuda"] if device == "cuda" else []
    folder = model.with_name("-".join([model.name, precision, *target[1:]]))
    record = folder.with_suffix(".json")
    if not record.is_file():
        words = ["srd-edge", "export", "--captioner", str(model), "--precision", precision]
        words += ["--max-tokens", str(NEW_TOKENS), "--beams", "1", "--overwrite", "-o", str(folder)]
        start = time.monotonic()
        process = subprocess.Popen([*words, *target])
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        seconds, peak = time.monotonic() - start, used.ru_maxrss / 1e6
        record.write_text(json.dumps({"seconds": seconds, "peak_gb": peak}))
    cost: dict[str, float] = json.loads(record.read_text())
    return read_bundle(folder), cost


def eager(source: Source, device: str, *, compiled: bool = False) -> Contestant:
    """PyTorch's own `generate`: fp32 on the CPU, fp16 on CUDA."""
    model = source.captioner.model
    kind = torch.float16 if device == "cuda" else torch.float32
    model.to(device, kind)
    if compiled:
        for part in (model, *model.children()):
            part.compile()
    spec = source.captioner.preprocessing
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": NEW_TOKENS}

    # Families make ids of prompts where they stand: on the device that is the usual one.
    @torch.inference_mode()
    def caption(canvas: Canvas) -> Said:
        start = time.perf_counter()
        with torch.device(device):
            seen = torch.from_numpy(to_tensor(spec.cut(canvas), spec)).to(device, kind)
            layout = spec.layout(canvas)
            (row,) = source.family.generate(model, seen, layout, source.prompt, settings)
        total = time.perf_counter() - start
        ends = source.generation.end_tokens
        end = next((at for at, token in enumerate(row) if token in ends), len(row))
        return Said({"total": total}, row[:end])

    return caption


def ours(bundle: Bundle, device: str) -> Contestant:
    """The bundle by its runtime."""
    runtime = OnnxCaptioner(bundle, "cuda" if device == "cuda" else "cpu", strict=True)

    def caption(canvas: Canvas) -> Said:
        start = time.perf_counter()
        encoded = runtime.encode(canvas)
        middle = time.perf_counter()
        tokens = list(runtime.generate(encoded).tokens)
        end = time.perf_counter()
        parts = {"encode": middle - start, "decode": end - middle, "total": end - start}
        return Said(parts | {"tokens": float(len(tokens))}, tokens)

    return caption


class Peer:
    """optimum's ORTModelForVision2Seq in its own environment, asked over a pipe."""

    def __init__(self, python: str, model: Path, threads: int, source: Source) -> None:
        command = [python, str(PEER), str(model), str(NEW_TOKENS), str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        self._source, self._file = source, model.with_name("pixels.npy")
        self.versions: dict[str, str] = json.loads(self._process.stdout.readline())

    def __call__(self, canvas: Canvas) -> Said:
        """The pictures go by way of a file."""
        np.save(self._file, self._source.captioner.pixel_values(canvas[None]).numpy())
        print(self._file, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Said({"total": answer["seconds"]}, answer["tokens"])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def pictures(source: Source, count: int) -> Canvas:
    """(count, H, W, 3) uint8 canvases of coloured blocks."""
    height, width = source.size
    if source.captioner.preprocessing.tiling is not None:
        height = width = 224
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return blocks[:, rows[:, None], columns]


def compare(contestants: dict[str, Contestant], canvases: Canvas) -> dict[str, Any]:
    """Seconds of each contestant, stage by stage, and how many captions are eager's."""
    said: dict[str, list[Said]] = {name: [] for name in contestants}
    for canvas in canvases:
        for name, contestant in contestants.items():
            said[name].append(contestant(canvas))
    truth = [one.tokens for one in said["eager"]]
    # The first round pays for what is allocated once.
    middle = {
        name: {
            part: statistics.median(one.seconds[part] for one in captions[1:])
            for part in captions[0].seconds
        }
        for name, captions in said.items()
    }
    report: dict[str, Any] = {
        "different_captions": len({tuple(tokens) for tokens in truth}),
        "rounds": len(canvases) - 1,
    }
    for name, parts in middle.items():
        report[name] = parts | {"times_eager": middle["eager"]["total"] / parts["total"]}
        if name != "eager":
            pairs = zip(said[name], truth, strict=True)
            equal = [one.tokens[: len(tokens)] == tokens for one, tokens in pairs]
            report[name]["captions_equal"] = statistics.mean(map(float, equal))
    return report


def bounds(
    source: Source, bundles: dict[str, Bundle], canvas: Canvas, rate: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Milliseconds that the encoder's operations, and reading the decoder's weights, take."""
    module = source.components()["encoder"].module.to("cpu", torch.float32)
    inputs = encoder_inputs(canvas, source.captioner.preprocessing)
    count = operations(module, *map(torch.from_numpy, inputs.values()))
    found = {}
    for name, bundle in bundles.items():
        manifest = bundle.manifest
        read = bytes_a_token(bundle.path(manifest.captioner.components["decoder"]))
        found[name] = {
            "bundle_mb": sum(entry.bytes for entry in manifest.files) / 1e6,
            "encoder_gop": count / 1e9,
            # An encoder's arithmetic is int8 in int4 too; what has no rate of its own is fp32's.
            "encode_ms": count / rate.get(ARITHMETIC[name], rate["fp32_gop_s"]) / 1e6,
            "read_mb_a_token": read / 1e6,
            "read_ms_a_token": read / rate["read_gb_s"] / 1e6,
        }
    return found


def machine(device: str, rate: dict[str, float]) -> dict[str, Any]:
    named = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {"processor": processor(), "rates": rate} | named


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(MODELS)), help="Default: all.")
@click.option("--precision", "precisions", multiple=True, help="Default: by the device.")
@click.option("--rounds", default=8)
@click.option("--device", type=click.Choice(list(PRECISIONS)), default="cpu")
@click.option("--optimum", help="Interpreter of an environment with optimum-onnx.")
def main(
    only: tuple[str, ...],
    precisions: tuple[str, ...],
    rounds: int,
    device: str,
    optimum: str | None,
) -> None:
    """Export captioners of full size and compare their speed."""
    place = cache_folder() / "full_size"
    place.mkdir(parents=True, exist_ok=True)
    threads = usable_cores()
    torch.set_num_threads(threads)
    for name in only or MODELS:
        model = made(name, place)
        exports = {p: exported(model, p, device) for p in precisions or PRECISIONS[device]}
        bundles = {precision: bundle for precision, (bundle, _) in exports.items()}
        source = open_source(model, beams=1, max_new_tokens=NEW_TOKENS)
        canvases = pictures(source, rounds + 1)
        rate = rates(threads, device)
        bound = bounds(source, bundles, canvases[0], rate)
        contestants: dict[str, Contestant] = {"eager": eager(source, device)}
        contestants |= {precision: ours(bundle, device) for precision, bundle in bundles.items()}
        if device == "cuda":
            again = open_source(model, beams=1, max_new_tokens=NEW_TOKENS)
            contestants["torch.compile"] = eager(again, device, compiled=True)
        peer = None
        if optimum is not None and name == OPTIMUM_TAKES:
            peer = contestants["optimum"] = Peer(optimum, model, threads, source)
        line = {
            "model": name,
            "parameters_m": sum(p.numel() for p in source.captioner.model.parameters()) / 1e6,
            "threads": threads,
            "device": device,
            "machine": machine(device, rate),
            "versions": installed(PACKAGES),
            "export": {precision: cost for precision, (_, cost) in exports.items()},
            "bounds": bound,
            "seconds": compare(contestants, canvases),
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
