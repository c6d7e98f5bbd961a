"""A cluster of two hosts on one machine: network namespaces, joined by a cable that can be cut.

The second host has a disk of its own where the runs and Ray's files lie.
"""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tests.support.host_scripts import CREATE_BUCKET, DRAIN, LIST, SESSION, WAIT_FOR_NODES
from tests.support.runs import HANGING, REPO, Finished, ended
from tests.support.watcher import METRICS_PORT

RAY = str(Path(sys.executable).with_name("ray"))
# How a worker is called that trains a trial, one that does or is between two, and one that counts
# votes, as patterns.
TRAINING = r"ray::[\w-]+: \d{3}"
TRAINER = rf"Trainable|{TRAINING}"
VOTER = "ray::votes"
PORT, DASHBOARD, S3 = 6379, 8265, 5000
BUCKET = "bucket"
NOTHING: Mapping[str, str] = MappingProxyType({})


class Host:
    """A network namespace; `private` are folders whose content no other host sees."""

    def __init__(self, name: str, address: str, environment: Mapping[str, str]) -> None:
        self.name, self.address, self.environment = name, address, dict(environment)
        self.private: list[Path] = []
        self.processes: list[subprocess.Popen[str]] = []

    def start(
        self, *command: str, log: Path | None = None, environment: Mapping[str, str] = NOTHING
    ) -> subprocess.Popen[str]:
        """Start a command on this host, in a process group of its own."""
        running = [process for process in self.processes if process.poll() is None]
        if self.private and running:
            # Into its disk, which the first of them lays out as it begins.
            while not self._mounted(running[0].pid):
                time.sleep(0.05)
            enter = ["nsenter", f"--target={running[0].pid}", "--mount", "--net", f"--wd={REPO}"]
        else:
            mounts = [f"mount -t tmpfs tmpfs {folder}" for folder in self.private]
            script = "\n".join([*mounts, 'exec "$@"'])
            enter = [
                "ip",
                "netns",
                "exec",
                self.name,
                "unshare",
                "--mount",
                "sh",
                "-ec",
                script,
                "sh",
            ]
        output = subprocess.PIPE if log is None else log.open("w")
        process = subprocess.Popen(
            [*enter, *command], cwd=REPO, env={**self.environment, **environment}, stdout=output,
            stderr=subprocess.PIPE if log is None else subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def _mounted(self, pid: int) -> bool:
        """Whether a process sees the private folders; True as well if it is gone."""
        try:
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            return True
        return all(f" {folder} " in mounts for folder in self.private)

    def process_ids(self) -> list[int]:
        """Of everything that runs on this host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def kill(self) -> None:
        """Pull the plug."""
        deadline = time.monotonic() + HANGING
        while (alive := self.process_ids()) and time.monotonic() < deadline:
            for pid in alive:
                signal_to(pid, signal.SIGKILL)
            time.sleep(0.1)
        for process in self.processes:
            process.communicate()
        self.processes.clear()


class TwoHosts:
    """Two hosts of one core each, the first with the head of a Ray cluster, if it is up."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        net = f"10.77.{os.getpid() % 200 + 20}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "fedcba9876543210" * 4}
        aws = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "planted-secret-of-the-bucket"}
        shared = {**environment, **token, **aws, "AWS_EC2_METADATA_DISABLED": "true"}
        self.first = Host(f"decrop{os.getpid()}a", f"{net}.1", shared)
        self.second = Host(f"decrop{os.getpid()}b", f"{net}.2", shared)
        self.second.private = [Path("/tmp/ray"), folder]
        self.address = f"{self.first.address}:{PORT}"
        self.dashboard = f"http://{self.first.address}:{DASHBOARD}"
        endpoint = f"endpoint_override={self.first.address}:{S3}"
        self.storage = f"s3://{BUCKET}/runs?{endpoint}&scheme=http&region=us-east-1"

    def build(self) -> None:
        """Lay the cable."""
        Path("/tmp/ray").mkdir(exist_ok=True)
        cable = [f"v{os.getpid()}{side}" for side in "ab"]
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for host, end in zip((self.first, self.second), cable, strict=True):
            ip("netns", "add", host.name)
            ip("link", "set", end, "netns", host.name)
            for command in (
                ["addr", "add", f"{host.address}/24", "dev", end],
                ["link", "set", end, "up"],
                ["link", "set", "lo", "up"],
            ):
                ip("-n", host.name, *command)
        self.cable = cable[0]

    def start_head(self, *, cpus: int = 1) -> None:
        """Start the cluster on the first host, and an S3 server beside it."""
        self.first.start(
            sys.executable, "-m", "moto.server", "-H", self.first.address, "-p", str(S3),
            log=self.folder / "s3.log",
        )  # fmt: skip
        self.first.start(
            RAY, "start", "--head", "--block", f"--num-cpus={cpus}",
            f"--node-ip-address={self.first.address}", f"--port={PORT}",
            f"--dashboard-host={self.first.address}", f"--dashboard-port={DASHBOARD}",
            f"--metrics-export-port={METRICS_PORT}", "--object-store-memory=200000000",
            log=self.folder / "head.log",
        )  # fmt: skip
        self.on_first("-c", CREATE_BUCKET, self.first.address, str(S3), BUCKET)
        self.wait_for_nodes(1)

    def start_second(self) -> None:
        """Start the second host's part of the cluster."""
        self.second.start(
            RAY, "start", "--block", "--num-cpus=1", f"--address={self.address}",
            f"--node-ip-address={self.second.address}", "--object-store-memory=200000000",
            log=self.folder / "second.log",
        )  # fmt: skip

    def drain_second(self) -> None:
        """Announce that the second host is to leave the cluster, as `ray drain-node` does."""
        self.on_first("-c", DRAIN, self.address, self.second.address)

    def wait_for_nodes(self, count: int) -> None:
        """Wait until the cluster has so many hosts."""
        self.on_first("-c", WAIT_FOR_NODES, self.address, str(count))

    def cut(self) -> None:
        """Pull the cable."""
        ip("-n", self.first.name, "link", "set", self.cable, "down")

    def reconnect(self) -> None:
        """Plug it in again."""
        ip("-n", self.first.name, "link", "set", self.cable, "up")

    def on_first(self, *arguments: str, timeout: float = HANGING) -> str:
        """Run Python on the first host to its end; what it prints."""
        process = self.first.start(sys.executable, *arguments)
        out, _ = ended(process, timeout=timeout)
        self.first.processes.remove(process)
        return out

    def launch(
        self,
        *arguments: str,
        host: Host | None = None,
        address: str | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> subprocess.Popen[str]:
        """Start the command line on a host, the first if none is named, in the cluster."""
        where = [f"--out={folder or self.folder}", f"--cluster={address or self.address}"]
        on = self.first if host is None else host
        command = [sys.executable, "-m", "tuning.launch", *where, *arguments]
        return on.start(*command, environment=environment)

    def finish(self, process: subprocess.Popen[str], name: str, code: int = 0) -> Finished:
        """Wait for a launcher to end with the exit code `code`."""
        out, err = ended(process, code)
        self.first.processes.remove(process)
        return Finished(self.folder / name, out, err)

    def restore(self) -> None:
        """Make both hosts part of the cluster again, whatever happened to them."""
        self.reconnect()
        self.second.kill()
        self.wait_for_nodes(1)
        self.start_second()
        self.wait_for_nodes(2)

    def stored(self, run: str) -> dict[str, bytes]:
        """What the bucket holds of a run, by name."""
        listed = self.on_first("-c", LIST, self.storage, run)
        return {name: base64.b64decode(text) for name, text in json.loads(listed).items()}

    def session_folder(self) -> Path:
        """Where Ray on the first host keeps its logs."""
        return Path(self.on_first("-c", SESSION, self.address).strip())

    def close(self) -> None:
        """End everything that runs on the hosts, and take them away."""
        for host in (self.second, self.first):
            host.kill()
            subprocess.run(["ip", "netns", "del", host.name], check=False)


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`."""
    subprocess.run(["ip", *arguments], check=True)


def signal_to(pid: int, number: signal.Signals) -> None:
    """Send a signal, if the process is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def workers(host: Host, title: str) -> Sequence[int]:
    """The processes of a host whose title contains the pattern `title`."""
    found = []
    for pid in host.process_ids():
        try:
            if re.search(title, Path(f"/proc/{pid}/cmdline").read_text()):
                found.append(pid)
        except OSError:
            continue
    return found


def wait_for_second(hosts: TwoHosts, launcher: subprocess.Popen[str]) -> None:
    """Make the first host wait until the second one trains a trial, and again until it counts.

    All trials, and all votes, are shorter here than the start of a worker: Tune gives a trial that
    waits for a new worker to an old one that gets free, and Ray a task.
    """
    for title, begun in ((TRAINER, TRAINING), (VOTER, VOTER)):
        wait_for(partial(workers, hosts.first, title), launcher)
        stalled = workers(hosts.first, title)
        for pid in stalled:
            signal_to(pid, signal.SIGSTOP)
        wait_for(partial(workers, hosts.second, begun), launcher)
        for pid in stalled:
            signal_to(pid, signal.SIGCONT)


def wait_for(ready: Callable[[], object], launcher: subprocess.Popen[str]) -> None:
    """Wait until `ready` is true; fails if the launcher ends before."""
    while not ready():
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.1)
