"""The three scores are what the text says, and the reference is asked only where it must be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor
from srd_edge.kernels.views import views
from srd_edge.runtime import reference as reference_module
from srd_edge.runtime.budget import FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.second_opinion import SecondOpinion
from tests.runtime.opinions import EVERYTHING, FRAME, NOTHING, judged, opinion_of, said_of


@pytest.fixture
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """What the reference captioners that are made in the test encode."""
    seen: list[Pixels] = []

    class Seen(OnnxCaptioner):
        def encode(self, canvas: Pixels) -> Encoded:
            seen.append(canvas)
            return super().encode(canvas)

    monkeypatch.setattr(reference_module, "OnnxCaptioner", Seen)
    return seen


def test_what_is_not_odd_is_not_examined(bundle: Bundle, encodings: list[Pixels]) -> None:
    confidence, information = Limit(0.1, 0.5), Limit(1e3, 7.0)
    here = opinion_of(bundle, confidence=confidence, information=information)
    said = said_of(bundle)
    opinion = judged(here, said)
    assert (opinion.contradiction, opinion.refused) == (None, False)
    assert opinion.excess == max((opinion.confidence - 0.1) / 0.5, (opinion.information - 1e3) / 7)
    assert (encodings, set(here.timer.stage_ms)) == ([], {"screen"})


@pytest.mark.parametrize("odd", ["confidence", "information"])
def test_what_is_odd_is_examined_and_the_frame_is_encoded_once(
    bundle: Bundle, encodings: list[Pixels], odd: str
) -> None:
    limits: dict[str, Any] = {"confidence": NOTHING, "information": NOTHING, odd: EVERYTHING}
    here = opinion_of(bundle, evidence=Limit(1e3, 4.0), confidence_weight=3.0, **limits)
    said = said_of(bundle)
    for caption in (said, replace(said, text="two on two"), said):
        opinion = judged(here, caption)
        assert opinion.contradiction is not None
        evidence = opinion.contradiction + 3 * opinion.confidence
        assert opinion.excess == (evidence - 1e3) / 4
    assert judged(here, said).contradiction != judged(here, replace(said, text="")).contradiction
    assert here.answer() is not None
    assert len(encodings) == 1
    assert {"screen", "examine", "answer"} == set(here.timer.stage_ms)


def log_likelihood(folder: Path, frame: Frame, ids: list[int]) -> float:
    """Of ``ids`` after the start token, one decoder call each, in plain numpy."""
    data = json.loads((folder / "manifest.json").read_text())
    spec = Preprocessing.from_json(data["preprocessing"])
    layers, kinds = range(data["captioner"]["layers"]), ("key", "value")
    encoder = onnxruntime.InferenceSession(folder / "encoder_model.onnx")
    decoder = onnxruntime.InferenceSession(folder / "decoder_model.onnx")
    pixel_values = to_tensor(to_canvas(frame.pixels, spec), spec)[None]
    feed: dict[str, NDArray[Any]] = {}
    for output, value in zip(
        [o.name for o in encoder.get_outputs()],
        encoder.run(None, {"pixel_values": pixel_values.reshape(1, 3, spec.height, spec.width)}),
        strict=True,
    ):
        if output.startswith("present"):
            feed[output.replace("present", "past_key_values")] = value
    empty = np.empty((1, data["captioner"]["heads"], 0, data["captioner"]["head_dim"]), np.float32)
    feed |= {f"past_key_values.{i}.decoder.{kind}": empty for i in layers for kind in kinds}
    total, row = 0.0, [data["generation"]["prompt"][0]]
    for token in ids:
        (logits,) = decoder.run(["logits"], feed | {"input_ids": np.array([row], np.int64)})
        last = logits[0, -1].astype(np.float64)
        total += float(last[token] - np.log(np.exp(last).sum()))
        row.append(token)
    return total


def ids_of(bundle: Bundle, tokenizer: str, text: str) -> list[int]:
    encoding = Tokenizer.from_file(str(bundle.path(tokenizer))).encode(
        text, add_special_tokens=False
    )
    return list(encoding.ids)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("end_token", [None, 276])
def test_the_scores_are_those_of_the_text(bundle: Bundle, seed: int, end_token: int | None) -> None:
    rng = np.random.default_rng(seed)
    frame = Frame(rng.integers(0, 256, (33, 47, 3), np.uint8))
    said = said_of(bundle, frame, end_token)
    end = [2] * (len(said.tokens) < 11)  # a caption of the longest length has none
    spoken = log_likelihood(bundle.directory, frame, [*said.tokens, *([end_token or 2] * len(end))])
    ids = ids_of(bundle, "tokenizer.json", said.text)
    trusted = log_likelihood(bundle.directory / "reference", frame, [*ids, *end][:11])
    row = [1, *ids_of(bundle, "language_tokenizer.json", said.text), *end]
    session = onnxruntime.InferenceSession(bundle.path("language_model.onnx"))
    (expected,) = session.run(None, {"input_ids": np.array([row], np.int64)})

    opinion = judged(opinion_of(bundle, frame=frame, confidence=EVERYTHING), said)
    assert opinion.confidence == pytest.approx(spoken / len([*said.tokens, *end]), abs=1e-4)
    assert opinion.information == pytest.approx(spoken - expected.sum(), abs=1e-3)
    assert opinion.contradiction == pytest.approx(spoken - trusted, abs=1e-3)


def test_the_reference_sees_the_frame_by_its_own_preprocessing(
    checked_bundle: Path, tmp_path: Path, encodings: list[Pixels]
) -> None:
    shutil.copytree(checked_bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "reference" / "manifest.json"
    data = json.loads(path.read_text())
    data["preprocessing"] |= {"resample": "nearest", "mean": [0.1, 0.2, 0.3]}
    path.write_text(json.dumps(data))
    here = opinion_of(replace(read_bundle(checked_bundle), directory=tmp_path / "bundle"))
    own = read_bundle(path.parent)
    canvas = to_canvas(FRAME.pixels, own.manifest.preprocessing)
    said = said_of(read_bundle(checked_bundle))
    captioner = OnnxCaptioner(own, "cpu")
    likely = captioner.log_probability(captioner.encode(canvas), said.text, finished=said.ended)
    assert here.contradiction(said) == pytest.approx(said.log_probability - likely, abs=1e-4)
    assert np.array_equal(encodings[0], canvas)
    assert not np.array_equal(
        canvas, to_canvas(FRAME.pixels, read_bundle(checked_bundle).manifest.preprocessing)
    )


def test_without_the_time_to_examine_there_is_no_opinion(
    bundle: Bundle, encodings: list[Pixels]
) -> None:
    now_s, costs = 0.0, StageCosts({"examine": 40.0, "answer": 40.0})
    timer = FrameTimer(LatencyBudget(100), costs, lambda: now_s)
    said = said_of(bundle)
    odd = opinion_of(bundle, timer, confidence=EVERYTHING)
    fine = opinion_of(bundle, timer, confidence=NOTHING, information=NOTHING)
    now_s = 0.051
    assert odd.judge(said) is None
    assert odd.answer() is None
    assert judged(fine, said).refused is False
    assert encodings == []
    now_s = 0.049
    assert odd.judge(said) is not None
    assert odd.answer() is not None
    assert len(encodings) == 1


@pytest.mark.parametrize("by_views", [False, True])
def test_the_answer_is_the_references_own_caption(bundle: Bundle, *, by_views: bool) -> None:
    own = read_bundle(bundle.directory / "reference")
    captioner = OnnxCaptioner(own, "cpu")
    preprocessing = own.manifest.preprocessing
    canvas = to_canvas(FRAME.pixels, preprocessing)
    several = captioner.encode_views(views(canvas, preprocessing.resample))
    expected = captioner.generate(several if by_views else captioner.encode(canvas))
    assert expected.text != said_of(bundle).text
    assert opinion_of(bundle, views=by_views).answer() == expected
    assert opinion_of(bundle, reference=False).answer() is None


@pytest.mark.parametrize(("tokens", "finished"), [(1, False), (6, False), (99, True)])
def test_only_a_whole_answer_tells_what_one_costs(
    bundle: Bundle, tokens: int, *, finished: bool
) -> None:
    ticks = iter(range(10_000))
    timer = FrameTimer(LatencyBudget(1e3 * (tokens + 4)), StageCosts(), lambda: next(ticks))
    answer = opinion_of(bundle, timer).answer()
    assert ("answer" in timer.costs.means_ms) is finished
    whole = opinion_of(bundle).answer()
    assert whole is not None
    if answer is not None:
        assert answer.finished is finished
        assert answer.text.split() == whole.text.split()[: len(answer.text.split())]


def test_the_language_model_is_asked_once_for_a_caption(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bundle.manifest.check is not None
    opinion = SecondOpinion(bundle, bundle.manifest.check, "cpu", strict=True)
    asked: list[str] = []
    honest = opinion.language.log_probability

    def noting(text: str, *, finished: bool = True) -> float:
        asked.append(text)
        return honest(text, finished=finished)

    monkeypatch.setattr(opinion.language, "log_probability", noting)
    said, costs = said_of(bundle), StageCosts()
    for _ in range(3):
        here = opinion.at(FRAME, FrameTimer(LatencyBudget(), costs))
        expected = said.log_probability - honest(said.text, finished=said.ended)
        assert here.screen(said) == expected
    assert asked == [said.text]
    # One that came to its end is another question, and a rehearsal asks anew.
    ended = replace(said, log_probabilities=(*said.log_probabilities, -1.0))
    assert ended.ended != said.ended
    here.screen(ended)
    opinion.rehearse(FRAME, said, FrameTimer(LatencyBudget(), costs))
    assert asked == [said.text] * 3


def test_what_was_remembered_teaches_nothing_about_costs(bundle: Bundle) -> None:
    assert bundle.manifest.check is not None
    opinion = SecondOpinion(bundle, bundle.manifest.check, "cpu", strict=True)
    said, costs = said_of(bundle), StageCosts()
    opinion.at(FRAME, FrameTimer(LatencyBudget(), costs)).screen(said)
    learned = costs.means_ms["screen"]
    opinion.at(FRAME, FrameTimer(LatencyBudget(), costs)).screen(said)
    assert costs.means_ms["screen"] == learned
