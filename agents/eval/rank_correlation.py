"""Rank correlation between distances to the goal and the steps to go counted by a task's scripted expert.

The learned metric is trained on the same count (`dream_env.agents.fit.state_grounded.pairs`). On held-out episodes
these values therefore show that the metric generalizes, not that the count is right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents.eval.statistics import spearman
from dream_env.agents.nicol.encoded_dataset import EncodedDataset

APART = 2.0
"""Pairs of states of an episode are compared if their steps to go differ by at least this."""


def progressed(steps: np.ndarray) -> np.ndarray:
    """Marks the states of an episode that show progress: at least one step to go more or less than the last marked one.

    A hand that trembles or rests gives many frames with the same progress; how a distance ranks these among each other
    has no meaning.

    Args:
        steps: Steps to go, `(N, T)`.

    Returns:
        The marks, `(N, T)` bool; the first state of an episode is marked.
    """
    marked, last = np.zeros(steps.shape, bool), np.full(len(steps), np.inf)
    for t, now in enumerate(steps.T):
        marked[:, t] = np.abs(now - last) >= 1
        last = np.where(marked[:, t], now, last)
    return marked


def rank_figures(distance: np.ndarray, steps: np.ndarray) -> dict[str, float]:
    """Compares distances to the goal with steps to go.

    Args:
        distance: Distances to the goal in N episodes, `(N, T)`.
        steps: Steps to go, `(N, T)`.

    Returns:
        `spearman`: rank correlation over the marked states of all episodes, see `progressed`. `spearman_within`: rank
        correlation within an episode, averaged over the episodes with 3 or more marked states. `pairwise`: share of
        correctly ordered pairs among the pairs of states of one episode that are at least `APART` steps apart.
    """
    moved = progressed(steps)
    within = [spearman(d[on], s[on]) for d, s, on in zip(distance, steps, moved, strict=True) if on.sum() > 2]
    defined = [one for one in within if not np.isnan(one)]
    further = steps[:, :, None] - steps[:, None] >= APART
    return {
        "spearman": spearman(distance[moved], steps[moved]),
        "spearman_within": float(np.mean(defined)) if defined else float("nan"),
        "pairwise": share((distance[:, :, None] > distance[:, None])[further]),
    }


def metric_figures(
    model: Any, episodes: EncodedDataset, steps: Tensor, tasks: np.ndarray
) -> dict[str, dict[str, float]]:
    """Measures the learned distance to the goal picture on recorded episodes.

    Args:
        model: The world model.
        episodes: N encoded episodes.
        steps: The expert's steps to go, `(N, T + 1)`.
        tasks: Names of the episodes' tasks, `(N,)`.

    Returns:
        By task: `rank_figures`, and `error_steps`, the mean absolute error in steps. Empty if the model has no metric.
    """
    if not model.config.metric_dim:
        return {}
    truth = steps.numpy()
    with torch.no_grad():
        goals = model.metric(model.state_of(episodes.goal.float()))
        frames = model.metric(model.state_of(episodes.tokens.float().flatten(0, 1))).unflatten(0, truth.shape)
    distance = rewards.metric_distance(frames, goals[:, None]).numpy()
    return {
        task: rank_figures(distance[tasks == task], truth[tasks == task])
        | {"error_steps": float(np.abs(distance - truth)[tasks == task].mean())}
        for task in np.unique(tasks).tolist()
    }


def share(answers: np.ndarray) -> float:
    """Returns the share of true answers; NaN if there are no answers."""
    return float(answers.mean()) if answers.size else float("nan")
