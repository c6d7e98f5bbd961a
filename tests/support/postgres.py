"""A PostgreSQL server of the tests' own, with passwords."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.runs import HANGING, free_port

USER = "searcher"
ADMINISTRATOR = "administrator"
# Durable enough for a test.
OPTIONS = ["fsync=off", "shared_buffers=16MB", "listen_addresses=127.0.0.1"]


def programs() -> Path | None:
    """Where the newest PostgreSQL server of this machine has its programs."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders = sorted((p.parent for p in found), key=lambda p: float(p.parent.name))
    on_path = shutil.which("initdb")
    return folders[-1] if folders else Path(on_path).parent if on_path else None


@dataclass
class Server:
    """A server on the loopback; `user` logs in with `password`, over TCP only."""

    folder: Path
    port: int = field(default_factory=free_port)
    user: str = USER
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    _administrators: str = field(default_factory=lambda: secrets.token_hex(16))
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls) -> "Server":
        """A new server that runs."""
        # Not a folder of pytest's: the server runs as another user, who could not enter it.
        server = cls(Path(tempfile.mkdtemp(prefix="postgres-")))
        if owner := _owner():
            shutil.chown(server.folder, owner)
        secret = server.folder / "secret"
        secret.write_text(server._administrators)
        arguments = ["-D", str(server._data), "-U", ADMINISTRATOR, "--pwfile", str(secret)]
        arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [str(server._programs / "initdb"), *arguments], check=True, **server._surroundings
        )
        server.start()
        role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        server.administer(role.format(sql.Identifier(server.user), server.password))
        return server

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = [part for option in OPTIONS for part in ("-c", option)]
        options += ["-c", f"unix_socket_directories={self.folder}", "-p", str(self.port)]
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self._data), *options],
            **self._surroundings,
        )
        deadline = time.monotonic() + HANGING
        while True:
            try:
                self.administer(sql.SQL("SELECT 1"))
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """End all connections and the server."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=HANGING)
            self._process = None

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.folder)

    def new_database(self) -> str:
        """The URL, without password, of an empty database that belongs to the user."""
        name = f"studies_{secrets.token_hex(4)}"
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        self.administer(create.format(sql.Identifier(name), sql.Identifier(self.user)))
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"

    def disconnect_all(self) -> None:
        """End every connection of the user, as a firewall or a restart does."""
        end = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}")
        self.administer(end.format(self.user))

    def administer(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMINISTRATOR,
            password=self._administrators,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(statement)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _programs(self) -> Path:
        found = programs()
        assert found is not None
        return found

    @property
    def _surroundings(self) -> dict[str, Any]:
        owner = _owner()
        other = {"user": owner, "group": pwd.getpwnam(owner).pw_gid} if owner else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return {"cwd": self.folder, **quiet, **other}


def _owner() -> str | None:
    """Whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
