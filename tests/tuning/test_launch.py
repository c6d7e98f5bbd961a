import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.denoisers import DnCNN
from trainables.weights.checkpoint import save_classifier
from trainables.weights.denoiser_file import denoiser_bytes
from tuning.launch import main


def refused(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, code: int = 2
) -> str:
    """The one line that a refused command line prints; nothing may be left behind."""
    before = sorted(folder.rglob("*"))
    assert main([f"--out={folder / 'runs'}", "--name=refused", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        (["--shots=-3"], "--shots", "number above 0"),
        (["--shots=0"], "--shots", "number above 0"),
        (["--shots=many"], "--shots", "percentage"),
        (["--shots=1"], "--shots", "at least 2"),
        (["--shots=5000"], "--shots", "which has"),
        (["--trials=0"], "--trials", "greater than or equal to 1"),
        (["--trials=x"], "--trials", "integer"),
        (["--trials=1e99"], "--trials", "integer"),
        (["--alpha=2"], "--alpha", "less than 1"),
        (["--alpha=nan"], "--alpha", "got 'nan'"),
        (["--n=-5"], "--n", "greater than or equal to 1"),
        (["--n=10", "--n0=100"], "--n", "--n0"),
        (["--certify-images=501"], "--certify-images", "at most 500"),
        (["--dataset=nope"], "--dataset", "digits"),
        (["--dataset=folder"], "--data-dir", "name the image folder"),
        (["--dataset=folder", "--data-dir=/nowhere"], "--data-dir", "not a folder"),
        (["--objective=loss"], "--objective", "certified-accuracy@R"),
        (["--budget=soon"], "--budget", "30m"),
        (["--space=nope"], "--space", "decrop"),
        (["--set=depht=3"], "--space", "did you mean depth"),
        (["--set=depth"], "--set", "NAME=VALUE"),
        (["--set=sigma=-1"], "--space", "sigma"),
        (["--cpus-per-trial=4096"], "--cpus-per-trial", "cores"),
        (["--gpus-per-trial=4096"], "--gpus-per-trial", "GPUs"),
        (["--gpus-per-trial=inf"], "--gpus-per-trial", "finite"),
        (["--classifier=/nowhere.pt"], "--classifier", "does not exist"),
        (["--classifier=torchvision:resnot18"], "--classifier", "resnet18"),
        (["--classifier=no.such.module:make"], "--classifier", "no.such"),
        (["--classifier=/nowhere.pt2"], "--classifier", "does not exist"),
        (["--classifier=http://127.0.0.1:1/"], "--access", "black-box"),
        (["--classifier=http://127.0.0.1:1/", "--access=black-box"], "--classifier", "127.0.0.1:1"),
        (["--access=grey-box"], "--access", "'white-box' or 'black-box'"),
        (["--access=black-box", "--query-budget=0"], "--query-budget", "greater than"),
        (["--access=black-box", "--query-budget=9"], "--query-budget", "80 training images"),
        (["--weights=w.pt"], "--weights", "--classifier"),
        (["--mean=0.5"], "--mean", "--classifier"),
        (["--classifier=c.pt", "--std=wide"], "--std", "number"),
        (["--init-denoiser=/nowhere"], "--init-denoiser", "cannot be read"),
        (["--dataset=cifar10", "--data-dir=/nowhere"], "--dataset", "--download"),
        (["--config=/nowhere.yaml"], "--config", "cannot be read"),
        (["--cluster=127.0.0.1:1"], "--cluster", "ray start --head"),
        (["--cluster=nonsense:port"], "--cluster", "HOST:PORT"),
        (["--resume"], "--resume", "there is no run in"),
        (["--bogus=1"], "--bogus", "--help"),
        (["--seed=-1"], "--seed", "greater than or equal to 0"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    field: str,
    remedy: str,
) -> None:
    line = refused(capsys, tmp_path, *arguments)
    assert field in line
    assert remedy in line


def test_name_cannot_leave_the_run_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([f"--out={tmp_path}", "--name=../escape"]) == 2
    assert "--name" in capsys.readouterr().err
    assert not (tmp_path.parent / "escape").exists()


def test_existing_run_needs_resume(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "refused").mkdir(parents=True)
    (tmp_path / "runs" / "refused" / "config.yaml").write_text("seed: 1")
    assert "--resume" in refused(capsys, tmp_path)


def test_unwritable_folder_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    assert "cannot be written" in refused(capsys, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint at all", b"\x80\x02cos\nsystem\nq\x00."], ids=repr
)
def test_foreign_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "classifier.pt"
    path.write_bytes(content)
    assert str(path) in refused(capsys, tmp_path, f"--classifier={path}")


def test_classifier_for_other_images_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", CifarResNet(3))
    line = refused(capsys, tmp_path, f"--classifier={tmp_path / 'c.pt'}")
    assert "(1, 8, 8)" in line


def test_classifier_for_other_classes_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN(7))
    line = refused(capsys, tmp_path, f"--classifier={tmp_path / 'c.pt'}")
    assert "7 classes" in line


def test_feature_layer_that_does_not_exist_is_refused_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", CifarResNet(3, channels=1))
    arguments = [f"--classifier={tmp_path / 'c.pt'}", "--feature-layer=layer4"]
    assert "--feature-layer" in (line := refused(capsys, tmp_path, *arguments))
    assert "layer3" in line


def test_denoiser_for_other_channels_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "d.safetensors").write_bytes(denoiser_bytes(DnCNN(3, 3, 4)))
    line = refused(capsys, tmp_path, f"--init-denoiser={tmp_path / 'd.safetensors'}")
    assert "3 channels" in line


def test_space_with_an_unknown_hyperparameter_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "name: odd\nextends: digits\npublished: {learning_rat: 0.1}\n"
        "parameters: {learning_rat: {low: 0.1, high: 1.0}}\n"
    )
    assert "did you mean learning_rate" in refused(capsys, tmp_path, f"--space={space}")


@pytest.mark.parametrize("text", ["[1, 2]", "trials: [", "trails: 3"], ids=repr)
def test_bad_configuration_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    line = refused(capsys, tmp_path, f"--config={path}")
    assert "--config" in line or "did you mean trials" in line


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
    assert f"{4 * 200 * (100 + 700):,}" in out
    assert "workers" in out


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
