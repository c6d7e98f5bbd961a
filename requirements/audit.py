"""Asks a public database whether a weakness of a locked version is known.

`make audit` runs this; its ARGS are for pip-audit, such as `-s osv` for another database, or
`--ignore-vuln ID`. pip-audit calls clean what the database does not know. Where it cannot be asked,
or knows no package, that is said here instead.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

# Files that these include are not read.
LOCKS = [f"--requirement={Path(__file__).with_name(name)}" for name in ("run.txt", "dev.txt")]
UNREACHABLE = re.compile(r"requests\.exceptions\.|\bServiceError\b|Could not connect|redirecting")


def main(flags: list[str]) -> int:
    """Prints what is known; 1 if that is a weakness."""
    how = ["--disable-pip", "--format=json", "--progress-spinner=off"]
    command = [sys.executable, "-m", "pip_audit", *LOCKS, *how, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stdout:
        return reported(json.loads(done.stdout)["dependencies"])
    if not UNREACHABLE.search(done.stderr):
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode or 1
    print(f"audit: NOT DONE, no answer: {done.stderr.strip().splitlines()[-1]}")
    return 0


def reported(packages: list[dict[str, Any]]) -> int:
    """Prints a line for each weakness, and one for the whole."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        print(f"audit: NOT DONE, the database knows none of {len(packages)} packages")
        return 0
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for weakness in package["vulns"]:
            fixed = ", ".join(weakness["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}")
    asked = len(packages) - len(unknown)
    print(f"audit: {asked} packages, {len(weak)} weak; unknown: {', '.join(unknown) or 'none'}")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
