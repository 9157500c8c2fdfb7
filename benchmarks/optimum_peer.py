"""optimum's export and runtime of a VisionEncoderDecoder, answering `export_speed.py` over a pipe.

Runs in an environment of its own (optimum-onnx 0.1 needs transformers < 4.58), so that it imports
nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForVision2Seq


def main(model: str, new_tokens: int, threads: int) -> None:
    """Load, then caption each file of pixel values that is named on standard input."""
    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    captioner = ORTModelForVision2Seq.from_pretrained(model, export=True, session_options=options)
    packages = ("optimum", "optimum-onnx", "transformers", "torch", "onnxruntime")
    print(json.dumps({package: version(package) for package in packages}), flush=True)
    for line in sys.stdin:
        pixel_values = torch.from_numpy(np.load(line.strip()))
        start = time.perf_counter()
        tokens = captioner.generate(
            pixel_values, max_new_tokens=new_tokens, num_beams=1, do_sample=False
        )
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "tokens": tokens[0, 1:].tolist()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
