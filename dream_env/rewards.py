"""Distances to a goal and rewards: one function for every world."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RewardName = Literal[
    "energy", "bounded", "progress", "metric", "metric_bounded", "metric_progress", "success", "environment"
]
BOUNDED_SCALE = 0.4
"""Distance at which the `bounded` reward has fallen to 1/e."""
METRIC_SCALE = 4.0
"""Learned distance (control steps) at which the `metric_bounded` reward has fallen to 1/e."""
DEFAULT_REWARD: RewardName = "energy"
"""Reward of worlds with goals where none is named; those without goals pay the environment's own."""
OF_TWO_EMBEDDINGS = ("energy", "bounded")
"""Rewards that can be told from an embedding and a goal's alone, which hindsight replay asks for."""


class Payment(NamedTuple):
    """Which steps of an episode a learner is paid for.

    Attributes:
        others: Weight of the reward of every step but the last.
        last: Weight of the reward of an episode's last step.
        beyond: Whether what would follow after a time limit counts, as the critic estimates it. Without it an episode
            is all there is: with rewards that are never positive, and a discount of 1, that is what is wanted.
    """

    others: float = 1.0
    last: float = 1.0
    beyond: bool = True


EVERY_STEP = Payment()
"""As Gymnasium has it."""
OUTCOME = Payment(0.0, 1.0, beyond=False)
"""The last step alone."""


def distance(embedding: Tensor, goal: Tensor) -> Tensor:
    """Mean squared distance `(...)` of embeddings `(..., E)`: the energy of V-JEPA 2-AC with a squared norm."""
    return (embedding - goal).square().mean(-1)


def metric_distance(vector: Tensor, goal: Tensor) -> Tensor:
    """Euclidean distance `(...)` of vectors `(..., M)` of a learned metric: about the control steps to go."""
    return (vector - goal).square().sum(-1).clamp_min(1e-12).sqrt()  # the root of 0 has no gradient


def is_learned(name: RewardName) -> bool:
    """Tells whether a reward measures by the world model's learned metric, and not by the embedding distance."""
    return name.startswith("metric")


def needs_goal(name: RewardName) -> bool:
    """Tells whether a reward is a function of a distance to the goal."""
    return name not in ("success", "environment")


def reward(name: RewardName, previous: Tensor, current: Tensor, success: Tensor, own: Tensor | None = None) -> Tensor:
    """Gives the rewards of one step.

    Args:
        name: Of the embedding distance, "energy": minus the distance; "progress": its decrease in this step;
            "bounded": exp(-distance / 0.4). Of the learned metric's distance, alike: "metric", "metric_progress",
            "metric_bounded" with scale 4. "success": 1 while success holds, else 0. "environment": the environment's
            own, true or predicted.
        previous: Distance to the goal before the step, `(...)`; the raw or the learned one, see `is_learned`.
        current: Distance to the goal after the step, `(...)`.
        success: Whether success holds after the step, `(...)` bool.
        own: The environment's own reward, `(...)`.

    Returns:
        The rewards, `(...)` float32.

    Raises:
        ValueError: If the environment's own is asked for and there is none.
    """
    if name == "environment":
        if own is None:
            raise ValueError(
                "reward='environment': this world model predicts no reward; accepted: a reward by the goal"
            )
        return own
    if name == "success":
        return success.float()
    if name in ("energy", "metric"):
        return -current
    if name in ("progress", "metric_progress"):
        return previous - current
    return (-current / (METRIC_SCALE if is_learned(name) else BOUNDED_SCALE)).exp()


def goal_reward(name: RewardName) -> Callable[[Any, Any, Any], np.ndarray]:
    """Returns the `compute_reward(achieved_goal, desired_goal, info)` of a goal env, vectorized over rows.

    Raises:
        ValueError: If the reward cannot be told from the two embeddings alone.
    """
    if name not in OF_TWO_EMBEDDINGS:
        names = ", ".join(map(repr, OF_TWO_EMBEDDINGS))
        raise ValueError(f"reward={name!r} needs more than two embeddings; with goal_env=True accepted: {names}")
    return partial(_goal_reward, name)


def _goal_reward(name: RewardName, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
    import torch

    achieved, desired = (torch.as_tensor(x, dtype=torch.float32) for x in (achieved_goal, desired_goal))
    apart = distance(achieved, desired)
    return reward(name, apart, apart, apart).numpy()
