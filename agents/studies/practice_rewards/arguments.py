"""Command-line options of `agents.studies.practice_rewards`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number

CLONE = "clone"
"""Row of the policy before practice."""
REWARDS: Mapping[str, Mapping[str, Any]] = {
    "energy": {"reward": "energy"},
    "success": {"reward": "success"},
    "metric_bounded": {"reward": "metric_bounded"},
    "progress": {"reward": "progress"},
    "bounded": {"reward": "bounded"},
    "metric_progress": {"reward": "metric_progress"},
    "energy discounted": {"reward": "energy", "discount": 0.97, "last_step": 1.0},
    "metric_bounded discounted": {"reward": "metric_bounded", "discount": 0.97, "last_step": 1.0},
    "progress discounted": {"reward": "progress", "discount": 0.97},
}
"""Rows of practice in the dream, with their options of `agents.train`. They are run in this order."""
UNTRAINED = "untrained dream"
CONTROLS = {
    UNTRAINED: "the same practice in a dream that sees as the true one does, and hardly moves",
    "clone again": "no practice: another clone of as many demonstrations, those of --data, to compare the next with",
    "longer cloning": "no practice: that clone with as many more updates as fit in the processor time of practice",
    "cloned successes": "no practice: cloning the actions of the successful episodes among those that the world model "
    "was fitted to",
    "practice in physics": "the same practice in physics, for as many control steps as the world model was fitted to",
}
"""Control rows, which test other explanations of a gain."""


@dataclass(frozen=True)
class Arguments:
    """Practices a clone in the dream with each reward, and evaluates the policies in physics."""

    rewards: tuple[str, ...] = tuple(REWARDS)
    """Rewards of practice. The others are compared with energy."""
    controls: tuple[str, ...] = ()
    """Controls to run as well: "untrained dream", "clone again", "longer cloning", "cloned successes", "practice in
    physics". All except the first need --data."""
    demos: tuple[int, ...] = (5,)
    """Demonstrations per task that the clone was trained on. Clones of 5 and 100 are shipped, others are cloned from
    --data, for the state-grounded world model."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of practice. Controls, except the untrained dream, use only the first."""
    steps: int = 500_000
    """Environment steps of practice in the dream."""
    temperature: float = 1.0
    """Temperature of the dreams in practice: 0 gives the most likely predictions, larger values more noise."""
    episodes: int = 35
    """Held-out episodes per task, in physics and in the dream."""
    first_seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    world_model: str = "state_grounded"
    """Checkpoint of the world model: "state_grounded", with every reward and control, or "unlabelled", whose rewards
    are energy, bounded and success, and whose control is the untrained dream."""
    data: Path | None = None
    """Folder of the episodes that the world model was fitted to, for clones and controls."""
    work: Path = Path("runs/practice_rewards")
    """Folder of policies and episodes. Finished ones are reused."""
    out: Path = Path("results")
    """Folder of practice_rewards.json and practice_rewards.md."""
    only_report: bool = False
    """Only write the report of finished episodes; train and evaluate nothing."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        for name in ("rewards", "controls"):
            object.__setattr__(self, name, split(getattr(self, name)))
        for reward in self.rewards:
            check_choice("rewards", reward, REWARDS)
        for control in self.controls:
            check_choice("controls", control, CONTROLS)
        for name in ("steps", "episodes"):
            check_number(name, getattr(self, name), 1)
        for demos in self.demos:
            check_number("demos", demos, 1)
        for seed in self.seeds:
            check_number("seeds", seed)
        check_number("temperature", self.temperature)
        cloned = [f"demos={demos}" for demos in self.demos if demos not in self.shipped]
        cloned += [f"controls={name!r}" for name in self.controls if name != UNTRAINED]
        if cloned and self.data is None and not self.only_report:
            raise ValueError(f"{cloned[0]} needs demonstrations; accepted: --data FOLDER, written by agents.collect")

    @property
    def shipped(self) -> Mapping[int, str]:
        """Clones for the world model that the package ships, by demonstrations per task."""
        return SHIPPED.get(self.world_model, SHIPPED["state_grounded"])


SHIPPED = {
    "state_grounded": {5: "bc5", 100: "state_grounded"},
    "unlabelled": {5: "unlabelled", 100: "default"},
}
"""Clones that the package ships, by world model and demonstrations per task."""
