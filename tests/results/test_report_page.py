"""What the page of a report loads, runs and draws: nothing but what it holds."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

from results.files import INSIGHT
from results.store import write_json
from tests.results.conftest import built
from tests.support.invented import write_run
from tests.support.pages import Page

FIGURES = {
    "Importance": {
        "data": [{"type": "bar", "orientation": "h", "x": [0.25, 0.75], "y": ["w_mmd", "sigma"]}],
        "layout": {"height": 300, "meta": {"caption": "How much <b>each</b> matters."}},
    },
    "<i>&</i>": {
        "data": [{"type": "scatter", "x": [0, 1], "y": [None, 2], "name": "</script><!--<script>"}],
        "layout": {"annotations": [{"x": 0, "y": 2, "text": "note", "font": {"color": "#555"}}]},
    },
}


def test_a_report_loads_nothing_from_anywhere(html: str) -> None:
    page = Page(html)
    assert len(page.addresses) == 12
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", html)


@pytest.fixture(scope="module")
def insight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("insight"), ("digits-10shot", "digits-5shot"))
    for name in ("digits-10shot", "digits-5shot"):
        write_json(run / name / INSIGHT, FIGURES)
    return run


def test_figures_are_embedded_as_they_are_and_plotly_once(insight: Path) -> None:
    html = built(insight)
    page = Page(html)
    embedded = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    assert embedded == 2 * list(FIGURES.values())
    code = [text for kind, text in page.scripts if kind is None]
    assert [text.count("plotly.js v") > 0 for text in code] == [True, False]
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    own = html.replace(code[0], "")
    assert not re.search(r"url\(|@import|https?://", own)
    assert "default-src 'none'" in own
    assert page.text.count("How much <b>each</b> matters.") == 2
    assert page.text.count("<i>&</i>") == 2


def test_a_report_without_figures_may_run_no_code(html: str) -> None:
    assert "script-src 'none'" in html
    assert "<h3>Insight" not in html


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_figures_without_a_network(
    browser: str, insight: Path, tmp_path: Path, scheme: str
) -> None:
    page = insight / "report.html"
    page.write_text(built(insight).replace("<style>", f"<script>{_PROBE}</script><style>", 1))
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            # Every address but the file itself is refused.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    drawn = json.loads(unescape(title[1]))
    card, ink = {
        "light": ("rgb(255, 255, 255)", "rgb(31, 36, 48)"),
        "dark": ("rgb(23, 27, 34)", "rgb(230, 233, 239)"),
    }[scheme]
    assert (drawn["plots"], drawn["traces"]) == (4, 4)
    assert drawn["ground"] == 4 * [card]
    assert drawn["ink"] == 4 * [ink]
    assert drawn["ticks"][:2] == ["w_mmd", "sigma"]
    assert drawn["loaded"] == []
    assert drawn["errors"] == []
    # Nothing that would send the figure away.
    assert "Zoom" in drawn["buttons"]
    assert not any(word in " ".join(drawn["buttons"]).lower() for word in ("share", "cloud"))


# Puts what a reader would see into the title.
_PROBE = """
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
addEventListener("load", () => setTimeout(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  // As when the colour scheme changes.
  draw();
  document.title = JSON.stringify({
    plots: all(".js-plotly-plot").length,
    traces: all(".insight .cartesianlayer .trace").length,
    ground: all(".insight .main-svg:first-child").map(
      (node) => getComputedStyle(node).backgroundColor),
    ink: all(".insight").map((plot) => getComputedStyle(plot.querySelector(".xtick text")).fill),
    ticks: all(".ytick text").map((node) => node.textContent),
    buttons: all(".modebar-btn").map(
      (node) => node.dataset.title ?? node.getAttribute("aria-label") ?? ""),
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:") && !name.startsWith("blob:")),
    errors,
  });
}, 500));
"""
