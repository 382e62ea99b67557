"""What the transfer experiment has played, and how it is counted and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dream_env.agents.eval.results import WORLDS, EpisodeResult
from dream_env.agents.eval.statistics import Interval, paired_difference, wilson
from dream_env.agents.studies.transfer.plan import Trial
from dream_env.agents.studies.transfer.policies import Made
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.tasks import TASKS

Key = tuple[int, str, int]
"""What pairs episodes of two policies: training seed, task, seed of the start."""


class Played(NamedTuple):
    """A trial with its policy and its episodes."""

    trial: Trial
    made: Made
    outcomes: Sequence[EpisodeResult]


@dataclass(frozen=True)
class Results:
    """All trials that are done.

    Attributes:
        played: The trials.
        demos: Demonstrations per task of the main comparison.
        world_model_steps: Physics steps of the episodes that the world model was fitted to.
    """

    played: Sequence[Played]
    demos: int = 100
    world_model_steps: int = 0

    def select(self, method: str, **condition: Any) -> list[Played]:
        """Returns the trials of a method under a condition: the usual one, all seeds, but for what is named."""
        wanted = {"demos": self.demos, "instruction": "normal", "shift": "none", "budget": "", **condition}

        def fits(trial: Trial) -> bool:
            there = vars(trial.spec) | vars(trial)
            return trial.spec.method == method and all(there[name] == value for name, value in wanted.items())

        return [one for one in self.played if fits(one.trial)]

    def outcomes(
        self, method: str, task: str = "all", world: str = "physics", **condition: Any
    ) -> dict[Key, EpisodeResult]:
        """Returns the episodes of a method, of all training seeds; starts that are solved already are left out."""
        return {
            (one.trial.spec.seed, o.task, o.seed): o
            for one in self.select(method, **condition)
            for o in one.outcomes
            if o.world == world and task in (o.task, "all") and not o.solved_at_start
        }

    def rate(self, method: str, task: str = "all", world: str = "physics", **condition: Any) -> Interval:
        """Returns the success of a method with its Wilson interval, all training seeds together."""
        won = [o.success for o in self.outcomes(method, task, world, **condition).values()]
        return wilson(sum(won), len(won))

    def gain(
        self,
        before: str,
        after: str,
        world: str = "physics",
        *,
        was: Mapping[str, Any] = {},
        now: Mapping[str, Any] = {},
    ) -> Interval:
        """Returns the difference in success over the episodes that both methods have played.

        Args:
            before: Method to compare with.
            after: Method that is compared.
            world: Where.
            was: Condition of `before`.
            now: Condition of `after`.
        """
        one, other = self.outcomes(before, world=world, **was), self.outcomes(after, world=world, **now)
        common = [key for key in one if key in other]
        return paired_difference([one[key].success for key in common], [other[key].success for key in common])

    def looks(self, method: str) -> dict[str, int]:
        """Returns the physics steps of practice at every budget at which a method was looked at, the least first."""
        steps: dict[str, int] = {}
        for one in self.played:
            if (one.trial.spec.method, one.trial.spec.demos, one.trial.usual) == (method, self.demos, True):
                steps[one.trial.budget] = max(steps.get(one.trial.budget, 0), one.made.practice_steps)
        return dict(sorted(steps.items(), key=lambda item: item[1]))

    def contacts(self, method: str, color: str, **condition: Any) -> tuple[float, int]:
        """Returns in which share of the episodes with a contact the first touched cube has a color, and their number.

        Args:
            method: Method.
            color: "named" for the cube of the original instruction, "told" for that of the spoken one.
            **condition: See `select`.
        """
        pairs = [(o.touched, getattr(o, color)) for o in self.outcomes(method, **condition).values()]
        met = [touched == wanted for touched, wanted in pairs if touched is not None and wanted is not None]
        return float(np.mean(met)) if met else math.nan, len(met)


def cells(results: Results) -> list[dict[str, Any]]:
    """Reduces every trial to a cell per task, and one for all of them."""
    rows = []
    for trial, made, outcomes in results.played:
        for task in [*TASKS, "all"]:
            own = [o for o in outcomes if task in (o.task, "all") and not o.solved_at_start]
            won = {world: [o.success for o in own if o.world == world] for world in WORLDS}
            row: dict[str, Any] = {
                "method": trial.spec.method,
                "demos": trial.spec.demos,
                "task": task,
                "instruction": trial.instruction,
                "shift": trial.shift,
                "seed": trial.spec.seed,
                "budget": trial.budget,
                "episodes": len(won["physics"]),
            }
            for world, each in won.items():
                found = wilson(sum(each), len(each))
                row |= {f"{world}_{name}": figure(value) for name, value in zip(_ENDS, found, strict=True)}
            shown = trial.spec.demos * len(TASKS) * EPISODE_STEPS * (trial.spec.method != "sac_her_physics")
            row |= {
                "physics_steps_for_training": shown + made.practice_steps,
                "practice_steps": made.practice_steps,
                "practice_cpu_s": figure(made.practice_cpu_s, 1),
                "wall_s": figure(made.wall_s, 1),
            }
            rows.append(row)
    return rows


_ENDS = ("success", "low", "high")


def figure(value: float, digits: int = 4) -> float | None:
    """Rounds a figure; None where there is none, as JSON knows no nan."""
    return None if math.isnan(value) else round(float(value), digits) + 0.0  # no -0.0
