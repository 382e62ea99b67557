"""Arguments of `agents.demo`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dream_env.nicol.tasks import TaskName

FEWEST = 40
"""Fewest episodes for --from-scratch: with fewer, some stage has no training data. Also the number with --short."""


@dataclass(frozen=True)
class Arguments:
    """Trains a cloned policy by RL in a learned world model and evaluates it in physics before and after."""

    task: TaskName = "all"
    """Task to train and to evaluate."""
    init: str = "bc5"
    """Cloned policy to start from: a folder, or one of the shipped ones, "bc5" (5 demonstrations per task) and
    "default" (100 per task, which leaves little room for improvement)."""
    out: Path | None = None
    """Output folder. By default nicol_demo, with _short and _from_scratch appended for these options."""
    short: bool = False
    """Runs everything at a small size, in a minute or two, as a test of the installation. Its figures are
    meaningless."""
    from_scratch: bool = False
    """First collects episodes, fits a world model and clones a policy, instead of using the shipped world model and
    --init."""
    episodes: int = 50
    """Evaluation episodes per task, in physics and in the world model, before and after training."""
    steps: int = 1_500_000
    """Training steps in the world model."""
    collected: int = 4500
    """Number of episodes to collect with --from-scratch."""
    demonstrations: int = 5
    """Demonstrations per task for cloning with --from-scratch. At least a thirtieth of --collected is available for
    each task (150 by default); so many leave little room for improvement by RL."""
    seed: int = 0
    """Seed of everything except the evaluation, which uses fixed held-out seeds."""

    def size(self) -> Arguments:
        """Returns the arguments; with --short, with all sizes reduced."""
        return replace(self, episodes=2, steps=24_576, collected=FEWEST, demonstrations=1) if self.short else self

    @property
    def folder(self) -> Path:
        """The output folder."""
        forms = [name for name in ("short", "from_scratch") if getattr(self, name)]
        return self.out or Path("_".join(["nicol_demo", *forms]))

    def settings(self) -> dict[str, Any]:
        """Returns the settings that cannot change when a run is resumed, as JSON types."""
        return {key: value for key, value in asdict(self).items() if key not in ("out", "episodes", "steps")}
