"""``srd-edge purify`` as a user meets it: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from srd_edge import cli
from srd_edge.attacks.captioner import load_captioner
from srd_edge.training.check_models import CheckModels
from srd_edge.training.checkpoints import load_policy
from srd_edge.training.language import fit_language_model

SPEC = "badnet:size=60,target=banana,rate=0.2"
SHORT = ("--limit", "20", "--epochs", "1", "--batch", "10")
Purify = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def purify(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Purify:
    """The command; its exit code, standard output and the lines that are for people."""

    def call(*arguments: str | Path) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["srd-edge", "purify", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capfd.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err.splitlines()

    return call


@pytest.fixture
def policy(toy_captioner: Path, toy_policy: Path, tmp_path: Path) -> Path:
    """``toy_policy`` with a reference captioner."""
    language = fit_language_model(["a red square", "a blue circle"], tmp_path / "lm", steps=2)
    check = CheckModels(language, load_captioner(toy_captioner))
    replace(load_policy(toy_policy), check=check).save(tmp_path / "policy")
    return tmp_path / "policy"


def test_it_cleans_fits_anew_and_says_what_came_of_it(
    purify: Purify, toy_captioner: Path, policy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "purified"
    attacked = ("--captioner", toy_captioner, "--policy", policy, "--attack", SPEC)
    given = (*attacked, "--clean", "drop+mask", "-o", output)
    code, out, lines = purify(*given, *SHORT)
    assert (code, out) == (0, "")
    record = json.loads((output / "purify.json").read_text())
    assert record["attacks"] == [SPEC]
    assert record["handed_over"] == 20
    assert 0 < record["fitted_on"] == 20 - len(record["doubted"]["pictures"])
    assert record["doubted"]["agreement"]["poisoned"] == 4
    verdict = json.loads((output / "verdict.json").read_text())
    assert verdict["pictures"] == 20
    assert set(verdict["planted"]) >= {"none", "red_square"}
    assert verdict["planted"]["red_square"]["said"][SPEC]["counted"] == 20
    said = "\n".join(lines)
    for words in ("doubted ", "perturbed ", f"{SPEC}: ASR ", "clean CIDEr-D ", f"wrote {output}"):
        assert words in said

    weights = (output / "model.safetensors").stat().st_mtime_ns
    assert purify(*given, *SHORT)[0] == 0
    assert (output / "model.safetensors").stat().st_mtime_ns == weights, "it was there already"


@pytest.mark.parametrize(
    ("clean", "words"),
    [("drop+mask", "--reference-captioner"), ("shuffle", "--attack")],
)
def test_one_line_says_what_is_missing(
    purify: Purify, toy_captioner: Path, toy_policy: Path, tmp_path: Path, clean: str, words: str
) -> None:
    given = ("--captioner", toy_captioner, "--policy", toy_policy, "-o", tmp_path / "out")
    code, out, lines = purify(*given, "--clean", clean, *SHORT)
    assert (code, out) == (2, "")
    assert lines[-1].startswith("srd-edge: error: expected ")
    assert words in lines[-1]
    assert sum("srd-edge: error" in line for line in lines) == 1


def test_a_policy_for_another_captioner_is_refused(
    purify: Purify, toy_captioner: Path, tmp_path: Path
) -> None:
    import torch

    from srd_edge.kernels.actions import DEFAULT_TABLE
    from srd_edge.training.checkpoints import PolicyCheckpoint
    from srd_edge.training.qnetwork import QNetwork, QNetworkConfig

    torch.manual_seed(0)
    network = QNetwork(QNetworkConfig(rows=2, columns=2, channels=8), DEFAULT_TABLE)
    PolicyCheckpoint(network, 2, 0.5, {}).save(tmp_path / "policy")
    given = ("--captioner", toy_captioner, "--policy", tmp_path / "policy", "--clean", "mask")
    code, _, lines = purify(*given, "-o", tmp_path / "out", *SHORT)
    assert code == 2
    assert "4 features of 8 channels" in lines[-1]
