"""The page of a run: what it shows, and the templates that it is made of."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from results.digests import FILES
from results.report import facts, formats
from results.report.overview import overview
from results.report.setting import section
from results.report.state import Notes
from results.run import Run
from results.schema import accuracy_column, joint_column, wrong_column
from results.sentences import details, headline, sentence
from results.terminal import objective_label, round_down
from results.verdict import Verdict, is_one_sided

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")


def render(run: Run, verdicts: Mapping[str, Verdict], notes: Notes) -> str:
    """The report of a run as HTML."""
    objective = objective_label(str(run.config.get("objective", "")))
    sections = [
        section(run, setting, verdicts.get(setting.name), objective, notes)
        for setting in run.settings
    ]
    manifest = {name: value for name, value in run.manifest.items() if name != FILES}
    return (
        environment()
        .get_template("run.html.j2")
        .render(
            run=run,
            notes=notes,
            objective=objective,
            sections=sections,
            overview=overview(sections) if len(sections) > 1 else None,
            costs=facts.costs(run),
            images=facts.images(run),
            classifier=facts.classifier(run),
            command=facts.command(run),
            certificate=facts.certificate(run),
            config=yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
            manifest=list(formats.flatten(manifest)),
        )
    )


def environment() -> jinja2.Environment:
    """The templates with their filters, and with the script that sorts tables."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        number=formats.number,
        signed=formats.signed,
        percent=formats.percent,
        duration=formats.duration,
        cell=formats.cell,
        round_down=round_down,
        headline=headline,
        sentence=sentence,
        details=details,
        one_sided=is_one_sided,
    )
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    constants: dict[str, Any] = {
        "accuracy_column": accuracy_column,
        "wrong_column": wrong_column,
        "joint_column": joint_column,
        "script_hash": f"sha256-{digest}",
        "script": _SCRIPT,
    }
    found.globals.update(constants)
    return found
