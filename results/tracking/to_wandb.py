"""A run in Weights & Biases: a group that has the run's name, with a run for each trial.

Without WANDB_MODE=online nothing leaves this machine: files are written to WANDB_DIR, which
`wandb sync` sends later. WANDB_PROJECT and WANDB_ENTITY name the place there.
"""

import os
import re

import wandb

from results.run import Run
from results.tracking.tracked import tracked


def to_wandb(run: Run, note: str) -> str:
    """Write or update a run in Weights & Biases, and return where that is.

    Raises:
        wandb.errors.Error: if Weights & Biases cannot be reached or does not accept it.
    """
    offline = os.environ.setdefault("WANDB_MODE", "offline") != "online"
    project = os.environ.get("WANDB_PROJECT", "decrop")
    quiet = wandb.Settings(
        silent=True, console="off", disable_code=True, disable_git=True,
        x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip
    for one in tracked(run):
        with wandb.init(
            # Sent again, a run replaces what was sent before.
            id=re.sub(r"[^A-Za-z0-9_.-]", "-", one.key), resume="allow",
            project=project, group=run.name, name=one.name, job_type=one.setting,
            tags=[label for name, label in one.labels.items() if name in ("origin", "variant")],
            notes=note if one.labels.get("variant") == "best" else None,
            config={**one.hyperparameters, **one.labels}, settings=quiet,
        ) as sent:  # fmt: skip
            sent.log(dict(one.metrics))
            folder = sent.settings.wandb_dir
    return folder if offline else f"project {project} of Weights & Biases"
