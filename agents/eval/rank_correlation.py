"""Rank correlation of distances to the goal with the steps to go that a task's scripted expert counts.

The learned metric is trained on the same count (`dream_env.agents.fit.state_grounded.pairs`), so on held-out episodes
these figures show that it generalizes, and not that the count is right.
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
"""Two states of an episode are compared if their steps to go differ by at least this."""


def progressed(steps: np.ndarray) -> np.ndarray:
    """Marks the states of an episode between which something happened: one step or more since the last that is marked.

    A hand that trembles before the cube, and one that rests on it, stand in many pictures of the same progress; how a
    distance ranks those among themselves means nothing.

    Args:
        steps: Steps to go, `(N, T)`.

    Returns:
        The marks, `(N, T)` bool; an episode's first state has one.
    """
    marked, last = np.zeros(steps.shape, bool), np.full(len(steps), np.inf)
    for t, now in enumerate(steps.T):
        marked[:, t] = np.abs(now - last) >= 1
        last = np.where(marked[:, t], now, last)
    return marked


def rank_figures(distance: np.ndarray, steps: np.ndarray) -> dict[str, float]:
    """Compares distances to the goal with steps to go, `(N, T)` each, in N episodes.

    Returns:
        `spearman`: the rank correlation over the states of all episodes, see `progressed`; `spearman_within`: that of
        an episode, mean over those that have 3 states or more; `pairwise`: the share of pairs of states of one episode,
        at least `APART` steps apart, that are ordered rightly.
    """
    moved = progressed(steps)
    within = [spearman(d[on], s[on]) for d, s, on in zip(distance, steps, moved, strict=True) if on.sum() > 2]
    told = [one for one in within if not np.isnan(one)]
    further = steps[:, :, None] - steps[:, None] >= APART
    return {
        "spearman": spearman(distance[moved], steps[moved]),
        "spearman_within": float(np.mean(told)) if told else float("nan"),
        "pairwise": share((distance[:, :, None] > distance[:, None])[further]),
    }


def metric_figures(
    model: Any, episodes: EncodedDataset, steps: Tensor, tasks: np.ndarray
) -> dict[str, dict[str, float]]:
    """Measures the learned distance to the goal picture on recorded episodes.

    Args:
        model: The world model; without a metric there are no figures.
        episodes: N encoded episodes.
        steps: The expert's steps to go, `(N, T + 1)`.
        tasks: Names of their tasks, `(N,)`.

    Returns:
        `rank_figures` and the mean absolute error in steps, by task.
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
    """Returns the share of true answers; NaN where there are none."""
    return float(answers.mean()) if answers.size else float("nan")
