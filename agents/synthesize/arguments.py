"""Command-line arguments of `agents.synthesize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Writes imagined, filtered episodes of a policy as a LeRobot v3 data set."""

    policy: str = "few"
    """The policy that acts: default, few, or a path; or the file of a planner (`agents.plan`) or a foresight."""
    foresight: int = 0
    """Behaviors K that the policy compares by looking ahead, as `agents.foresee` does; 0 for the policy as it is."""
    world_model: str = "default"
    """Checkpoint that imagines."""
    initial_states: Path | None = None
    """File of recorded starts; that of the world model by default."""
    task: str = "all"
    """A task of the initial states, or all."""
    episodes: int = 2000
    """Episodes to write."""
    variants: int = 4
    """Episodes that are tried from a start before the next one is drawn."""
    std: float = 0.2
    """Noise on the actions, as a share of half the action box; the first of the variants has none."""
    draws: int = 4
    """Draws of the world model's noise that the actions of an episode are tried under."""
    agree: int = 3
    """Draws in which they have to succeed."""
    tries: int = 20
    """Imagined episodes per wanted one after which it gives up."""
    filtered: bool = True
    """Keeps what passes the filter; without it everything is kept, as a control."""
    seed: int = 0
    """Seed of starts and noise."""
    out: Path = Path("dreamt")
    """Folder of the data set."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("episodes", "variants", "draws", "agree", "tries"):
            check_number(name, getattr(self, name), 1)
        if self.foresight:
            check_number("foresight", self.foresight, 2, beside="0 for the policy as it is, or ")
        check_number("agree", self.agree, 1, self.draws)
