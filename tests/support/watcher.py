"""What somebody on the head can see of a running search: python -m tests.support.watcher HEAD.

Looks until it is told to end; then prints as JSON the metrics, tasks, actors and jobs it saw, and
the command lines in which a secret stood.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import requests

METRICS_PORT = 8090


def main(head: str) -> None:
    """Look about once a second."""
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["RAY_AUTH_TOKEN"]]
    seen: dict[str, Any] = {"metrics": {}, "tasks": [], "actors": [], "jobs": [], "secrets": []}
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    headers = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    while not ended:
        for line in get(f"http://{head}:{METRICS_PORT}/metrics", {}).splitlines():
            if line.startswith("ray_decrop_"):
                name, _, value = line.rpartition(" ")
                seen["metrics"][name] = float(value)
        for kind, field in (("tasks", "name"), ("actors", "repr_name")):
            listed = get(f"http://{head}:8265/api/v0/{kind}?limit=1000&detail=1", headers)
            rows = json.loads(listed)["data"]["result"]["result"] if listed else []
            seen[kind] = sorted({row[field] for row in rows} | set(seen[kind]))
        seen["jobs"] = get(f"http://{head}:8265/api/jobs/", headers)
        seen["secrets"] += [c for c in command_lines() if any(secret in c for secret in secrets)]
        time.sleep(0.5)
    print(json.dumps(seen))


def get(url: str, headers: dict[str, str]) -> str:
    try:
        answer = requests.get(url, headers=headers, timeout=10)
    except requests.RequestException:
        return ""
    return answer.text if answer.ok else ""


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1])
