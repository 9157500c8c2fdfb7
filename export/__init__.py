"""Captioners and Q-networks to ONNX: families, precision, parity, and the bundle they end in."""
