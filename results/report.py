"""The report: one self-contained HTML page, built only from the files of a run folder.

Rebuild it with `decrop report RUN`, or `python -m results.report RUN`.
"""

import argparse
import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from results import files
from results.curves import Estimate, outcomes, paired_difference
from results.figures import (
    bounds_figure,
    curves_figure,
    history_figure,
    tradeoff_figure,
)
from results.insight import rungs
from results.run import Run, Setting, load_run
from results.schema import CERTIFIED_AT, VARIANTS, Row, front_number, variant_label
from results.store import write_text
from results.terminal import objective_label, round_down

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Comparison:
    """What the tuned variant gains over the variant `against` on the same images.

    `gain` is in ACR, `accuracy` in certified accuracy by radius.
    """

    against: str
    gain: Estimate
    accuracy: Mapping[float, Estimate]

    @property
    def verdict(self) -> str:
        """`gain`, `loss`, or `unclear` when the interval includes zero."""
        if self.gain.low > 0:
            return "gain"
        return "loss" if self.gain.high < 0 else "unclear"


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
    path = run / files.REPORT
    write_text(path, _render(load_run(run)))
    return path


def compare(certificates: Mapping[str, Sequence[Row]]) -> list[Comparison]:
    """Paired gains of `best` over each other variant; none without `best`.

    `certificates` holds rows of `schema.CERTIFICATES` by variant.

    Raises:
        ValueError: if two variants were certified on different images.
    """
    if "best" not in certificates:
        return []
    best = certificates["best"]
    return [
        _compare(name, best, certificates[name])
        for name in VARIANTS
        if name in certificates and name != "best"
    ]


def _compare(name: str, best: Sequence[Row], other: Sequence[Row]) -> Comparison:
    images = [sorted(row["image_index"] for row in rows) for rows in (best, other)]
    if images[0] != images[1]:
        raise ValueError(f"variants best and {name} were certified on different images")
    (right, mine), (other_right, others) = outcomes(best), outcomes(other)
    accuracy = {
        at: paired_difference(right & (mine >= at), other_right & (others >= at))
        for at in CERTIFIED_AT.values()
    }
    return Comparison(name, paired_difference(right * mine, other_right * others), accuracy)


def _render(run: Run) -> str:
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
    )
    objective = objective_label(str(run.config.get("objective", "acr")))
    return environment.get_template("report.html.j2").render(
        run=run,
        objective=objective,
        label=variant_label,
        radii=CERTIFIED_AT,
        sections=[_section(run, setting, objective) for setting in run.settings],
        config=yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
        manifest=list(_flatten(run.manifest)),
        certificate=_certificate(run),
        plotly=Markup(get_plotlyjs()) if any(s.insight for s in run.settings) else None,
    )


def _section(run: Run, setting: Setting, objective: str) -> dict[str, Any]:
    certificates, trials = setting.certificates, setting.trials
    entry = run.manifest.get("settings", {}).get(setting.name, {})
    front = [row for row in setting.summary if front_number(row["variant"]) is not None]
    return {
        "setting": setting,
        "front": front,
        "tradeoff": front
        and _Figure(
            _uri(tradeoff_figure(setting.summary)), _uri(tradeoff_figure(setting.summary, True))
        ),
        "queries": entry.get("queries"),
        "comparisons": compare(certificates),
        "tuned": next((row for row in setting.summary if row["variant"] == "best"), None),
        "states": [
            (state, sum(row["state"] == state for row in trials))
            for state in ("complete", "pruned", "failed")
        ],
        "restarted": sum(bool(row["restarts"]) for row in trials),
        "rungs": rungs(trials),
        "curves": certificates
        and _Figure(_uri(curves_figure(certificates)), _uri(curves_figure(certificates, True))),
        "bounds": certificates
        and _Figure(_uri(bounds_figure(certificates)), _uri(bounds_figure(certificates, True))),
        "history": trials
        and _Figure(
            _uri(history_figure(trials, objective)), _uri(history_figure(trials, objective, True))
        ),
    }


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
