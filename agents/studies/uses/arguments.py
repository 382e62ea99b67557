"""What `agents.studies.uses` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.nicol.tasks import STANDARD


@dataclass(frozen=True)
class Arguments:
    """Measures planning and foresight in physics, on held-out seeds."""

    episodes: int = 40
    """Episodes per task and arm."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    arms: tuple[str, ...] = ()
    """Which arms are played, all without a name, "none" for none; all that have been played are reported."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks."""
    oracle_episodes: int = 0
    """Episodes per task for which physics tells the best of 16 variations of the clone's episodes; 0 for none."""
    data: Path | None = None
    """Folder of demonstrations, for the arms of amplification."""
    amplify_starts: int = 60
    """Starts per task from which episodes are imagined."""
    amplify_variants: int = 3
    """Episodes that are imagined from each."""
    amplify_updates: int = 1500
    """Updates of every clone."""
    speed: bool = True
    """Measures what a plan takes."""
    workers: int | None = None
    """Processes; all cores by default."""
    work: Path = Path("runs/uses")
    """Folder for the episodes."""
    out: Path = Path("results")
    """Folder for uses.json and uses.md."""
