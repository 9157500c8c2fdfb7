"""Captions out of token numbers, and tokenizers that are refused."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from srd_edge.errors import BundleError
from srd_edge.runtime.tokenizer import CaptionTokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    words = {"<s>": 0, "</s>": 1, "a": 2, "red": 3, "bus": 4}
    built = Tokenizer(models.WordLevel(words, unk_token="a"))
    built.decoder = decoders.Sequence([])
    built.add_special_tokens(["<s>", "</s>"])
    built.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("ids", "caption"),
    [([0, 2, 3, 4, 1], "a red bus"), ([], ""), ([0, 1], ""), ([2, 99, -100], "a")],
)
def test_decoding(tokenizer: Path, ids: list[int], caption: str) -> None:
    tokenizer_ = CaptionTokenizer(tokenizer)
    assert tokenizer_.decode(ids).replace(" ", "") == caption.replace(" ", "")
    assert tokenizer_.decode(np.array(ids, np.int64)) == tokenizer_.decode(ids)


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"\xff\xfe", b'{"model": 3}', b"[" * 100_000])
def test_refused_tokenizers(tmp_path: Path, raw: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(BundleError, match="tokenizer") as caught:
        CaptionTokenizer(path)
    assert "\n" not in str(caught.value)
