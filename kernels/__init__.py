"""Frames, actions, perturbations, preprocessing and frame similarity: pure functions on arrays.

Imports numpy and OpenCV only. Everything works on uint8 RGB of shape (H, W, 3).
"""
