"""What `agents.studies.reward_audit` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEED = 200_000
"""Seeds of the scenes begin here; `agents.evaluate` and validation take lower ones."""


@dataclass(frozen=True)
class Arguments:
    """Tells which rewards mean what they say, on held-out scenes in physics."""

    world_model: str = "default"
    """Checkpoint whose embeddings and metric are measured."""
    out: Path = Path("results")
    """Folder of rewards.json, rewards.md and rewards.png."""
    scenes: int = 60
    """Scenes of each task."""
    seed: int = SEED
    """First of the held-out seeds."""
    cache: Path = Path("runs/reward_audit")
    """Folder of the scenes."""
    workers: int | None = None
    """Processes in physics; all cores by default."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""
