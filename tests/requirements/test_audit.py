"""The audit: a weakness fails it, and what could not be asked is not called clean."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from requirements.audit import reported
from tests.support.commands import ROOT

WEAKNESS = {
    "id": "GHSA-xxxx-yyyy-zzzz",
    "summary": "it is weak",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999.1"}]}],
        }
    ],
}


class Database(BaseHTTPRequestHandler):
    """Answers as osv.dev does; `weak` are the packages with a weakness."""

    weak: frozenset[str] = frozenset()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = {"vulns": [WEAKNESS]} if asked["package"]["name"] in self.weak else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def audited(tmp_path: Path, port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed")
    where = ["-s", "osv", f"--osv-url=http://127.0.0.1:{port}/v1/query"]
    command = [sys.executable, "requirements/audit.py", *where, f"--cache-dir={tmp_path}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_weakness_is_named_and_fails(
    database: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "weak", frozenset({"jinja2"}))
    done = audited(tmp_path, database.server_port)
    assert done.returncode == 1
    first, last = done.stdout.splitlines()
    assert first.startswith("jinja2 ")
    assert first.endswith(": GHSA-xxxx-yyyy-zzzz, fixed in 9999.1")
    number = int(last.removeprefix("audit: ").split()[0])
    # Those of both files, but for the few that only other platforms need.
    assert number > 250
    assert last == f"audit: {number} packages, 1 weak; unknown: none"
    done = audited(tmp_path, database.server_port, "--ignore-vuln=GHSA-xxxx-yyyy-zzzz")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"audit: {number} packages, 0 weak; unknown: none\n"


def test_a_database_that_does_not_answer_is_said_in_one_line(
    database: ThreadingHTTPServer, tmp_path: Path
) -> None:
    database.shutdown()
    database.server_close()
    done = audited(tmp_path, database.server_port)
    assert done.returncode == 0
    assert done.stdout.startswith("audit: NOT DONE, no answer: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_mistake_is_not_taken_for_a_database_that_does_not_answer(tmp_path: Path) -> None:
    done = audited(tmp_path, 1, f"--requirement={tmp_path / 'missing.txt'}")
    assert done.returncode != 0
    assert "missing.txt" in done.stderr


def test_a_database_that_knows_nothing_is_not_called_clean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reported([{"name": "a", "skip_reason": "not found"}] * 2) == 0
    assert capsys.readouterr().out == "audit: NOT DONE, the database knows none of 2 packages\n"
    known = {"name": "b", "version": "1", "vulns": []}
    assert reported([{"name": "a", "skip_reason": "not found"}, known]) == 0
    assert capsys.readouterr().out == "audit: 1 packages, 0 weak; unknown: a\n"
