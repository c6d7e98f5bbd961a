"""A trainable that trains nothing, for benchmarks of what surrounds it; it needs no PyTorch."""

from pathlib import Path
from typing import Any

from ray import tune

RUNGS = (25, 75, 200)


class Nothing(tune.Trainable):
    """Reports at each rung, at once, a score that depends on its hyperparameters only."""

    losses = 0

    def setup(
        self, config: dict[str, Any], tasks: object = None, filesystem: object = None
    ) -> None:
        self.rung = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.rung = 0
        return True

    def step(self) -> dict[str, Any]:
        first, epochs = (0, *RUNGS)[self.rung], RUNGS[self.rung]
        self.rung += 1
        values = self.config.get("hyperparameters")
        sigma = self.config["sigma"] if values is None else values.sigma
        score = epochs / RUNGS[-1] - (sigma - 0.3) ** 2
        return {
            "objective": score,
            "accuracy": score,
            "epochs": epochs,
            "losses": [{f"term {i}": 0.5 for i in range(self.losses)}] * (epochs - first),
            "trial_seconds": 60.0,
            "node": "10.0.0.1",
            "error": "",
            "done": epochs == RUNGS[-1],
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").write_bytes(b"")

    def load_checkpoint(self, checkpoint: object) -> None:
        pass


def reporting(losses: int) -> type[Nothing]:
    """`Nothing`, with `losses` loss terms per epoch."""

    class Reporting(Nothing):
        pass

    Reporting.losses = losses
    return Reporting
