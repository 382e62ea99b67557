"""Trials of the transfer study: every policy under every condition, the most important ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from dream_env.agents.eval.results import Instruction

METHODS = {
    "clone": "behavior cloning alone",
    "dream": "clone, then RL in the frozen dream",
    "dream_coevolved": "then physics episodes of that policy, the world model refitted, RL in it",
    "clone_equal_compute": "clone with as much more CPU time as the dream RL takes",
    "clone_ungrounded": "clone that begins without the world model's sense of words and places",
    "clone_looking": "clone that attends to the tokens by queries of its own, beside what it reads",
    "untrained_dream": "clone, then the same RL in a dream whose dynamics are untrained: it hardly moves",
    "regressor": "(picture, goal picture, steps left) regressed on the same demonstrations",
    "ppo_physics": "clone, then PPO in physics",
    "sac_her_physics": "SAC with hindsight replay in physics, from nothing",
}
"""Methods of training, with descriptions."""
MAIN = ("clone", "dream", "dream_coevolved")
CONTROLS = ("clone_equal_compute", "clone_ungrounded", "clone_looking", "untrained_dream", "regressor")
MODEL_FREE = ("ppo_physics", "sac_her_physics")
DEMOS, MAIN_DEMOS, SEEDS = (5, 25, 50, 100, 200), 100, (0, 1, 2)
"""Numbers of demonstrations per task, the number in the main comparison, and training seeds."""
CONTROL_INSTRUCTIONS: tuple[Instruction, ...] = ("swapped", "heldout", "shuffled", "absent")
CONTROL_SHIFTS = ("friction", "mass", "lighting", "camera")
WALL = "wall"
"""Budget of a model-free learner: the CPU time of RL in the dream with the same demonstrations and seed."""


@dataclass(frozen=True)
class Spec:
    """A policy to train.

    Attributes:
        method: One of `METHODS`.
        demos: Demonstrations per task.
        seed: Training seed.
    """

    method: str
    demos: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """A policy under one condition: the unit of work.

    Attributes:
        spec: The policy.
        episodes: Held-out episodes per task and world.
        instruction: Kind of instruction that the policy receives.
        shift: Shift of physics.
        budget: When a model-free learner is evaluated: physics steps as text, or `WALL`; empty for other methods.
    """

    spec: Spec
    episodes: int
    instruction: Instruction = "normal"
    shift: str = "none"
    budget: str = ""

    @property
    def usual(self) -> bool:
        """Whether the condition is the standard one, so that the trial is also evaluated in the dream."""
        return self.instruction == "normal" and self.shift == "none"

    @property
    def name(self) -> str:
        """Name of the result within the policy's folder."""
        parts = [self.instruction, self.shift, *([self.budget] if self.budget else []), str(self.episodes)]
        return "-".join(parts)


def budgets(method: str, physics_steps: Sequence[int], equal_time: bool = True) -> list[str]:
    """Returns the budgets at which a method is evaluated; only "" (at the end) for all methods but model-free RL."""
    if method not in MODEL_FREE:
        return [""]
    return [*map(str, sorted(physics_steps)), *([WALL] if equal_time else [])]


def plan(
    demos: Sequence[int] = DEMOS,
    seeds: Sequence[int] = SEEDS,
    episodes: int = 100,
    side_episodes: int | None = None,
    physics_steps: Sequence[int] = (4_800, 19_200),
    equal_time: bool = True,
) -> list[Trial]:
    """Lists all trials by importance, so that an interrupted run has finished the most important ones.

    Args:
        demos: Numbers of demonstrations per task. The main comparison uses `MAIN_DEMOS`, or the last number if
            `MAIN_DEMOS` is not among them.
        seeds: Training seeds.
        episodes: Episodes per task of the main comparison.
        side_episodes: Episodes per task of all other trials; by default the same as `episodes`.
        physics_steps: Steps after which the model-free learners are evaluated.
        equal_time: Whether to evaluate them also after the CPU time of RL in the dream.
    """
    main = MAIN_DEMOS if MAIN_DEMOS in demos else demos[-1]
    side = episodes if side_episodes is None else side_episodes
    others = sorted((each for each in demos if each != main), key=lambda each: abs(each - main))

    def trials(methods: Sequence[str], number: int, count: int, **condition: str) -> list[Trial]:
        return [
            Trial(Spec(method, number, seed), count, budget=budget, **condition)  # type: ignore[arg-type]
            for method in methods
            # Seeds vary fastest: two workers that need the same policy would wait for each other.
            for budget, seed in product(budgets(method, physics_steps, equal_time), seeds)
        ]

    listed = trials(MAIN, main, episodes)
    listed += trials(CONTROLS, main, side)
    listed += trials(MODEL_FREE, main, side)
    if others:  # few demonstrations leave more to learn
        listed += trials(MODEL_FREE[:1], min(others), side)
    for words in CONTROL_INSTRUCTIONS:
        listed += trials(["dream"], main, side, instruction=words)
    for number in others:
        listed += trials(MAIN[:2], number, side)
    for shift in CONTROL_SHIFTS:
        listed += trials(MAIN[:2], main, side, shift=shift)
    for words in CONTROL_INSTRUCTIONS:
        listed += trials(["clone"], main, side, instruction=words)
    for number in others:
        listed += trials((*MAIN[2:], "clone_looking"), number, side)
    return listed
