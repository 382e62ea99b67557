"""Command-line options of `agents.studies.reward_audit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEED = 200_000
"""First seed of the scenes; `agents.evaluate` and validation use lower seeds."""


@dataclass(frozen=True)
class Arguments:
    """Checks which rewards measure real progress, on held-out scenes in physics."""

    world_model: str = "state_grounded"
    """Checkpoint whose embeddings and learned metric are audited."""
    out: Path = Path("results")
    """Folder of rewards.json, rewards.md and rewards.png."""
    scenes: int = 60
    """Scenes per task."""
    seed: int = SEED
    """First of the held-out seeds."""
    cache: Path = Path("runs/reward_audit")
    """Folder of the scenes."""
    workers: int | None = None
    """Number of physics processes; all cores by default."""
    ray: bool = False
    """Use all cores of a Ray cluster instead, or of this machine if Ray finds no cluster. Needs the extra `ray`."""
