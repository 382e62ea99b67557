"""Command-line options of `agents.studies.experts`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.agents.run.config import split
from dream_env.nicol.shift import SCENES
from dream_env.nicol.tasks import TASKS


@dataclass(frozen=True)
class Arguments:
    """Measures the scripted experts of NICOL's tasks in physics, on held-out seeds."""

    episodes: int = 200
    """Episodes per task and scene."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks to run, in this order. Without any, only the report of finished episodes is written."""
    scenes: tuple[str, ...] = tuple(SCENES)
    """Scenes to run, in this order."""
    rate_episodes: int = 12
    """Episodes per scene and task for measuring the speed of recording; 0 skips the measurement."""
    workers: int | None = None
    """Number of processes; all cores by default."""
    work: Path = Path("runs/experts")
    """Folder of finished episodes, in a subfolder named by a digest of the physics and expert code."""
    out: Path = Path("results")
    """Folder of experts.json, experts.md and experts.png."""

    def __post_init__(self) -> None:
        """Splits values at commas."""
        for name in ("tasks", "scenes"):
            object.__setattr__(self, name, split(getattr(self, name)))
