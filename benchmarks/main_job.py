"""Wall time and peak memory of the main job.

Usage: python -m benchmarks.main_job [FLAGS OF tuning.launch]

Memory is the proportional set size summed over the driver and all its descendants, Ray's included,
sampled twice a second.
"""

import subprocess
import sys
import tempfile
import time

import psutil

from benchmarks.command_line import parser


def proportional_set_size(process: psutil.Process) -> int:
    """Bytes of one process and its descendants, shared pages counted once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main() -> int:
    """Run the job in a temporary folder and print what it cost."""
    _, flags = parser(__doc__).parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tuning.launch", f"--out={folder}", *flags]
        started, peak = time.perf_counter(), 0
        job = subprocess.Popen(command)
        process = psutil.Process(job.pid)
        while job.poll() is None:
            peak = max(peak, proportional_set_size(process))
            time.sleep(0.5)
        seconds = time.perf_counter() - started
    print(f"exit {job.returncode}, {seconds:.0f} s (goal 300), peak {peak / 1e9:.1f} GB (goal 8)")
    return job.returncode


if __name__ == "__main__":
    sys.exit(main())
