"""The card of an exported classifier says what was certified, whatever names it has to show."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from results.model_card import escaped, write_model_card
from results.run import Run, load_run
from results.sentences import sentence, statement
from results.store import StoreError
from results.verdict import Verdict, judge_all
from tests.support.invented import RADII, certificate_rows, write_run

SETTING = "digits-10shot"
HOSTILE = (
    "<script>alert(1)</script>",
    "![x](https://evil.test/x.png)",
    "[here](javascript:alert)",
    "a|b\n\n# heading\n---\n",
    "`code` **bold** _it_ &lt; \\ www.evil.test",
)
EXPORTED = {
    "schema_version": 8, "sigma": 0.375, "pixel_steps": 0, "procedure": "fixed", "num_classes": 10,
    "class_names": [str(label) for label in range(10)], "image_shape": [1, 8, 8],
    "image_form": {"image_size": None}, "precision": "float32",
    "classifier_kind": "architecture", "classifier_name": "digits_cnn",
    "classifier_hash": "0123456789abcdef" * 4, "classifier_file_hash": "f" * 64,
}  # fmt: skip


def exported(run: Path, **changes: Any) -> Path:
    """The export's folder in the run, with a configuration."""
    folder = run / SETTING / "smoothed_classifier"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(EXPORTED | changes))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "demo")


def judged(run: Path) -> tuple[Run, Verdict]:
    loaded = load_run(run)
    return loaded, judge_all(loaded)[SETTING]


def card(run: Path, **changes: Any) -> str:
    folder = exported(run, **changes)
    loaded, verdict = judged(run)
    path = write_model_card(loaded, loaded.settings[0], verdict)
    assert path == folder / "README.md"
    return path.read_text()


def page(text: str) -> str:
    """The card as HTML, by a renderer of CommonMark with tables."""
    body = text.split("\n---\n", 1)[1]
    html: str = MarkdownIt("commonmark").enable("table").render(body)
    return html


def test_it_begins_with_what_was_proved(run: Path) -> None:
    html = page(card(run))
    proved = sentence(statement(judged(run)[1]))
    assert html.split("</h1>")[1].lstrip().startswith(f"<p><strong>{proved}</strong>")


def test_the_table_has_the_shares_of_right_and_wrong_certificates(run: Path) -> None:
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", page(card(run)))
    rows = [cells[i : i + 7] for i in range(0, len(cells), 7)]
    assert rows[0] == ["", "sigma", "r = 0", "r = 0.25", "r = 0.5", "r = 0.75", "ACR"]
    variants = ("none", "label_consistency", "published", "best")
    for variant, (_, sigma, *shares, acr) in zip(variants, rows[1:], strict=True):
        certificates = certificate_rows(variant)
        right = np.array([c["predicted"] == c["label"] for c in certificates])
        wrong = ~right & np.array([c["predicted"] >= 0 for c in certificates])
        radius = np.array([c["radius"] for c in certificates])
        assert float(sigma) == certificates[0]["sigma"]
        assert shares == [
            f"{100 * (right & (radius >= at)).mean():.1f} / "
            f"{100 * (wrong & (radius >= at)).mean():.1f}"
            for at in RADII
        ]
        assert float(acr) == pytest.approx((radius * right).mean(), abs=6e-4)


def test_it_describes_model_and_limits(run: Path) -> None:
    text = page(card(run))
    for said in (
        "It does not say that the class is right",
        "alpha = 0.001",
        "one in 1,000",
        "10,100 votes",
        "Voracek",
        "the architecture digits_cnn, weights 0123456789ab",
        "8 x 8 pixels, grey",
        "10 of each class",
        "n0 = 100, n = 10000 at most",
        "SmoothedClassifier.load(&quot;FOLDER&quot;)",
    ):
        assert said in text
    assert "classifier=" not in text
    assert "resized" not in text


def test_what_differs_between_exports_is_said(run: Path) -> None:
    text = page(
        card(
            run,
            classifier_file_hash=None,
            classifier_kind="endpoint",
            classifier_name="https://x.test/",
            pixel_steps=16,
            image_form={"image_size": 224},
            image_shape=[3, 224, 224],
        )
    )
    assert "classifier=my_classifier" in text
    assert "an endpoint that answers queries https://x.test/" in text
    assert "holds in floating point" in text
    assert "rounded to multiples of 1/16" in text
    assert "distances between resized images" in text
    assert "224 x 224 pixels, RGB, resized" in text


def test_the_metadata_are_those_of_the_hub(run: Path) -> None:
    text = card(run)
    data = yaml.safe_load(text.split("---\n")[1])
    assert data["pipeline_tag"] == "image-classification"
    (result,) = data["model-index"][0]["results"]
    right = sum(
        c["predicted"] == c["label"] and c["radius"] >= 0.5 for c in certificate_rows("best")
    )
    assert result["metrics"][2]["value"] == right / 2
    hub: Any = pytest.importorskip("huggingface_hub", reason="needs the extra huggingface")
    read = hub.ModelCard(text).data
    assert read.library_name == "decrop-tuning"
    assert [one.metric_value for one in read.eval_results] == [
        metric["value"] for metric in result["metrics"]
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_elsewhere_are_text(run: Path, name: str) -> None:
    plain = page(card(run))
    exported(run, class_names=[name] * 10, classifier_name=name, classifier_kind="factory")
    loaded, verdict = judged(run)
    named = [{**row, "name": name} for row in loaded.settings[0].classes]
    setting = replace(loaded.settings[0], classes=named)
    path = write_model_card(loaded, setting, replace(verdict, answer=name))
    assert path is not None
    html = page(path.read_text())
    tags = re.compile(r"</?\w+")
    assert tags.findall(html) == tags.findall(plain)


@pytest.mark.parametrize("name", [*HOSTILE, "cat", "a" + chr(0x202E) + "b", "<", "\\"])
def test_an_escaped_name_is_shown_as_it_is(name: str) -> None:
    html = MarkdownIt("commonmark").render(f"x {escaped(name)} y").strip()
    shown = html.removeprefix("<p>x ").removesuffix(" y</p>")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    expected = name.replace("\n", "\\n").replace(chr(0x202E), "\\u202e")
    assert shown == expected
    assert "<a" not in MarkdownIt("commonmark").render(escaped(name))


def test_without_an_export_there_is_no_card(run: Path) -> None:
    loaded, verdict = judged(run)
    assert write_model_card(loaded, loaded.settings[0], verdict) is None
    assert not (run / SETTING / "smoothed_classifier").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "\x00"])
def test_a_damaged_configuration_is_named(run: Path, content: str) -> None:
    (exported(run) / "config.json").write_text(content)
    loaded, verdict = judged(run)
    with pytest.raises(StoreError, match=r"config\.json: is not the configuration of an export"):
        write_model_card(loaded, loaded.settings[0], verdict)
