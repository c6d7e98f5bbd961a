"""What python -m tuning.certify refuses before it starts anything."""

from pathlib import Path

import pytest

from tuning.certify import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--verify"], "--verify: name the run"),
        (["--verify", "/nowhere"], "no such run folder"),
        ([], "--sigma: is missing"),
        (["--sigma=0"], "--sigma: must be above 0; got 0"),
        (["--sigma=0.25", "--n=50"], "--n: must be at least --n0, 100; got 50"),
        (["--sigma=0.25", "--alpha=1"], "--alpha: "),
        (["--sigma=0.25", "--certify-images=501"], "--certify-images: 501 were asked for"),
        (["--sigma=0.25", "--procedure=adaptive"], "--procedure: adaptive needs --radii"),
        (["--sigma=0.25", "--noise=uniform"], "--noise: "),
        (["--sigma=0.25", "--radii=0.5,0.25"], "--radii: (0.5, 0.25) must ascend"),
        (["--sigma=0.25", "--dataset=digits,mnist"], "--dataset: name one"),
        (["/nowhere", "--sigma=0.25"], "--denoiser: /nowhere cannot be read"),
        (["/nowhere", "--denoiser=/there"], "--denoiser: /nowhere already names one"),
        (["--denoiser=/nowhere", "--sigma=0.25"], "--denoiser: /nowhere cannot be read"),
        (["--sigma=0.25", "--dataset=folder", "--data-dir=/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main([*arguments, f"--out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
