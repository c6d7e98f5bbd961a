"""Figures as parts of the page, with what is said below them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from results.figures import certificates as figures
from results.figures import search
from results.figures.drawing import as_svg
from results.insight import Insight
from results.report.anchors import anchors_for
from results.run import Run, Setting
from results.schema import Row, front_number

# Their hyperparameters are not chosen by the study.
_PLAIN = ("label_consistency", "mse")
_MOST_BARS = 20


class Picture(NamedTuple):
    """A figure for the page."""

    svg: Markup
    caption: str


class Drawing:
    """Draws the figures of a part of the page, whose name tells them from all others."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __call__(
        self, draw: Callable[..., Figure], *data: object, text: str, caption: str
    ) -> Picture:
        """The figure that `draw` makes of `data`; `text` is for those who cannot see it."""
        name = f"{self._part}-{draw.__name__}"
        # Matplotlib escapes the texts in it.
        return Picture(Markup(as_svg(draw(*data), name, text)), caption)


def certified(
    run: Run, setting: Setting, labels: Mapping[str, str], at: float
) -> dict[str, Picture]:
    """The figures of a setting's certificates by name, without those that have nothing to show.

    Those that show only one radius show `at`.
    """
    draw = Drawing(setting.name)
    shown = dict(_of_images(draw, run, setting, labels)) if setting.certificates else {}
    if setting.summary:
        shown["answers"] = draw(
            figures.answers,
            *(setting.summary, labels, 0.0),
            text="Images certified right and wrong by variant, with the most frequent answer",
            caption="What the images get at radius 0; the rest abstains. A diamond far to the "
            "right of its tick: the classifier gives the same answer far too often.",
        )
    if setting.summary and setting.classes:
        shown["classes"] = _classes(draw, setting.classes, labels, at)
    if any(front_number(row["variant"]) is not None for row in setting.summary):
        shown["tradeoff"] = draw(
            figures.tradeoff,
            setting.summary,
            text="Clean accuracy against score, one point per variant",
            caption="On the test images, with 95 % intervals. Numbered: the Pareto front, which "
            "was chosen on the tuning images; on the test images some members may be dominated.",
        )
    return shown


def _of_images(
    draw: Drawing, run: Run, setting: Setting, labels: Mapping[str, str]
) -> Iterator[tuple[str, Picture]]:
    """The figures that follow from the certificates of the images."""
    anchors = anchors_for(run, setting)
    cited = "".join(f" {anchor.label}: {anchor.source}." for anchor in anchors)
    yield (
        "curves",
        draw(
            figures.curves,
            *(setting.certificates, labels, anchors),
            text="Certified accuracy against radius, one line per variant",
            caption="The share of test images that are provably right up to each radius. Bands: "
            f"95 % intervals over the choice of images.{cited}",
        ),
    )
    yield (
        "bounds",
        draw(
            figures.bounds,
            *(setting.certificates, labels),
            text="Distribution of the lower bounds over the images, one line per variant",
            caption="How certain the votes are: the share of images whose bound is at most this "
            "value. Left of one half, an image can be certified only because the votes bound every "
            "other class as well.",
        ),
    )
    yield (
        "radii",
        draw(
            figures.radii,
            *(setting.certificates, labels),
            text="Histogram of the certified radii, one line per variant",
            caption="How far the images that are certified right are certified.",
        ),
    )


def _classes(draw: Drawing, rows: Sequence[Row], labels: Mapping[str, str], at: float) -> Picture:
    most = figures.MOST_CLASSES
    many = len({row["class"] for row in rows}) > most
    left_out = f" Only the {most // 2} best and the {most // 2} worst classes." if many else ""
    return draw(
        figures.classes,
        *(rows, labels, at),
        text=f"Certified accuracy at {at:g} by class, one mark per variant",
        caption=f"Classes by the certified accuracy of the best variant at radius {at:g}; the bar "
        f"is its 95 % interval.{left_out}",
    )


def searched(run: Run, setting: Setting, objective: str) -> list[Picture]:
    """The figures of a setting's search for which there are enough trials."""
    if not setting.trials:
        return []
    draw = Drawing(setting.name)
    history = draw(
        search.history,
        *(setting.trials, objective),
        text="Objective by trial number",
        caption="Scores on the tuning images during the search. Small: pruned; crosses: no score.",
    )
    pictures = [history]
    if run.config.get("objective") == "pareto":
        front = draw(
            search.trial_front,
            *(setting.trials, objective),
            text="Clean accuracy against the objective, one point per trial",
            caption="Complete trials by both of their scores in the search.",
        )
        pictures.append(front)
    return [*pictures, *_learnt(draw, setting, objective)]


def _learnt(draw: Drawing, setting: Setting, objective: str) -> Iterator[Picture]:
    """What the search says about hyperparameters, and how its trials went on."""
    insight = Insight.of(setting.insight)
    if insight.importances:
        yield draw(
            search.importances,
            dict(list(insight.importances.items())[:_MOST_BARS]),
            text="Importance of hyperparameters",
            caption="Importance: how far the values of the best trials differ from those of all "
            "trials of the search, the pruned ones included (PED-ANOVA; Watanabe et al. 2023). It "
            "is about the values that were tried; with few trials it is only a hint.",
        )
    yield from _hyperparameters(draw, setting, insight, objective)
    if insight.scores:
        states = {row["number"]: row["state"] for row in setting.trials}
        yield draw(
            search.rung_scores,
            *(insight.scores, states, objective),
            text="Scores of the trials at their rungs",
            caption="Scores of the trials as they went on; dashed lines were pruned.",
        )


def _hyperparameters(
    draw: Drawing, setting: Setting, insight: Insight, objective: str
) -> Iterator[Picture]:
    """The score against the most important hyperparameters, if enough trials have one."""
    scored = [
        row
        for row in setting.trials
        if row["objective"] is not None and row["origin"] not in _PLAIN
    ]
    names = _most_important(setting, scored, insight)
    complete = [row for row in scored if row["state"] == "complete"]
    if not names or len({row["objective"] for row in complete}) < 2:
        return
    yield draw(
        search.slices,
        *(scored, names, objective),
        text="Objective against each hyperparameter",
        caption="Each hyperparameter against the score; small points were pruned.",
    )
    yield draw(
        search.parallel,
        *(complete, names, objective),
        text="Parallel coordinates of the complete trials",
        caption="One line per complete trial, from its score through its hyperparameters; the best "
        "fifth stands out.",
    )


def _most_important(setting: Setting, rows: Sequence[Row], insight: Insight) -> list[str]:
    """The hyperparameters to draw side by side: of those that varied the most important ones."""
    varied = [name for name in setting.hyperparameters if len({row[name] for row in rows}) > 1]
    order = {name: place for place, name in enumerate(insight.importances)}
    chosen = sorted(varied, key=lambda name: order.get(name, len(order)))[: search.MOST_AXES]
    return [name for name in varied if name in chosen]
