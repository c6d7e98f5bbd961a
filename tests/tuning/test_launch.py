import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tuning.launch import main


def test_dry_run_prints_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("trials: 9\nn: 500\n")
    before = sorted(tmp_path.rglob("*"))
    code = main(["--dry-run", f"--out={tmp_path / 'runs'}", f"--config={config}", "--n=700"])
    out = capsys.readouterr().out
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    resolved = yaml.safe_load(out[: out.index("studies") - 1].rsplit("\n", 1)[0])
    assert (resolved["trials"], resolved["n"]) == (9, 700)
    assert f"{5 * 200 * (100 + 700):,}" in out
    assert "workers" in out
    # Of 200 epochs, each of two batches.
    assert "50, 150, 400 in batches of 40" in out


def test_dry_run_says_what_it_costs_to_programs_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--dry-run", "--json", f"--out={tmp_path}", "--shots=3,5", "--set=epochs=20"]) == 0
    *rest, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert list(found["cost"]) == ["digits-3shot", "digits-5shot"]
    for cost in found["cost"].values():
        assert set(cost) == {"search", "confirmation", "certification", "disk"}
        assert min(cost.values()) > 0
    assert found["config"]["shots"] == ["3", "5"]
    assert found["workers"] >= 1
    assert any(line.startswith("cost: about ") for line in rest)


def test_a_quiet_command_says_nothing_of_what_is_going_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--dry-run", f"--out={tmp_path}", "--shots=3", "--set=epochs=20"]
    said = []
    for flags in ([], ["--quiet"]):
        assert main([*command, *flags]) == 0
        said.append(capsys.readouterr().err)
    assert "timing a few" in said[0]
    assert said[1] == ""


def modules_after(script: str) -> set[str]:
    """Top-level modules that Python has imported after `script`."""
    command = [sys.executable, "-c", f"{script}; import sys; print(*sys.modules)"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_ray_is_not_imported_before_the_cluster_was_asked() -> None:
    assert "ray" not in modules_after("import tuning.run.start, tuning.run.certify_again")


@pytest.mark.parametrize(
    "script",
    [
        "import tuning.launch; tuning.launch.main(['--set', 'x'])",
        "import tuning.launch; tuning.launch.main(['--resume', '--set', 'x'])",
        "import tuning.launch; tuning.launch.main(['--help'])",
        "import tuning.certify; tuning.certify.main(['--n', 'x'])",
        "import tuning.certify; tuning.certify.main(['--help'])",
        "import tuning.__main__; tuning.__main__.main(['--help'])",
        "import tuning.__main__; tuning.__main__.main(['launch', '--version'])",
    ],
)
def test_help_and_refusals_wait_for_no_large_library(script: str) -> None:
    heavy = {"torch", "numpy", "scipy", "sklearn", "pyarrow", "ray", "optuna", "rich", "matplotlib"}
    assert not heavy & modules_after(script)
