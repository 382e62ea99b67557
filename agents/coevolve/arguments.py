"""Command-line arguments of `agents.coevolve`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_number

LEAST = {"episodes": 1, "rehearsed": 1, "updates": 1, "threads": 1, "measured": 1, "seed": 0}
"""Smallest accepted value of each number."""
LATE = ("out", "threads", "workers", "measured")
"""Arguments that may differ when a run is resumed."""


@dataclass(frozen=True)
class Arguments:
    """Records a policy in the real environment, refits the world model to it, and compares the dreams."""

    policy: Path
    """Folder of the policy."""
    data: tuple[Path, ...]
    """Folders of the episodes that the world model was fitted to."""
    out: Path
    """Output folder for episodes/, world_model/, coevolution.json and coevolution.md."""
    world_model: str = "default"
    """World model to refit: a folder, or the name of a shipped one."""
    episodes: int = 200
    """Episodes to record with the policy, spread over the tasks. Its actions are sampled, as in training."""
    task: str = "all"
    """Task to record, if the environment has several; "all" records each of them."""
    scene: str | None = None
    """Scene to record in, if the environment has several, as in `agents.collect`."""
    rehearsed: int = 2000
    """Old episodes, randomly selected, that the refit uses in addition to the new ones.
    With all of them the refit would be slower and the new episodes would hardly have an effect."""
    updates: int = 1500
    """Gradient updates of each part that is refitted."""
    threads: int = 2
    """Torch threads of the refit; kind dynamics uses one where there are no pictures."""
    workers: int | None = None
    """Processes that record and evaluate; by default one per core."""
    measured: int = 34
    """Validation episodes, per task if the environment has several, in which the policy acts in the real environment
    and in the dreams of the world model before and after the refit."""
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
        return resolve_paths({name: value for name, value in asdict(self).items() if name not in LATE})
