"""The page: complete, escaped and in need of nothing; test_page_in_browser.py opens it."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from srd_edge.evaluation.page import Panel, Strip, write_page
from srd_edge.evaluation.report import between, number, percent
from srd_edge.kernels.frames import Box, Pixels

SAMPLE = Path(__file__).parent / "report_sample"
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;"""
MARKS = ("▲", "better than policy: ", " (lower than policy)")
QUALITY = ("cider_d", "bleu_4", "rouge_l", "meteor", "spice", "sfs")


@pytest.fixture
def document() -> Any:
    return json.loads((SAMPLE / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def timing() -> Any:
    return json.loads((SAMPLE / "timing.json").read_text(encoding="utf-8"))


def plain(colour: tuple[int, int, int]) -> Pixels:
    return np.full((60, 90, 3), colour, np.uint8)


def strip(attack: str, caption: str = "a dog on grass") -> Strip:
    return Strip(
        attack,
        "picture.jpg",
        before=Panel(plain((220, 30, 40)), caption),
        triggered=Panel(plain((40, 200, 60)), "a photo of a Banana on a table"),
        perturbed=Panel(plain((30, 60, 210)), caption, "policy", (Box(20, 15, 50, 45),)),
    )


class Tables(HTMLParser):
    """Every table of a page as rows of texts of cells, those for screen readers included."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the base's
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += data

    def named(self, first: str, second: str) -> list[list[list[str]]]:
        """The tables with these first two headings, each row's texts tidied."""
        return [
            [[tidy(cell) for cell in row] for row in table]
            for table in self.tables
            if [tidy(cell) for cell in table[0][:2]] == [first, second]
        ]


def tidy(cell: str) -> str:
    for mark in MARKS:
        cell = cell.replace(mark, "")
    return " ".join(cell.split())


def made(path: Path, document: Any, timing: Any, *strips: Strip) -> str:
    write_page(document, timing, strips, path / "report.html")
    return (path / "report.html").read_text(encoding="utf-8")


def ordered(attack: Any) -> list[Any]:
    kinds = ["undefended", "policy", "control", "rival"]
    return sorted(attack["contestants"], key=lambda row: kinds.index(row["kind"]))


def test_every_figure_is_on_the_page(document: Any, timing: Any, tmp_path: Path) -> None:
    tables = Tables(made(tmp_path, document, timing))
    main, metrics = (
        tables.named("contestant", "ASR %"),
        tables.named("contestant", "CIDEr-D, clean"),
    )
    seeds = tables.named("contestant", "ASR %, by seed")
    assert len(main) == len(metrics) == len(seeds) == len(document["attacks"])
    for number_of_attack, attack in enumerate(document["attacks"]):
        for line, row in enumerate(ordered(attack), 1):
            times = timing["attacks"].get(attack["key"], {}).get(row["name"], {})
            kind = "" if row["kind"] == row["name"] else row["kind"]
            assert main[number_of_attack][line][:-1] == [
                row["name"] + kind,
                percent(row["asr"]),
                between(row["asr_interval"]),
                percent(row["clean_drop"]),
                number(row["rp"], 3),
                percent(row["false_alarms"]),
                number(row["auroc"], 3),
                percent(row["tpr_at_1_percent_fpr"]),
                number(row["mask_iou"], 3),
                number(row["captioner_passes_clean"], 2),
                number(row["captioner_passes_triggered"], 2),
                number(row["policy_passes"], 2),
                number(times.get("ratio_clean"), 2),
                number(times.get("ratio_triggered"), 2),
            ]
            assert metrics[number_of_attack][line][1:] == [
                number(row[pictures][metric], 3)
                for pictures in ("clean", "triggered")
                for metric in QUALITY
            ]
            assert seeds[number_of_attack][line][1:] == [
                ", ".join(percent(share) for share in row["asr_by_seed"]),
                ", ".join(percent(share) for share in row["clean_drop_by_seed"]),
                *(
                    number(times.get(n), 1)
                    for n in ("ms_clean", "ms_triggered", "p50_ms", "p95_ms")
                ),
            ]


def test_the_overview_has_attacks_by_contestants(
    document: Any, timing: Any, tmp_path: Path
) -> None:
    (overview,) = (t for t in Tables(made(tmp_path, document, timing)).tables if t[0][0] == "")
    names = ["none", "policy", "oracle", "strip", "onion"]
    assert overview[1] == ["attack", *names]
    for line, attack in zip(overview[2:], document["attacks"], strict=False):
        asr = {row["name"]: percent(row["asr"]) for row in attack["contestants"]}
        assert [tidy(cell) for cell in line[1:]] == [asr.get(name, "–") for name in names]
        policy = attack["contestants"][1]
        marked = {
            row["name"]
            for row in attack["contestants"][2:]
            if row["asr"] < policy["asr"] and attack["victim"]["verdict"] != "failed attack"
        }
        assert {n for n, cell in zip(names, line[1:], strict=True) if "▲" in cell} == marked
    means = [row["asr"] for a in (0, 2) for row in document["attacks"][a]["contestants"][1:2]]
    assert overview[-2][0] == "mean ASR"
    assert overview[-2][2] == percent(sum(means) / 2), "the failed attack is left out"
    assert overview[-2][3] == "–", "oracle did not meet every attack"


def test_the_head_says_what_was_measured(document: Any, timing: Any, tmp_path: Path) -> None:
    page = made(tmp_path, document, timing)
    for text in (document["command"], "500 pictures", "made-up", "0, 1", "x86_64, 2 cores"):
        assert text in page
    for attack in document["attacks"]:
        assert attack["victim"]["why"] in page
        assert attack["spec"] in page
    assert "no Stanford models beside pycocoevalcap" in page
    assert "the trigger has no place in the picture" in page


def test_a_failed_attack_is_called_one(document: Any, timing: Any, tmp_path: Path) -> None:
    sections = made(tmp_path, document, timing).split('<section class="attack"')[1:]
    for section, attack in zip(sections, document["attacks"], strict=True):
        failed = attack["victim"]["verdict"] == "failed attack"
        assert ("This attack failed." in section) == failed
        assert ('class="num muted"' in section) == failed


def test_a_defeat_is_as_plain_as_a_victory(document: Any, timing: Any, tmp_path: Path) -> None:
    del document["attacks"][1:]
    _, policy, *others = document["attacks"][0]["contestants"]
    policy.update(asr=0.2, asr_interval=[0.1, 0.3], clean_drop=0.05)
    for row in others:
        row.update(asr=0.4, asr_interval=[0.3, 0.5], clean_drop=0.1)
    assert "No rival and no control beats the policy here" in made(tmp_path, document, timing)
    others[1].update(asr=0.2, asr_interval=[0.1, 0.3], clean_drop=0.04)
    page = made(tmp_path, document, timing)
    assert "strip beats the policy here" in page
    assert "No rival" not in page
    (standings,) = Tables(page).named("contestant", "beats the policy")
    assert [row[:2] for row in standings[1:]] == [["oracle", "0"], ["strip", "1"], ["onion", "0"]]


def test_the_policy_need_not_take_part(document: Any, tmp_path: Path) -> None:
    for attack in document["attacks"]:
        attack["contestants"] = [r for r in attack["contestants"] if r["kind"] != "policy"]
    page = made(tmp_path, document, None)
    assert "beats the policy" not in page and "better than policy" not in page
    assert Tables(page).named("contestant", "beats the policy") == []


def test_times_need_not_be_measured(document: Any, tmp_path: Path) -> None:
    page = made(tmp_path, document, None)
    assert "in the same interleaved run: not measured" in page
    assert "passes of the captioner over a clean picture" in page


def test_nothing_hostile_gets_through(document: Any, timing: Any, tmp_path: Path) -> None:
    honest = made(tmp_path, document, timing, strip("badnet"))
    document.update(command=HOSTILE, commit=HOSTILE, data=HOSTILE, versions={HOSTILE: HOSTILE})
    document["unavailable_metrics"] = {HOSTILE: HOSTILE}
    attack = document["attacks"][0]
    attack.update(key=HOSTILE, bundle=HOSTILE, spec=HOSTILE, trigger=HOSTILE, target=HOSTILE)
    attack["victim"]["why"] = HOSTILE
    attack["skipped"] = [{"name": HOSTILE, "why": HOSTILE}]
    attack["contestants"][-1].update(name=HOSTILE, about=HOSTILE)
    page = made(tmp_path, document, timing, strip(HOSTILE, f"a dog {HOSTILE} on grass"))
    for tag in ("<script", "<img", "onerror=alert(2)>"):
        assert page.count(tag) == honest.count(tag)
    assert page.count("&lt;script&gt;alert(1)") > 20


def test_the_page_needs_nothing_else(document: Any, timing: Any, tmp_path: Path) -> None:
    page = made(tmp_path, document, timing, strip("badnet"))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert not re.search(r"https?:|url\(|@import|<link(?! rel=\"icon\" href=\"data:,\")", page)
    assert set(re.findall(r"src=\"(.{10})", page)) == {"data:image"}


def test_the_same_documents_make_the_same_page(document: Any, timing: Any, tmp_path: Path) -> None:
    first = made(tmp_path, document, timing, strip("badnet"))
    assert made(tmp_path, document, timing, strip("badnet")) == first


def test_pictures_keep_their_colours_and_get_their_boxes(
    document: Any, timing: Any, tmp_path: Path
) -> None:
    given = strip("badnet")
    page = made(tmp_path, document, timing, given)
    assert (given.perturbed.pixels == (30, 60, 210)).all(), "the caller's picture is not drawn on"
    panels = [given.before, given.triggered, given.perturbed]
    images = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" width="90" height="60"', page)
    assert len(images) == 3
    for panel, encoded in zip(panels, images, strict=True):
        raw = np.frombuffer(base64.b64decode(encoded), np.uint8)
        decoded = cv2.imdecode(raw, cv2.IMREAD_COLOR)
        assert decoded is not None
        shown = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        corner = shown[:8, :8].mean(axis=(0, 1))
        assert corner == pytest.approx(panel.pixels[0, 0], abs=6)
        edge = shown[28:32, 18:22].astype(int)
        yellow = (edge[..., 0] > 150) & (edge[..., 1] > 130) & (edge[..., 2] < 130)
        assert yellow.any() == bool(panel.boxes)
    assert "<mark>Banana</mark>" in page, "the target is marked whatever its case"
    assert page.count("<mark>") == 1


def test_large_pictures_are_made_smaller(document: Any, tmp_path: Path) -> None:
    large = Panel(np.zeros((1000, 2000, 3), np.uint8), "dark", None, (Box(0, 0, 2000, 1000),))
    page = made(tmp_path, document, None, Strip("badnet", "large", large, large, large))
    assert len(re.findall(r'<img src="[^"]+" width="440" height="220"', page)) == 3
