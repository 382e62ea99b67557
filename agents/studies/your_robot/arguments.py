"""What `agents.studies.your_robot` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_choice, check_number

CASES = ("reach", "push")
KINDS = ("slots", "dynamics")


@dataclass(frozen=True)
class Arguments:
    """Somebody else's robot: panda-gym by pictures, from recording to a policy that was trained in the dream only."""

    out: Path = Path("results")
    """Folder of your_robot.json and your_robot.md."""
    work: Path = Path("runs/your_robot")
    """Folder of episodes, world models, policies and what is finished."""
    cases: tuple[str, ...] = CASES
    """What is done: reach, push."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of world models that are fitted: slots, dynamics. Of the first one is the figure at the top."""
    seeds: int = 3
    """Training seeds of the policies."""
    evaluated: int = 100
    """Real episodes that each policy is evaluated on."""
    held_out: bool = True
    """Evaluates on held-out seeds; else on those of validation, for whoever changes something."""
    her: bool = True
    """Trains SAC with hindsight replay in the real environment too, on its true numbers, for as many steps as were
    recorded."""
    short: bool = False
    """Runs everything at toy size, for a look at whether it runs."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for case in self.cases:
            check_choice("cases", case, CASES)
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        check_number("seeds", self.seeds, 1)
        check_number("evaluated", self.evaluated, 1)
