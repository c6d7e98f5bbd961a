from pathlib import Path
from typing import Any

import pytest

from trainables.models.classifiers import BaseClassifier, DigitsCNN
from tuning.config import make_config
from tuning.errors import ConfigError
from tuning.run.manifest import setting_manifest
from tuning.setting.setting import Setting, make_settings


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    values: dict[str, Any] = {"name": "x", "out": tmp_path, "certify_images": 5, "shots": "3"}
    (made,) = make_settings(make_config(values))
    return made


def test_unchanged_run_resumes_and_its_seconds_add_up(setting: Setting) -> None:
    classifier = BaseClassifier(DigitsCNN())
    first = setting_manifest(setting, classifier, {})
    first["seconds"]["search"] = 12.0
    again = setting_manifest(setting, classifier, {"settings": {setting.name: first}})
    assert again == first


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("images_hash", "--data-dir"),
        ("classifier_hash", "--classifier"),
    ],
)
def test_resumption_with_something_else_is_refused(setting: Setting, name: str, flag: str) -> None:
    classifier = BaseClassifier(DigitsCNN())
    before = setting_manifest(setting, classifier, {}) | {name: "another"}
    with pytest.raises(ConfigError, match=f"{flag}: .* changed since the run started"):
        setting_manifest(setting, classifier, {"settings": {setting.name: before}})
