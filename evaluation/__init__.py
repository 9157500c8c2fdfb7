"""Suites, controls and metrics: what a bundle is worth against an attack, and what it costs."""
