"""The report: one self-contained HTML page, built only from the files of a run folder.

Rebuild it with `decrop report RUN`, or `python -m results.report RUN`.
"""

import argparse
import base64
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from results import files
from results.digests import FILES
from results.figures import (
    bounds_figure,
    curves_figure,
    history_figure,
    tradeoff_figure,
)
from results.insight import rungs
from results.run import Run, Setting, load_run
from results.schema import (
    accuracy_column,
    front_number,
    joint_column,
    variant_label,
    wrong_column,
)
from results.sentences import details, headline, sentence
from results.store import write_text
from results.terminal import objective_label, round_down
from results.verdict import Verdict, is_one_sided, judge_all

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class _Figure:
    """A picture for each colour scheme, as data URIs."""

    light: str
    dark: str


def build_report(run: Path) -> Path:
    """Write report.html into a run folder from its tables, configuration and manifest.

    Returns:
        The path of the report.

    Raises:
        ValueError: if the folder is not a readable run (`store.StoreError`), or its variants were
            certified on different images.
        OSError: if the report cannot be written.
    """
    loaded = load_run(run)
    return write_report(loaded, judge_all(loaded))


def write_report(run: Run, verdicts: Mapping[str, Verdict]) -> Path:
    """Write report.html of a run that was read, with its verdicts; returns its path."""
    path = run.folder / files.REPORT
    write_text(path, _render(run, verdicts))
    return path


def _render(run: Run, verdicts: Mapping[str, Verdict]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        round_down=round_down,
        percent=_percent,
        signed=_signed,
        cell=_cell,
        duration=_duration,
        caption=_caption,
        headline=headline,
        sentence=sentence,
        details=details,
        one_sided=is_one_sided,
    )
    objective = objective_label(str(run.config.get("objective", "")))
    return environment.get_template("report.html.j2").render(
        run=run,
        objective=objective,
        accuracy_column=accuracy_column,
        wrong_column=wrong_column,
        joint_column=joint_column,
        sections=[
            _section(run, setting, verdicts.get(setting.name), objective)
            for setting in run.settings
        ],
        config=yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
        manifest=list(_flatten({k: v for k, v in run.manifest.items() if k != FILES})),
        certificate=_certificate(run),
        plotly=Markup(get_plotlyjs()) if any(s.insight for s in run.settings) else None,
    )


def _section(run: Run, setting: Setting, verdict: Verdict | None, objective: str) -> dict[str, Any]:
    certificates, trials = setting.certificates, setting.trials
    # Of an interrupted run, certificates may be there without their row of the summary.
    labels = {name: name for name in certificates}
    labels |= {
        row["variant"]: variant_label(row["variant"], row["origin"]) for row in setting.summary
    }
    entry = run.manifest.get("settings", {}).get(setting.name, {})
    front = [row for row in setting.summary if front_number(row["variant"]) is not None]
    return {
        "setting": setting,
        "front": front,
        "tradeoff": front and _drawn(tradeoff_figure, setting.summary),
        "queries": entry.get("queries"),
        "verdict": verdict,
        "labels": labels,
        "radii": setting.summary[0]["radii"] if setting.summary else [],
        "classes": sorted(setting.classes, key=lambda row: row["class"]),
        "states": [
            (state, sum(row["state"] == state for row in trials))
            for state in ("complete", "pruned", "failed")
        ],
        "restarted": sum(bool(row["restarts"]) for row in trials),
        "rungs": rungs(trials),
        "curves": certificates and _drawn(curves_figure, certificates, labels),
        "bounds": certificates and _drawn(bounds_figure, certificates, labels),
        "history": trials and _drawn(history_figure, trials, objective),
    }


def _drawn(figure: Callable[..., bytes], *arguments: Any) -> _Figure:
    return _Figure(_uri(figure(*arguments)), _uri(figure(*arguments, dark=True)))


def _certificate(run: Run) -> dict[str, Any] | None:
    rows = [row for setting in run.settings for row in setting.summary]
    if not rows:
        return None
    alpha, images = max(row["alpha"] for row in rows), max(row["images"] for row in rows)
    return {
        "alpha": alpha,
        "images": images,
        "wrong": alpha * images,
        "n0": rows[0]["n0"],
        "n": max(row["n"] for row in rows),
    }


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flatten(item, f"{name}.")
        elif isinstance(item, list):
            yield name, ", ".join(str(part) for part in item) or "none"
        else:
            yield name, _cell(item)


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _caption(figure: Mapping[str, Any]) -> str:
    meta = figure["layout"].get("meta")
    return str(meta.get("caption", "")) if isinstance(meta, Mapping) else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("-", _MINUS)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", _MINUS)


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _CommandLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report's path and return 0; if that fails, say why in one line and return 2."""
    parser = _CommandLine("decrop report", description="Rebuild a run's report from its tables.")
    parser.add_argument("run", type=Path, help="run folder, for example runs/digits")
    try:
        print(build_report(parser.parse_args(arguments).run))
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
