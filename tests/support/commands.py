"""The commands that the deployment files and their documentation tell one to run."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER_DOC = ROOT / "docs" / "cluster.md"
RAY_JOB = ROOT / "deploy" / "kuberay" / "rayjob.yaml"
QUEUED_JOB = ROOT / "deploy" / "kueue" / "rayjob.yaml"
SKYPILOT = ROOT / "deploy" / "skypilot" / "search.yaml"
SLURM = ROOT / "deploy" / "slurm" / "search.sbatch"
# What the scripts have set when they reach a command.
VARIABLES = """
head=10.0.0.1:6379 name=search resume=(--resume)
SLURM_JOB_NUM_NODES=2 SLURM_CPUS_ON_NODE=8
address=10.0.0.1 agent=--dashboard-agent-listen-port=52366
NAME=search STORAGE=s3://bucket/decrop given=(--dataset digits --trials 64)
set --
"""


def fenced(markdown: str) -> list[tuple[str, str]]:
    """The fenced blocks, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)


def code_blocks(markdown: str) -> list[str]:
    """The indented blocks, which hold shell; other languages are fenced."""
    for language, block in fenced(markdown):
        markdown = markdown.replace(f"```{language}\n{block}```\n", "")
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", markdown + "\n", flags=re.MULTILINE)
    return [re.sub("^ {4}", "", block, flags=re.MULTILINE) for block in blocks if block.strip()]


def shell_texts() -> dict[str, str]:
    """Everything a shell reads, by where it stands."""
    jobs = {"rayjob": RAY_JOB, "kueue": QUEUED_JOB}
    texts = {
        name: yaml.safe_load(path.read_text())["spec"]["entrypoint"] for name, path in jobs.items()
    }
    sky = yaml.safe_load(SKYPILOT.read_text())
    texts |= {"slurm": SLURM.read_text(), "sky setup": sky["setup"], "sky run": sky["run"]}
    blocks = code_blocks(CLUSTER_DOC.read_text())
    return texts | {f"cluster.md {number}": block for number, block in enumerate(blocks)}


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Each command line with `program` in it: where it stands, and what follows `program`."""
    return [
        (place, _arguments(found.group(1)))
        for place, text in shell_texts().items()
        for found in re.finditer(
            rf"^[^#\n]*?\b{program}(?= )([^\n;&|']*)",
            text.replace("\\\n", " "),
            flags=re.MULTILINE,
        )
    ]


def _arguments(text: str) -> list[str]:
    # bash itself says which words a command gets, and fails at a variable nobody set.
    script = f'set -eu\n{VARIABLES}\nshow() {{ printf "%s\\0" "$@"; }}\nshow {text}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]
