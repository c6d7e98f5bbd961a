"""The configuration of a run, by help group: each field is also a flag and a row in the README.

Light to import, so that a mistake on the command line is reported before torch is loaded.
"""

from trainables.command import flag
from tuning.config.classifier import is_endpoint
from tuning.config.data import setting_name
from tuning.config.file import config_hash, read_yaml, to_yaml
from tuning.config.run_config import GROUPS, RESUMABLE, RunConfig, check_values, make_config

__all__ = [
    "GROUPS",
    "RESUMABLE",
    "RunConfig",
    "check_values",
    "config_hash",
    "flag",
    "is_endpoint",
    "make_config",
    "read_yaml",
    "setting_name",
    "to_yaml",
]
