from types import SimpleNamespace

import pytest

from tuning.monitoring import utilisation
from tuning.monitoring.utilisation import Utilisation


def test_utilisation_is_the_share_of_workers_times_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], dict[str, str]()
    monkeypatch.setattr(utilisation, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = Utilisation(lambda name, fact: told.update({name: fact}))
    watch(2, 2)
    assert told == {"workers": "2 of 2 workers busy"}
    now[0] = 10.0
    watch(0, 2)
    assert told == {"workers": "0 of 2 workers busy, 100% since the start"}
    now[0] = 20.0
    # Two more have come.
    watch(3, 4)
    now[0] = 30.0
    watch(3, 4)
    # 20 + 0 + 30 of 20 + 20 + 40 seconds.
    assert told == {"workers": "3 of 4 workers busy, 62% since the start"}
