"""Command-line options of `agents.studies.your_robot`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_choice, check_number

CASES = ("reach", "push", "push_demonstrated")
KINDS = ("slots", "dynamics")


@dataclass(frozen=True)
class Arguments:
    """Runs the pipeline on another robot: panda-gym from pictures, from recording to policies trained in the dream."""

    out: Path = Path("results")
    """Folder of your_robot.json and your_robot.md."""
    work: Path = Path("runs/your_robot")
    """Folder of episodes, world models, policies and finished results."""
    cases: tuple[str, ...] = CASES
    """Tasks to run: reach, push (both without demonstrations), push_demonstrated (from 25)."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of world models to fit: slots, dynamics. The summary uses the first one."""
    seeds: int = 3
    """Number of training seeds of the policies."""
    evaluated: int = 100
    """Real evaluation episodes per policy."""
    held_out: bool = True
    """Evaluate on held-out seeds. Turn this off while you change something; then the validation seeds are used."""
    her: bool = True
    """Also train SAC with hindsight experience replay in the real environment, on its true state, for as many steps as
    were recorded."""
    short: bool = False
    """Run everything at toy size, to check that it runs."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        for case in self.cases:
            check_choice("cases", case, CASES)
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        check_number("seeds", self.seeds, 1)
        check_number("evaluated", self.evaluated, 1)
