"""Goal distances and rewards, the same functions for the dream and the real environment."""

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
"""Distance at which the `bounded` reward is 1/e."""
METRIC_SCALE = 4.0
"""Learned distance (control steps) at which the `metric_bounded` reward is 1/e."""
DEFAULT_REWARD: RewardName = "energy"
"""Default reward in worlds with goals. In worlds without goals the default is "environment"."""
OF_TWO_EMBEDDINGS = ("energy", "bounded")
"""Rewards that depend only on the embedding and the goal embedding, as hindsight relabelling requires."""


class RewardWeights(NamedTuple):
    """Weights for the rewards of an episode's steps during training.

    Attributes:
        other_steps: Weight of the reward of every step except the last.
        last_step: Weight of the reward of an episode's last step.
        bootstrap_at_timeout: Whether the critic's value estimate is added at a truncation. If False, nothing counts
            after the time limit, which is appropriate for rewards that are never positive with a discount of 1.
    """

    other_steps: float = 1.0
    last_step: float = 1.0
    bootstrap_at_timeout: bool = True


EVERY_STEP = RewardWeights()
"""All rewards as they are, as in Gymnasium."""
OUTCOME = RewardWeights(0.0, 1.0, bootstrap_at_timeout=False)
"""The reward of the last step only."""


def distance(embedding: Tensor, goal: Tensor) -> Tensor:
    """Returns the mean squared distance `(...)` of embeddings `(..., E)`: V-JEPA 2-AC's energy with a squared norm."""
    return (embedding - goal).square().mean(-1)


def metric_distance(vector: Tensor, goal: Tensor) -> Tensor:
    """Returns the Euclidean distance `(...)` of learned metric vectors `(..., M)`: about the control steps to go."""
    return (vector - goal).square().sum(-1).clamp_min(1e-12).sqrt()  # the square root has no finite gradient at 0


def is_learned(name: RewardName) -> bool:
    """Returns whether a reward uses the world model's learned metric instead of the embedding distance."""
    return name.startswith("metric")


def needs_goal(name: RewardName) -> bool:
    """Returns whether a reward is a function of a distance to the goal."""
    return name not in ("success", "environment")


def reward(name: RewardName, previous: Tensor, current: Tensor, success: Tensor, own: Tensor | None = None) -> Tensor:
    """Computes the rewards of one step.

    Args:
        name: Name of the reward. With the embedding distance: "energy" is minus the distance, "progress" its decrease
            in this step, "bounded" is exp(-distance / 0.4). With the learned distance: "metric", "metric_progress" and
            "metric_bounded" are the same, with scale 4. "success" is 1 while success holds, else 0. "environment" is
            the environment's own reward, true or predicted.
        previous: Distance to the goal before the step, `(...)`: the embedding distance or the learned one, see
            `is_learned`.
        current: Distance to the goal after the step, `(...)`.
        success: Whether success holds after the step, `(...)` bool.
        own: The environment's own reward, `(...)`.

    Returns:
        The rewards, `(...)` float32.

    Raises:
        ValueError: If `name` is "environment" and `own` is None.
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
    """Returns the method `compute_reward(achieved_goal, desired_goal, info)` of a goal env, vectorized over rows.

    Raises:
        ValueError: If the reward needs more than the two embeddings.
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
