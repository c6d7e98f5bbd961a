"""Many clients at once: each request is answered, or told to come back, and none is cut off.

`DECROP_REQUESTS=200` lets each client send so many.
"""

import http.client
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.support.answering import question
from tests.support.background import in_background
from tests.support.exports import Constant, write_export
from trainables.black_box.smoothed_server import MOST_WAITING, SmoothedServer
from trainables.smoothing import SmoothedClassifier

torch.set_num_threads(1)
CLIENTS = 50
REQUESTS = int(os.environ.get("DECROP_REQUESTS", "4"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kept", [True, False])
def test_no_request_of_many_clients_is_cut_off(tmp_path: Path, kept: bool) -> None:
    """With connections that are kept, and with a new one for each request."""
    export = write_export(tmp_path / "export", Constant())
    smoothed = SmoothedClassifier.load(export, Constant(), seed=0)
    body = json.dumps(question(torch.full((1, 1, 4, 4), 0.5))).encode()
    with (
        in_background(SmoothedServer(smoothed, ("127.0.0.1", 0))) as server,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        port = server.server_address[1]

        def ask_all(_: int) -> Counter[str]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            seen: Counter[str] = Counter()
            for _ in range(REQUESTS):
                try:
                    connection.request("POST", "/predict", body)
                    response = connection.getresponse()
                    response.read()
                    seen[str(response.status)] += 1
                except (OSError, http.client.HTTPException) as error:
                    seen[type(error).__name__] += 1
                    connection.close()
                if not kept:
                    connection.close()
            connection.close()
            return seen

        seen = sum(clients.map(ask_all, range(CLIENTS)), Counter[str]())
    print(f"{CLIENTS} clients: {dict(seen)}")
    assert seen.total() == CLIENTS * REQUESTS
    # More clients than may wait: which of them are told to come back is up to chance.
    assert CLIENTS > MOST_WAITING
    assert set(seen) <= {"200", "503"}
    assert seen["200"] >= REQUESTS
