"""Where the time goes from the command to the first training step, and from search to confirmation.

Usage: python -m benchmarks.driver.start_up [--repeats 5] [--confirmation] [FLAGS OF tuning.launch]

A run is asked to end when the first epoch of its first trial begins; with --confirmation, when that
of the first training of confirmation does. Printed are medians of seconds; the last trial's last
epoch is the last one that began before confirmation did. The default classifier must be cached, or
the first run trains it.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command_line import parser

# The argument with which the benchmark calls itself.
INSIDE = "--inside"
# What a run reaches, in this order.
STEPS = (
    "Python and the command line",
    "imports: PyTorch, Optuna",
    "checks: data, classifier",
    "imports: Ray Tune and the rest",
    "before Ray starts",
    "Ray's own start",
    "after Ray has started",
    "classifier, precision, ledger",
    "trial in a worker",
    "first epoch",
)
RAY = STEPS[5]
LAST_EPOCH, SEARCHED, TASK = "epoch", "end of the search", "task"


class Marks(NamedTuple):
    """A file in which processes note what they reach, and when."""

    path: Path

    def add(self, name: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{time.time()} {os.getpid()} {name}\n")

    def read(self) -> list[tuple[float, int, str]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        parts = [line.split(" ", maxsplit=2) for line in lines]
        return [(float(at), int(process), name) for at, process, name in parts]

    def around(self, owner: Any, function: str, before: str = "", after: str = "") -> None:
        """Note when a function of a module is called, and when it returns."""
        original = getattr(owner, function)

        def marked(*arguments: Any, **options: Any) -> Any:
            if before:
                self.add(before)
            found = original(*arguments, **options)
            if after:
                self.add(after)
            return found

        setattr(owner, function, marked)


class Asked:
    """Stands in for `PauseRequests`, which workers call before each epoch."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._marks.add(STEPS[-2])

    def __call__(self) -> bool:
        import ray

        from tuning.cluster.pausing import PauseRequests

        trial = ray.get_runtime_context().get_actor_id() is not None
        self._marks.add(LAST_EPOCH if trial else TASK)
        if "_asks" not in vars(self):
            self._asks = PauseRequests()
        return self._asks()


def launch(marks: Marks, flags: Sequence[str]) -> int:
    """The command `tuning.launch`, with marks on its way; it imports what it does without them."""
    from tuning import launch

    def after_check() -> None:
        from tuning.run import start

        marks.add(STEPS[1])
        run = start._run

        def running(*arguments: Any) -> None:
            marks.add(STEPS[2])
            import ray

            from tuning.run import stages
            from tuning.search import search

            marks.add(STEPS[3])
            marks.around(ray, "init", STEPS[4], STEPS[5])
            marks.around(stages, "search_and_certify", STEPS[6])
            marks.around(stages, "search", STEPS[7], SEARCHED)
            vars(search)["PauseRequests"] = lambda: Asked(marks)
            run(*arguments)

        vars(start)["_run"] = running

    check = launch._check

    def checked(*arguments: Any) -> None:
        check(*arguments)
        marks.add(STEPS[0])
        after_check()

    vars(launch)["_check"] = checked
    return launch.main(flags)


def measured(flags: Sequence[str], confirmation: bool) -> dict[str, float]:
    """The seconds of each step of a run."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Marks(Path(folder, "marks"))
        command = [sys.executable, "-m", __spec__.name, INSIDE, str(marks.path), f"--out={folder}"]
        started = time.time()
        job = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL)
        found: dict[str, float] = {}
        while not found and job.poll() is None:
            time.sleep(0.1)
            found = (_gaps if confirmation else _steps)(marks.read(), started)
        job.send_signal(signal.SIGTERM)
        job.wait()
    if not found:
        sys.exit(f"the run ended before, with exit code {job.returncode}")
    return found


def _steps(read: Sequence[tuple[float, int, str]], started: float) -> dict[str, float]:
    """The seconds of each step up to the first epoch; empty if it has not begun."""
    first: dict[str, float] = {}
    for at, _, name in read:
        first.setdefault(STEPS[-1] if name == LAST_EPOCH else name, at)
    if STEPS[-1] not in first:
        return {}
    times = [started, *(first[name] for name in STEPS)]
    steps = {name: times[i + 1] - times[i] for i, name in enumerate(STEPS)}
    total = times[-1] - started
    return {**steps, "in total": total, "in total, beyond Ray's own start": total - steps[RAY]}


def _gaps(read: Sequence[tuple[float, int, str]], started: float) -> dict[str, float]:
    """The seconds between search and confirmation; empty if that has not begun.

    A task asks once before its training is set up, and again before each epoch.
    """
    tasks = [(at, process) for at, process, name in read if name == TASK]
    asked = [at for at, process in tasks if process == tasks[0][1]]
    if len(asked) < 2:
        return {}
    last = max(at for at, _, name in read if name == LAST_EPOCH and at < asked[0])
    steps = {"its task in a worker": asked[0] - last, "its first epoch": asked[1] - asked[0]}
    return {**steps, "from the last trial's last epoch, in total": asked[1] - last}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--confirmation", action="store_true")
    options, flags = arguments.parse_known_args()
    runs = [measured(flags, options.confirmation) for _ in range(options.repeats)]
    for name in runs[0]:
        seconds = sorted(run[name] for run in runs)
        spread = f"({seconds[0]:.2f} to {seconds[-1]:.2f})"
        print(f"{statistics.median(seconds):6.2f} s {spread:18} {name}")


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        sys.exit(launch(Marks(Path(sys.argv[2])), sys.argv[3:]))
    else:
        main()
