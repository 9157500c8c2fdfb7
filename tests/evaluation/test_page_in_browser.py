"""The page in a browser without a network: quiet, complete, and no wider than its window."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.evaluation.page import Panel, Strip, write_page

SAMPLE = Path(__file__).parent / "report_sample"
PROBE = """<script>
addEventListener("load", () => {
  document.querySelector("table.sortable thead th:nth-child(2) button").click();
  const root = document.documentElement;
  const told = {
    width: innerWidth,
    overflow: root.scrollWidth - root.clientWidth,
    boxes: [...document.querySelectorAll(".box")].filter(
      (box) => box.scrollWidth > box.clientWidth).length,
    broken: [...document.querySelectorAll("table.sortable tbody th:first-child")].map(
      (cell) => cell.firstChild).filter((name) => {
        const range = document.createRange();
        range.selectNodeContents(name);
        return new Set([...range.getClientRects()].map((box) => box.top)).size > 1;
      }).map((name) => name.textContent.trim()),
    order: [...document.querySelectorAll("table.sortable")[0].tBodies[0].rows].map(
      (row) => row.cells[0].firstChild.textContent),
  };
  console.log("probed");
  parent.postMessage(JSON.stringify(told), "*");
});
</script></body>"""
FRAMES = """<!doctype html><meta charset="utf-8"><title>frames</title>
<link rel="icon" href="data:,">
<iframe src="probed.html" style="width:1280px;height:900px;border:0"></iframe>
<iframe src="probed.html" style="width:400px;height:900px;border:0"></iframe>
<script>addEventListener("message", (event) => {
  document.body.append(Object.assign(document.createElement("p"), {textContent: event.data}));
});</script>"""


@pytest.fixture
def document() -> Any:
    return json.loads((SAMPLE / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def timing() -> Any:
    return json.loads((SAMPLE / "timing.json").read_text(encoding="utf-8"))


def strip(caption: str) -> Strip:
    panel = Panel(np.zeros((60, 90, 3), np.uint8), caption)
    return Strip("badnet", "picture.jpg", panel, panel, panel)


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium or google-chrome on the PATH to open the page in")


def words(page: str) -> str:
    """All text of a page, spaces left out."""
    return re.sub(r"\s+", "", html.unescape(re.sub(r"<[^>]*>", "", page)))


def browse(chromium: str, page: Path, *flags: str) -> tuple[str, list[str]]:
    """The DOM of a page after its scripts, opened without a network, and the console's lines."""
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            *flags,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_has_nothing_to_complain_of(
    chromium: str, document: Any, timing: Any, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_page(document, timing, [strip("<script>alert(1)</script>")], page)
    dom, console = browse(chromium, page)
    assert console == []
    assert dom.count("<table") == 2 + 3 * len(document["attacks"])
    assert dom.count("</button>") > 0, "the tables can be sorted"
    assert words(dom) == words(page.read_text(encoding="utf-8")), "nothing is mended or taken away"


def test_the_page_fits_wide_and_narrow_windows(
    chromium: str, document: Any, timing: Any, tmp_path: Path
) -> None:
    names = ("check_alone", "policy_alone", "path/to/a_long_file.py:and_an_object")
    for contestant, name in zip(document["attacks"][0]["contestants"][-3:], names, strict=True):
        contestant["name"] = name
    document["command"] = "srd-edge evaluate --bundle " + "a_very_long_name" * 20
    probed = tmp_path / "probed.html"
    write_page(document, timing, [strip("endless " * 60 + "word" * 60)], probed)
    page = probed.read_text(encoding="utf-8")
    probed.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    (tmp_path / "frames.html").write_text(FRAMES, encoding="utf-8")
    dom, console = browse(chromium, tmp_path / "frames.html", "--window-size=1400,1900")
    assert len(console) == 2 and all("probed" in line for line in console)
    told = sorted((json.loads(text) for text in re.findall(r"<p>(.*?)</p>", dom)), key=str)
    assert sorted(frame["width"] for frame in told) == [400, 1280]
    asr = {row["name"]: row["asr"] for row in document["attacks"][0]["contestants"]}
    for frame in told:
        assert frame["overflow"] == 0, "the body does not scroll sideways"
        assert frame["order"] == sorted(asr, key=asr.__getitem__)
        assert set(frame["broken"]) <= {names[-1]}
    narrow = next(frame for frame in told if frame["width"] == 400)
    assert narrow["boxes"] > 0, "wide tables scroll in boxes of their own"
