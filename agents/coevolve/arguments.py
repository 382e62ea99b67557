"""Command-line arguments of `agents.coevolve`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.checks import check_number
from dream_env.nicol.tasks import STANDARD

LEAST = {
    "episodes": 1,
    "rehearsed": 1,
    "updates": 1,
    "threads": 1,
    "measured": 4 * len(STANDARD),  # one episode of each kind that `agents.fidelity` replays
    "policy_episodes": 1,
    "seed": 0,
}
"""Smallest accepted value of each number."""


@dataclass(frozen=True)
class Arguments:
    """Records a policy in physics, refits the world model to it, and reports the fidelity before and after."""

    policy: Path
    """Folder of the policy."""
    data: tuple[Path, ...]
    """Folders of the episodes that the world model was fitted to."""
    out: Path
    """Output folder for episodes/, world_model/, before/, after/, coevolution.json and coevolution.md."""
    world_model: str = "default"
    """Checkpoint of the world model to refit."""
    episodes: int = 200
    """Physics episodes to record with the policy, over all tasks; actions are sampled, not deterministic."""
    rehearsed: int = 2000
    """Old episodes, randomly selected, that the refit uses in addition to the new ones.
    With all of them the refit would be slower and the new episodes would hardly have an effect."""
    updates: int = 1500
    """Gradient updates of the predictor; the object dynamics, the success head and the metric get as many each."""
    threads: int = 2
    """Torch threads of the refit."""
    workers: int | None = None
    """Processes that record episodes; by default one per core."""
    measured: int = 120
    """Held-out episodes that the fidelity measurement replays."""
    policy_episodes: int = 34
    """Held-out episodes per task in which the policy acts in both worlds, for the fidelity measurement."""
    seed: int = 0
    """Seed of the recorded episodes and of the refit."""

    def __post_init__(self) -> None:
        """Checks that data are given and that every number is large enough."""
        if not self.data:
            raise ValueError("data=(); accepted: one folder or more, written by `python -m agents.collect`")
        for name, least in LEAST.items():
            check_number(name, getattr(self, name), least)

    def settings(self) -> dict[str, Any]:
        """Returns the arguments that must stay the same when a run is resumed, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in ("out", "threads", "workers")}
        return values | {"policy": str(self.policy), "data": [str(folder) for folder in self.data]}
