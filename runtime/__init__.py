"""The lean runtime: a bundle and a frame go in, a caption comes out, within a budget.

Imports numpy, OpenCV, onnxruntime, tokenizers and small pure libraries; never torch,
transformers or onnx.
"""
