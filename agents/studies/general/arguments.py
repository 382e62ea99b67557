"""What `agents.studies.general` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Arguments of the command.

    Attributes:
        out: Folder of general.json and general.md.
        work: Folder of episodes, world models and what is finished.
        seeds: Training seeds of the learners.
        evaluated: Real episodes that each learner is evaluated on.
        workers: Processes for the learners.
        short: Runs everything in a minute, for a look at whether it runs.
        envs: Environments to take; none takes all.
    """

    out: Path = Path("results")
    work: Path = Path("runs/general")
    seeds: int = 3
    evaluated: int = 30
    workers: int = 2
    short: bool = False
    envs: tuple[str, ...] = ()
