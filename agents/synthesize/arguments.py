"""Command-line arguments of `agents.synthesize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Generates imagined episodes of a policy as a LeRobot v3 data set; by default only those that can be trusted."""

    policy: str = "unlabelled"
    """Policy that acts: a shipped one, or a path. May be the file of a planner (`agents.plan`) or of a foresight."""
    foresight: int = 0
    """Number of candidate behaviors for foresight, as in `agents.foresee`; 0 uses the policy without foresight."""
    world_model: str = "default"
    """Checkpoint of the world model to imagine with. By default the one that the policy names, else NICOL's."""
    initial_states: Path | None = None
    """File of recorded initial states; by default the world model's."""
    task: str = "all"
    """Task of the initial states, or all."""
    episodes: int = 2000
    """Number of episodes to write."""
    variants: int = 4
    """Episodes to imagine from each initial state."""
    std: float = 0.2
    """Noise on the actions, as a share of half the action box; the first variant has none."""
    draws: int = 4
    """Samples of the world model's noise under which the actions of an episode are tried."""
    agree: int = 3
    """Number of these samples under which the actions must succeed to pass the filter."""
    tries: int = 20
    """Stops with an error after imagining this many episodes per requested one."""
    filtered: bool = True
    """Keeps only episodes that pass the filter; --no-filtered keeps all, as a control."""
    seed: int = 0
    """Seed of initial states and noise."""
    out: Path = Path("dreamt")
    """Output folder of the data set."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("episodes", "variants", "draws", "agree", "tries"):
            check_number(name, getattr(self, name), 1)
        if self.foresight:
            check_number("foresight", self.foresight, 2, beside="0 for the policy as it is, or ")
        check_number("agree", self.agree, 1, self.draws)
