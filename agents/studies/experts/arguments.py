"""What `agents.studies.experts` can be told."""

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
    """Starts per task and scene."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks that are played now, in this order; none for a report of what has been played."""
    scenes: tuple[str, ...] = tuple(SCENES)
    """Scenes, in this order."""
    rate_episodes: int = 12
    """Episodes per scene and task that are recorded to see how long that takes; 0 leaves it out."""
    workers: int | None = None
    """Processes; all cores by default."""
    work: Path = Path("runs/experts")
    """Folder of what has been played, under a digest of physics and experts."""
    out: Path = Path("results")
    """Folder of experts.json, experts.md and experts.png."""

    def __post_init__(self) -> None:
        """Splits what commas part."""
        for name in ("tasks", "scenes"):
            object.__setattr__(self, name, split(getattr(self, name)))
