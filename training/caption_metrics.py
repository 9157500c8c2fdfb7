"""Caption metrics by their reference implementation, pycocoevalcap: what captioners are ranked by.

CIDEr-D, BLEU-4 and ROUGE-L are Python. METEOR and SPICE are Java programs that come with it, here
started without its wrappers: those print, wait for ever for an answer that does not come, and
download the models that SPICE needs. Words are what stands between spaces, as ``normalise_caption``
leaves them; published figures of COCO are of text from the Penn Treebank tokeniser.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final, Self, TypeAlias

import pycocoevalcap
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from srd_edge.errors import RunError, UsageError

CAPTION_METRICS: Final = ("cider_d", "bleu_4", "rouge_l", "meteor", "spice")

_Texts: TypeAlias = dict[int, list[str]]  # by picture, as the reference implementation takes them

_HOME: Final = Path(pycocoevalcap.__path__[0])
_METEOR_FILES: Final = ("meteor-1.5.jar", "data/paraphrase-en.gz")
_CORENLP: Final = "lib/stanford-corenlp-3.6.0"
_SPICE_FILES: Final = ("spice-1.0.jar", f"{_CORENLP}.jar", f"{_CORENLP}-models.jar")
# SPICE writes its answer through Java's JavaScript engine, which releases after 14 do not have.
_JAVA_OF_SPICE: Final = range(8, 15)
# The paraphrase table needs more than 256 MB; this collector holds on to less than the default one.
_METEOR: Final = ("java", "-Xmx1G", "-XX:+UseSerialGC", "-jar", "meteor-1.5.jar")
_METEOR_OPTIONS: Final = ("-", "-", "-stdio", "-l", "en", "-norm")
_SPICE: Final = ("java", "-Xmx8G", "-jar", "spice-1.0.jar")


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D (Vedantam et al., arXiv 1411.5726) with the corpus' own document frequencies.

    Args:
        captions: one a picture.
        references: the human captions of each picture, tokenised by spaces as the captions are.

    Returns:
        The usual scale, on which 1.0 is a good captioner of photographs (10 is the highest). Words
        that every picture's references hold weigh nothing, so it is 0 for a single picture.

    Raises:
        UsageError: captions and references are not of the same pictures, or hold nothing.
    """
    truth = _reference_texts(references)
    return _cider_d(truth, _caption_texts(captions, len(truth)))


def unavailable() -> dict[str, str]:
    """The metrics that cannot be had here, each with the reason in a few words."""
    java = shutil.which("java")
    if java is None:
        return dict.fromkeys(("meteor", "spice"), "no java on PATH")
    files = {"meteor": _METEOR_FILES, "spice": _SPICE_FILES}
    reasons = {metric: _missing(metric, names) for metric, names in files.items()}
    if not reasons["spice"] and (release := _java_release(java)) not in _JAVA_OF_SPICE:
        reasons["spice"] = f"java is {release or 'odd'}, SPICE needs 8 to {_JAVA_OF_SPICE[-1]}"
    return {name: reason for name, reason in reasons.items() if reason}


class CaptionScorer:
    """Scores of captioners of the same pictures; close it, or use it in a ``with`` statement.

    METEOR's process takes seconds to start, SPICE minutes to parse references: the first call of
    ``score`` starts METEOR and it stays until ``close``, as does the store of parsed references.

    Args:
        references: the human captions of each picture.
        names: of ``CAPTION_METRICS``: those wanted.
        patience_s: how long a Java program may take over the captions of one captioner.

    Raises:
        UsageError: an unknown name, or a picture without a word in its references.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        names: Sequence[str] = CAPTION_METRICS,
        patience_s: float = 1800.0,
    ) -> None:
        if unknown := sorted(set(names) - set(CAPTION_METRICS)):
            raise UsageError(
                expected=f"caption metrics out of {', '.join(CAPTION_METRICS)}",
                found=", ".join(unknown),
                do="correct the name",
            )
        self._truth = _reference_texts(references)
        self._names = tuple(names)
        self._missing = unavailable() if {"meteor", "spice"} & set(names) else {}
        self._patience_s = patience_s
        self._meteor: _Meteor | None = None
        self._folder: str | None = None
        self._open = ExitStack()

    def score(self, captions: Sequence[str]) -> dict[str, float | None]:
        """Every wanted metric of one captioner, in the order of ``names``.

        Args:
            captions: one a picture, in the references' order; an empty one scores nothing.

        Returns:
            CIDEr-D from 0 to 10, the others from 0 to 1; None where ``unavailable`` has a reason.

        Raises:
            UsageError: not one caption for each picture.
            RunError: a Java program failed or took longer than ``patience_s``.
        """
        candidates = _caption_texts(captions, len(self._truth))
        measures: dict[str, Callable[[_Texts, _Texts], float]] = {
            "cider_d": _cider_d,
            "bleu_4": _bleu_4,
            "rouge_l": _rouge_l,
            "meteor": self._ask_meteor,
            "spice": self._ask_spice,
        }
        return {
            name: None if name in self._missing else measures[name](self._truth, candidates)
            for name in self._names
        }

    def close(self) -> None:
        self._open.close()
        self._meteor = self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_meteor(self, truth: _Texts, candidates: _Texts) -> float:
        if self._meteor is None:
            self._meteor = _Meteor(self._patience_s)
            self._open.callback(self._meteor.close)
        try:
            return self._meteor.score(truth, candidates)
        except BaseException:
            self.close()  # an answer left unread would be taken for that of the next question
            raise

    def _ask_spice(self, truth: _Texts, candidates: _Texts) -> float:
        if self._folder is None:
            self._folder = self._open.enter_context(TemporaryDirectory())
        return _spice(truth, candidates, Path(self._folder), self._patience_s)


class _Meteor:
    """METEOR 1.5 (Denkowski and Lavie, WMT 2014) in a process that answers line by line."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        # Not a pipe: one that nobody reads would fill up and stop the program.
        self._errors = TemporaryFile()  # noqa: SIM115 - close() does
        self._process = subprocess.Popen(
            [*_METEOR, *_METEOR_OPTIONS],
            cwd=_HOME / "meteor",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            errors="replace",  # half a surrogate pair
        )

    def score(self, truth: _Texts, candidates: _Texts) -> float:
        """Of the corpus: the statistics of all pictures are added up before the formula."""
        watchdog = threading.Timer(self._patience_s, self._process.kill)
        watchdog.start()
        try:
            statistics = []
            for i in truth:  # one by one, so that neither side ever waits with its pipe full
                texts = (text.replace("|||", "") for text in (*truth[i], *candidates[i]))
                statistics.append(self._ask("SCORE", *texts))
            scores = [self._ask("EVAL", *statistics), *(self._answer() for _ in statistics)]
            return float(scores[-1])  # after those of the single pictures
        except (OSError, ValueError) as failure:
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            raise _failure("METEOR", self._patience_s, self._errors.read()) from failure
        finally:
            watchdog.cancel()

    def close(self) -> None:
        # Leaving the process closes its pipes, which complain of what was not sent, and waits.
        with suppress(OSError), self._process:
            self._process.kill()
        self._errors.close()

    def _ask(self, *fields: str) -> str:
        print(*fields, sep=" ||| ", file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise ValueError("an empty answer")
        return line


def _cider_d(truth: _Texts, candidates: _Texts) -> float:
    return float(Cider().compute_score(truth, candidates)[0])


def _bleu_4(truth: _Texts, candidates: _Texts) -> float:
    """Papineni et al., ACL 2002, of the corpus, against the reference closest in length."""
    return float(Bleu(4).compute_score(truth, candidates, verbose=0)[0][3])


def _rouge_l(truth: _Texts, candidates: _Texts) -> float:
    """Lin, ACL 2004 workshop, mean over pictures; beta 1.2, best precision and recall apart."""
    return float(Rouge().compute_score(truth, candidates)[0])


def _spice(truth: _Texts, candidates: _Texts, folder: Path, patience_s: float) -> float:
    """Anderson et al., ECCV 2016, mean over pictures; parsed captions are kept in ``folder``."""
    asked, answered, parsed = folder / "captions.json", folder / "scores.json", folder / "parsed"
    parsed.mkdir(exist_ok=True)
    answered.unlink(missing_ok=True)
    pictures = [{"image_id": i, "test": candidates[i][0], "refs": truth[i]} for i in truth]
    asked.write_text(json.dumps(pictures), encoding="utf-8")
    options = [str(asked), "-cache", str(parsed), "-out", str(answered), "-subset", "-silent"]
    try:
        done = subprocess.run(
            [*_SPICE, *options], cwd=_HOME / "spice", capture_output=True, timeout=patience_s
        )
    except subprocess.TimeoutExpired as late:
        raise _failure("SPICE", patience_s, late.stderr or b"") from late
    if done.returncode or not answered.exists():
        raise _failure("SPICE", patience_s, done.stderr)
    scores = json.loads(answered.read_text(encoding="utf-8"))
    return fmean(picture["scores"]["All"]["f"] for picture in scores)


def _reference_texts(references: Sequence[Sequence[str]]) -> _Texts:
    texts = {i: [_spaced(text) for text in group] for i, group in enumerate(references)}
    wordless = [i for i, group in texts.items() if not any(group)]
    if wordless or not texts:
        raise UsageError(
            expected="pictures with at least one reference of a word or more",
            found=f"none for picture {wordless[0]}" if wordless else "no pictures",
            do="leave out pictures that nobody described",
        )
    return texts


def _caption_texts(captions: Sequence[str], pictures: int) -> _Texts:
    if len(captions) != pictures:
        raise UsageError(
            expected=f"a caption for each of {pictures} pictures with references",
            found=f"{len(captions)} captions",
            do="give captions and references of the same pictures",
        )
    return {i: [_spaced(caption)] for i, caption in enumerate(captions)}


def _spaced(text: str) -> str:
    """Single spaces: a line break ends a question to METEOR, two spaces are a word to ROUGE."""
    return " ".join(text.split())


def _missing(folder: str, files: Sequence[str]) -> str:
    """The first of ``files`` that is not there; empty if none is missing."""
    lacking = (file for file in files if not (_HOME / folder / file).is_file())
    return next((f"no {file} in pycocoevalcap/{folder}" for file in lacking), "")


def _java_release(java: str) -> int | None:
    """8 for 1.8.0_312, 17 for 17.0.15; None where it does not say."""
    command = [java, "-version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    release = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(release[1]) if release else None


def _failure(metric: str, patience_s: float, errors: bytes) -> RunError:
    """With the cause that the program named last, above its stack trace."""
    lines = errors.decode("utf-8", "replace").splitlines()
    told = [line.strip() for line in lines if line.strip() and not line[0].isspace()]
    return RunError(
        expected=f"{metric}'s score from java within {patience_s:g} s",
        found=f"none, and on its standard error {told[-1] if told else 'nothing'}",
        do=f"see whether `java -version` works, or do without {metric}",
    )
