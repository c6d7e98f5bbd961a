from collections.abc import Callable
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def _write(content: object, name: str = "space") -> str:
        path = tmp_path / f"{name}.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return _write
