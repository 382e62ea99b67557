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
    "measured": 4 * len(STANDARD),  # one of each kind that `agents.fidelity` replays
    "policy_episodes": 1,
    "seed": 0,
}
"""Least numbers that are accepted."""


@dataclass(frozen=True)
class Arguments:
    """Records a policy in physics, refits the world model on it, and reports the fidelity before and after."""

    policy: Path
    """Folder of the policy."""
    data: tuple[Path, ...]
    """Folders of the episodes that the world model was fitted to."""
    out: Path
    """Folder of episodes/, world_model/, before/, after/ and coevolution.json."""
    world_model: str = "default"
    """Checkpoint to start from."""
    episodes: int = 200
    """Physics episodes of the policy, acting stochastically, over all tasks."""
    rehearsed: int = 2000
    """Old episodes, drawn by chance, that the refit sees beside the new ones; with all of them it would be slower, and
    hardly notice what is new."""
    updates: int = 1500
    """Updates of the predictor; what moves its cubes, success head and metric get as many."""
    threads: int = 2
    """Threads of torch in the refit."""
    workers: int | None = None
    """Processes that record; by default one per core."""
    measured: int = 120
    """Held-out episodes that fidelity replays."""
    policy_episodes: int = 34
    """Held-out episodes per task in which the policy acts in both worlds."""
    seed: int = 0
    """Seed of episodes and refit."""

    def __post_init__(self) -> None:
        """Checks every number."""
        if not self.data:
            raise ValueError("data=(); accepted: one folder or more, written by `python -m agents.collect`")
        for name, least in LEAST.items():
            check_number(name, getattr(self, name), least)

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        values = {name: value for name, value in asdict(self).items() if name not in ("out", "threads", "workers")}
        return values | {"policy": str(self.policy), "data": [str(folder) for folder in self.data]}
