"""Command-line options of `agents.studies.general`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Trains learners in dreams of small environments, and evaluates them in the real environments.

    Attributes:
        out: Folder of general.json and general.md.
        work: Folder of episodes, world models and finished results.
        seeds: Number of training seeds of the learners.
        evaluated: Number of real episodes for evaluating each learner.
        workers: Number of processes for the learners.
        short: Run everything at toy size in about a minute, to check that it runs.
        envs: Environments to run; without any, all of them.
    """

    out: Path = Path("results")
    work: Path = Path("runs/general")
    seeds: int = 3
    evaluated: int = 30
    workers: int = 2
    short: bool = False
    envs: tuple[str, ...] = ()
