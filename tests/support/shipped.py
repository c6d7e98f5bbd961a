"""The record of the shipped spaces: `python -m tests.support.shipped` writes it anew."""

import json
from pathlib import Path
from typing import Any

from search_spaces import SearchSpace, load_space, shipped_spaces

RECORD = Path(__file__).parents[1] / "search_spaces" / "shipped.json"


def entries(space: SearchSpace) -> dict[str, Any]:
    """What a space says besides defaults, one entry for each of its hyperparameters."""
    flat: dict[str, Any] = {"fingerprint": space.fingerprint()}
    content = space.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    for section, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{name}": entry for name, entry in value.items()}
        else:
            flat[section] = value
    return flat


def record() -> dict[str, dict[str, Any]]:
    """All of `decrop`, and what every other space has instead of its entries."""
    root = entries(load_space("decrop"))
    found = {"decrop": root}
    for name in shipped_spaces():
        own = entries(load_space(name))
        changed = {key: value for key, value in own.items() if root.get(key, "absent") != value}
        found.setdefault(name, changed | {key: None for key in root if key not in own})
    return found


def main() -> None:
    spaces = [
        f'  "{name}": {{\n'
        + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in own.items())
        + "\n  }"
        for name, own in record().items()
    ]
    RECORD.write_text("{\n" + ",\n".join(spaces) + "\n}\n")


if __name__ == "__main__":
    main()
