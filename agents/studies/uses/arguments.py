"""Command-line options of `agents.studies.uses`."""

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
    """Arms (variants) to run: without any, all of them; "none" runs none. The report shows all finished arms."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks to run."""
    oracle_episodes: int = 0
    """Episodes per task for the oracle, in which physics selects the best of 16 variations of the clone's episode; 0
    skips it."""
    data: Path | None = None
    """Folder of demonstrations, needed for arms whose policies the study trains: amplification, and all arms with
    "demonstrations" in their name."""
    amplify_starts: int = 60
    """Initial states per task from which episodes are imagined for amplification."""
    amplify_variants: int = 3
    """Imagined episodes per initial state."""
    amplify_updates: int = 1500
    """Gradient updates of every clone."""
    speed: bool = True
    """Measure the time of planning."""
    workers: int | None = None
    """Number of processes; all cores by default."""
    work: Path = Path("runs/uses")
    """Folder for the episodes."""
    out: Path = Path("results")
    """Folder for uses.json and uses.md."""
