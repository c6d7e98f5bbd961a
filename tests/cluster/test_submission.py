"""Runs submitted as Ray jobs through the dashboard of a cluster with a token."""

import json
import re
from collections.abc import Mapping

import pytest

from tests.cluster.conftest import SMALL
from tests.support.hosts import NOTHING, TwoHosts
from tests.support.runs import HANGING, SETTING, Finished, tables, without_incidentals


def client(
    hosts: TwoHosts, *arguments: str, environment: Mapping[str, str] = NOTHING
) -> tuple[int, str, str]:
    """The command line on a machine that is no host of the cluster, but reaches its dashboard."""
    process = hosts.launch(*arguments, address=hosts.dashboard, folder=hosts.folder / "client",
                           environment=environment)  # fmt: skip
    out, err = process.communicate(timeout=HANGING)
    return process.returncode, out, err


JOBS = """
import json, sys
from ray.job_submission import JobSubmissionClient
jobs = JobSubmissionClient(sys.argv[1]).list_jobs()
print(json.dumps([job.submission_id or "of somebody's own" for job in jobs]))
"""


def jobs(hosts: TwoHosts) -> list[str]:
    """Every submission."""
    found: list[str] = json.loads(hosts.on_first("-c", JOBS, hosts.dashboard))
    return found


def test_a_submitted_run_is_followed_and_its_results_come_back(
    hosts: TwoHosts, undisturbed: Finished
) -> None:
    submitted = ["--name=job", f"--storage={hosts.storage}", "--json", *SMALL]
    code, out, err = client(hosts, *submitted)
    assert code == 0, out + err
    assert "job: decrop-job\n" in out
    assert f"{SETTING}: certification votes: 0/" in out
    here = hosts.folder / "client" / "job"
    ours, reference = (tables(f, ["certificates"])[0] for f in (here, undisturbed.folder))
    assert without_incidentals(ours) == without_incidentals(reference)
    assert (here / "report.html").is_file()
    # The same command again is the same job.
    again = client(hosts, *submitted)
    assert again[0] == 0
    assert again[1].splitlines() == out.splitlines()
    assert [job for job in jobs(hosts) if job.startswith("decrop-job")] == ["decrop-job"]
    # Another configuration of the same name is not.
    code, _, err = client(hosts, *submitted, "--alpha=0.01")
    assert (code, err.count("\n")) == (2, 1)
    assert "--name: job decrop-job ran job with a different configuration; pass --resume" in err


def test_a_job_that_fails_passes_its_exit_code_on(hosts: TwoHosts) -> None:
    submitted = ["--name=bad", f"--storage={hosts.storage}", "--classifier=nowhere.pt"]
    code, out, err = client(hosts, *submitted, "--detach")
    assert (code, out, err) == (0, "job: decrop-bad\n", "")
    code, out, err = client(hosts, "--attach=decrop-bad")
    assert code == 2
    assert "error: --classifier: nowhere.pt" in out
    assert err == "error: job decrop-bad ended with exit code 2, as it says above\n"


def test_a_run_is_certified_again_as_a_job(hosts: TwoHosts, undisturbed: Finished) -> None:
    out = hosts.folder / "client" / "again"
    command = ["-m", "tuning.certify", str(undisturbed.folder), f"--cluster={hosts.dashboard}"]
    flags = [f"--storage={hosts.storage}", f"--out={out}", "--certify-images=4"]
    printed = hosts.on_first(*command, *flags)
    assert "job: decrop-again\n" in printed
    assert f"{SETTING}: certification votes: 0/" in printed
    (ours,), (reference,) = (tables(f, ["certificates"]) for f in (out, undisturbed.folder))
    indices = {row["image_index"] for row in ours}
    expected = [row for row in reference if row["image_index"] in indices]
    assert len(indices) == 4
    # Fewer images share alpha.
    more, less = ([row.pop("joint_radius") or 0.0 for row in rows] for rows in (ours, expected))
    assert all(a >= b for a, b in zip(more, less, strict=True))
    assert sum(more) > sum(less)
    assert without_incidentals(ours) == without_incidentals(expected)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--name=x"], {}, "--storage: the results of a job would stay on"),
        (["--attach=nobody"], {}, "--attach: http://.* has no job 'nobody'"),
        (["--name=x", "--storage=/x"], {"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token"),
        (["--resume", "--storage=/x"], {}, "--name: is needed to resume"),
    ],
)
def test_bad_submissions_end_in_one_line(
    hosts: TwoHosts, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    code, out, err = client(hosts, *arguments, environment=environment)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
