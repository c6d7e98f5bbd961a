"""What came of a run, for the terminal: a verdict and a table per setting, 80 columns wide."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.schema import Row, accuracy_column, front_number, variant_label, wrong_column
from results.sentences import details, headline, percent, sentence
from results.verdict import Verdict

_WIDTH = 80
_LEGEND = (
    "radius: no change of an image whose length (L2, pixels from 0 to 1) is below it alters the "
    "answer. score: certified accuracy in %, averaged over the radii, less the wrong certificates "
    "divided by the number of other classes, classes weighing equally: what guesses is at 0; with "
    "its 95% interval. r=...: certified accuracy in % at that radius. wrong: a wrong class at r=0; "
    "the rest abstains. top: the images that get the most frequent answer, in %. ACR: average "
    "certified radius."
)


def summary_tables(rows: Sequence[Row], verdicts: Mapping[str, Verdict]) -> Group:
    """For each setting its verdict, if there is one, and a table with one line per variant.

    `rows` are rows of `schema.summary_schema`, whose order is kept.
    """
    groups = [(name, list(group)) for name, group in groupby(rows, lambda row: row["setting"])]
    lines: list[RenderableType] = []
    for setting, group in groups:
        if setting in verdicts:
            lines += _verdict(verdicts[setting])
        lines += [*_tables(setting, group), *_front(group)]
    return Group(*lines, Text(_LEGEND, style="dim"))


def variant_table(title: str, rows: Sequence[Row]) -> RenderableType:
    """A table with one line per variant, and nothing else; `rows` as in `summary_tables`."""
    return Group(*_tables(title, rows))


def objective_label(objective: str) -> str:
    """How readers see an objective's name: ACR in capitals, and for pareto what it trades off."""
    return {"acr": "ACR", "pareto": "certified-accuracy"}.get(objective, objective)


def round_down(accuracy: float) -> float:
    """`accuracy` with three digits and rounded down, as a value for --min-accuracy."""
    return math.floor(1000 * accuracy) / 1000


def _verdict(verdict: Verdict) -> list[Text]:
    # Text, not str: brackets in names and intervals are not markup.
    good = verdict.beats_guessing and not verdict.one_sided
    style = "bold" if good else "bold red"
    return [
        Text(f"{verdict.setting}: {sentence(headline(verdict))}", style=style),
        *(Text(said) for said in details(verdict)),
        Text(""),
    ]


def _tables(setting: str, rows: Sequence[Row]) -> list[Table]:
    """The table of a setting, and a second one for the radii that are too many for the first."""
    fixed = {
        "sigma": [f"{row['sigma']:.3g}" for row in rows],
        "score": [percent(row["score"]) for row in rows],
        "95%": [f"{percent(row['score_low'])}..{percent(row['score_high'])}" for row in rows],
    }
    rest = {
        "wrong": [_whole(row[wrong_column(0)]) for row in rows],
        "top": [_whole(row["most_frequent_share"]) for row in rows],
        "ACR": [f"{row['acr']:.3f}" for row in rows],
    }
    radii = {
        _header(number, at): [_whole(row[accuracy_column(at)]) for row in rows]
        for number, at in enumerate(rows[0]["radii"])
    }
    names = [variant_label(row["variant"], row["origin"]) for row in rows]
    room = _WIDTH - _width({"": names} | fixed | rest)
    fitting = dict(radii)
    while _width(fitting) > room:
        fitting.popitem()
    more = {name: cells for name, cells in radii.items() if name not in fitting}
    styles = [_style(row) for row in rows]
    tables = [_table(setting, names, fixed | fitting | rest, styles)]
    return tables + ([_table(f"{setting}, at further radii", names, more, styles)] if more else [])


def _header(number: int, radius: float) -> str:
    short = f"{radius:g}".removeprefix("0") or "0"
    return short if number else f"r={short}"


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """The characters that columns take, with a space before each."""
    return sum(1 + max(map(len, [name, *cells])) for name, cells in columns.items())


def _style(row: Row) -> str:
    """Bold for the winner, red for what is no better than guessing."""
    weight = "bold" if row["variant"] == "best" else "not bold"
    return weight if row["beats_guessing"] else f"{weight} red"


def _table(
    title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]], styles: Sequence[str]
) -> Table:
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("variant", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for style, *cells in zip(styles, names, *columns.values(), strict=True):
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _front(rows: Sequence[Row]) -> list[Text]:
    """How to have a different member of the front exported."""
    members = [row for row in rows if front_number(row["variant"]) is not None]
    if not members:
        return []
    accuracies = ", ".join(
        f"{front_number(row['variant'])}: {round_down(row['tuning_accuracy'])}" for row in members
    )
    return [
        Text(
            f"Clean accuracy of the front on the tuning images: {accuracies}. To export a "
            "different one as best, --resume with --min-accuracy and the accuracy it must have.\n",
            style="dim",
        )
    ]


def _whole(share: float) -> str:
    """A share in percent, with three digits."""
    return f"{100 * share:.3g}"
