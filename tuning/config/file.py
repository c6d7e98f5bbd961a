"""Configurations as YAML files: those for --config, and those in run folders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from search_spaces.yaml_values import dump_yaml, load_yaml
from tuning.config.run_config import RunConfig
from tuning.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a configuration file, with field names as keys.

    Raises:
        ConfigError: when the file is missing, or is not a mapping.
    """
    try:
        values = load_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config: {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"--config: {path} is not valid YAML: {message}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config: {path} is not a mapping of flags to values")
    return {str(key).removeprefix("--").replace("-", "_"): v for key, v in values.items()}


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, which `read_yaml` and `make_config` can read back."""
    return dump_yaml(config.model_dump(mode="json"))


def config_hash(config: RunConfig) -> str:
    """SHA-256 of the resolved configuration."""
    return hashlib.sha256(to_yaml(config).encode()).hexdigest()
