"""The search for the trade-off of clean accuracy and radius, from flag to export."""

import json

from results.verification import verify
from tests.support.runs import CERTIFIED, ONE_WORKER, SETTING, Launcher, tables
from tuning.study.pareto import front


def test_the_front_is_certified_and_its_members_are_picked_by_one_flag(launcher: Launcher) -> None:
    common = ["--json"]
    # With quantised noise as well, which no other of these runs has.
    pareto = ["--objective=pareto", "--confirm-top=3", "--noise=quantised"]
    run = launcher.run("--name=pareto", *pareto, *ONE_WORKER, *common)
    members = [row for row in run.summary if row["variant"].startswith("front-")]
    assert [row["variant"] for row in run.summary[:5]] == CERTIFIED
    assert members
    assert [row["variant"] for row in members] == [f"front-{i + 1}" for i in range(len(members))]
    confirmation, certificates, of_front, *trials = tables(
        run.folder, ["confirmation", "certificates", "front", "trials"]
    )
    points = [(row["confirmed_accuracy"], row["confirmed_objective"]) for row in confirmation]
    assert {row["trial"] for row in members} == {confirmation[i]["number"] for i in front(points)}
    accuracies = [row["tuning_accuracy"] for row in members]
    assert accuracies == sorted(accuracies, reverse=True)
    images = {row["image_index"] for row in certificates}
    for row in members:
        mine = [r for r in of_front if r["variant"] == row["variant"]]
        assert {r["image_index"] for r in mine} == images
        assert (run.folder / SETTING / "certificates" / f"{row['variant']}.tsv").exists()
    assert members[0]["variant"] in (run.folder / "report.html").read_text()

    most_accurate = members[0]
    flag = f"--min-accuracy={most_accurate['tuning_accuracy']}"
    picked = launcher.run("--name=pareto", "--resume", flag, *common)
    best = next(row for row in picked.summary if row["variant"] == "best")
    assert best["tuning_accuracy"] >= most_accurate["tuning_accuracy"]
    exported = json.loads((run.folder / SETTING / "smoothed_classifier/config.json").read_text())
    assert (exported["sigma"], exported["pixel_steps"]) == (best["sigma"], 16)
    assert verify(run.folder) == (12 * len(picked.summary), [])
    # Nothing was searched, trained or certified again.
    assert [row for row in picked.summary if row["variant"] != "best"] == [
        row for row in run.summary if row["variant"] != "best"
    ]
    assert tables(run.folder, ["trials"]) == trials
