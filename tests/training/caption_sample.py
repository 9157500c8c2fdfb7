"""Captions that metrics are tried on: a set whose scores are known, a few of it, and odd ones."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLE = json.loads((Path(__file__).parent / "caption_sample.json").read_text(encoding="utf-8"))
REFERENCES, CAPTIONS = SAMPLE["few"]["references"], SAMPLE["few"]["captions"]
ODD_CAPTIONS = [
    ["", " ", "\n", "\t"],
    ["a", "a", "a", "a"],
    ["a dog\nruns\r\non grass", "two\x85cats", "a\u2028man", "boat\r"],
    ["a ||| dog", "|||", "||||||", "SCORE ||| EVAL ||| x"],
    ["ein Hündchen läuft", "犬 が 走る", "🐕 " * 9, "half a pair \ud800 \x00"],
    ["a dog " * 30, "b", "c", "a red boat on the sea"],
]
