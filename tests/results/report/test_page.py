"""What the page of a report loads, runs and shows: nothing but what it holds, to everybody."""

import base64
import hashlib
import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from results.files import INSIGHT
from results.insight import Insight
from results.store import write_json
from tests.results.conftest import built
from tests.support.invented import write_run
from tests.support.pages import Page
from tests.support.sealing import sealed

LEARNT = Insight(
    "ACR",
    {"w_mmd": 0.75, "sigma": 0.25},
    {0: [(9, 0.2), (27, 0.3)], 7: [(9, 0.1)]},
)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("learnt"), ("digits-10shot", "digits-5shot"))
    for name in ("digits-10shot", "digits-5shot"):
        write_json(run / name / INSIGHT, LEARNT.content())
    return sealed(run)


def test_a_report_loads_nothing_from_anywhere(learnt: Path) -> None:
    html = built(learnt)
    page = Page(html)
    own = {address for address in page.addresses if address.startswith("#")}
    assert all(address.startswith("data:image/png;base64,") for address in {*page.addresses} - own)
    assert not {"link", "iframe", "object", "image"} & set(page.tags)
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    assert "default-src 'none'" in html


def test_links_lead_to_parts_of_the_page(learnt: Path) -> None:
    html = built(learnt)
    links = set(re.findall(r'<a href="#([^"]*)"', html))
    places = re.findall(r'\bid="([^"]*)"', html)
    assert {"overview", "digits-10shot", "digits-5shot", "cost", "certificates", "run"} <= links
    assert links <= {*places}
    assert len(places) == len({*places})
    # What figures refer to is there as well.
    used = {a or b for a, b in re.findall(r'url\(#([^)]*)\)|xlink:href="#([^"]*)"', html)}
    assert used
    assert used <= {*places}


def test_the_only_script_is_the_one_that_the_page_allows(html: str) -> None:
    ((kind, code),) = Page(html).scripts
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert kind is None
    assert f"script-src 'sha256-{digest}'" in html


def test_every_figure_has_a_description_and_the_colours_of_the_page(learnt: Path) -> None:
    html = built(learnt)
    figures = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    labels = [re.search(r'role="img" aria-label="([^"]+)"', figure) for figure in figures]
    assert all(labels)
    for wanted in ("Importance", "Parallel", "rungs", "by class", "Histogram", "against the shots"):
        assert any(wanted in label[1] for label in labels if label), wanted
    defined = set(re.findall(r"(--[\w-]+):", html))
    assert set(re.findall(r"var\((--[\w-]+)\)", "".join(figures))) <= defined
    assert not re.search(r"#[0-9a-f]{6}", "".join(figures))


def probed(
    browser: str, run: Path, folder: Path, width: int, *flags: str, paper: bool = False
) -> Any:
    """What the page looks like to a script, which the page itself would not allow.

    The browser reaches nothing but the file. The page is in a frame, because windows have a least
    width.
    """
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", built(run))
    if paper:
        text = text.replace("@media print", "@media all").replace("@media screen", "@media speech")
    probe = f"<script>{_PROBE}</script><style>"
    (run / "probed.html").write_text(text.replace("<style>", probe, 1))
    outer = run / "outer.html"
    outer.write_text(_FRAME.format(width=width))
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=20000",
            "--window-size=1400,1000",
            "--dump-dom",
            *flags,
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    return json.loads(unescape(title[1]))


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_to_everybody_without_a_network(
    browser: str, learnt: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    dark = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    seen = probed(browser, learnt, tmp_path, width, dark)
    assert seen["width"] == width
    assert seen["loaded"] == []
    assert seen["errors"] == []
    assert seen["ground"] == {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 18, 23)"}[scheme]
    # Only what is in a box of its own may be wider than the page.
    assert seen["wider"] == []
    assert width < 1200 or not [name for name in seen["sideways"] if "Variants of" in name]
    assert seen["faint"] == []
    assert seen["unreachable"] == []
    # Sorted by score, both ways, with the trial that has none at the end.
    assert seen["ascending"] == [*sorted(seen["ascending"][:-1]), ""]
    assert seen["descending"] == [*sorted(seen["ascending"][:-1], reverse=True), ""]
    assert seen["sort"] == "descending"


def test_nothing_is_cut_off_or_folded_away_on_paper(
    browser: str, learnt: Path, tmp_path: Path
) -> None:
    # A sheet of A4 without its margins, at 96 dots per inch.
    seen = probed(browser, learnt, tmp_path, 703, paper=True)
    assert seen["errors"] == []
    assert seen["cut"] == []
    assert seen["folded"] == []
    assert seen["wider"] == []


# Puts what the page says of itself into the title.
_FRAME = """
<title>-</title>
<script>addEventListener("message", (event) => document.title = event.data);</script>
<iframe src="probed.html" width="{width}" height="900" style="border: 0"></iframe>
"""
# Says what a reader would see.
_PROBE = """
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
function luminance(colour) {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function ground(node) {
  for (let at = node; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
}
function contrast(node) {
  const style = getComputedStyle(node);
  const ink = node instanceof SVGElement ? style.fill : style.color;
  const [low, high] = [luminance(ink), luminance(ground(node))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
addEventListener("load", () => setTimeout(() => {
  dispatchEvent(new Event("beforeprint"));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const said = (node) => `${node.tagName}: ${node.textContent.trim().slice(0, 40)}`;
  const boxed = (node) => node.closest(".scroll, svg");
  const own = (node) => [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const texts = all("main *").filter((node) => own(node) && node.getClientRects().length);
  const table = document.querySelector(".trials"), header = table.querySelectorAll("button");
  const score = [...header].findIndex((button) => button.textContent === "Score");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[score].textContent);
  header[score].click();
  const ascending = column();
  header[score].click();
  parent.postMessage(JSON.stringify({
    ascending, descending: column(), sort: header[score].closest("th").ariaSort,
    ground: getComputedStyle(document.body).backgroundColor,
    wider: texts.filter((n) => !boxed(n) && n.getBoundingClientRect().right > innerWidth).map(said)
      .concat(document.documentElement.scrollWidth > innerWidth ? ["the page"] : []),
    faint: texts.filter((node) => contrast(node) < 4.5).map(said),
    cut: all(".scroll, pre").filter((node) => node.scrollWidth > node.clientWidth + 1
      || node.scrollHeight > node.clientHeight + 1).map(said),
    sideways: all(".scroll").filter((node) => node.scrollWidth > node.clientWidth + 1)
      .map((node) => node.ariaLabel),
    folded: all("details:not([open])").map(said),
    unreachable: all(".scroll, thead button, summary, a").filter((node) => {
      node.focus();
      return document.activeElement !== node && node.getClientRects().length;
    }).map(said),
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:")),
    errors, width: innerWidth,
  }), "*");
}, 500));
"""
