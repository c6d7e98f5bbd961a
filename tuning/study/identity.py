"""What a study belongs to and was begun with, which no resumption changes."""

from __future__ import annotations

from search_spaces import SearchSpace
from tuning.errors import ConfigError
from tuning.study.database import DurableStudy


def begin_or_check(study: DurableStudy, run: str, space: SearchSpace, cohort: int) -> None:
    """Record all that in a new study, or compare it with what is recorded.

    Not compared is the `cohort`, how many trials are proposed together: a study keeps its first.

    Raises:
        ConfigError: when the study is another run's, or its search space was another one.
    """
    # Last of all the cohort: who is killed before starts again from here.
    if "cohort" not in study.attributes:
        study.set_attribute("run", run)
        study.set_attribute("space", space.model_dump(mode="json"))
        study.set_attribute("cohort", cohort)
    if study.attributes.get("run", run) != run:
        raise ConfigError(
            f"--ledger: the study {study.name} there belongs to another run; pass another --name "
            "or --ledger"
        )
    if difference := space.difference(study.attributes.get("space", {})):
        raise ConfigError(
            f"--space: the run was started with another search space: {difference}; put back what "
            "was there, or start a new run"
        )
