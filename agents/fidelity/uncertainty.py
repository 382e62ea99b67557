"""Compares the disagreement of a world model with its true error, and tests it on absurd inputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.eval.open_loop import encoded_state, open_loop
from dream_env.agents.eval.statistics import auc, spearman
from dream_env.agents.fidelity.replay import Rollout
from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.nicol.constants import ACTION_NAMES
from dream_env.world_models.protocol import State

STEPS = 6
"""Number of steps with an absurd input."""
FALSE_ALARMS = 0.01
"""Fraction of ordinary steps above the threshold at which the flagged fraction of absurd steps is reported."""


def frame_errors(tokens: Tensor, predicted: Tensor) -> Tensor:
    """Returns the mean squared error `(N, T)` of predicted tokens `(N, T + 1, tokens, C)`, without the first frame."""
    return (predicted[:, 1:].float() - tokens[:, 1:].float()).square().mean((2, 3))


def aggregates(disagreement: Tensor) -> dict[str, Tensor]:
    """Aggregates the disagreements `(N, K)` along a rollout into one figure `(N,)`, in several ways."""
    return {
        "sum": disagreement.sum(1),
        "sum of roots": disagreement.sqrt().sum(1),
        "largest": disagreement.max(1).values,
        "last": disagreement[:, -1],
    }


def correlations(latents: EncodedDataset, physics: Rollout, dream: Rollout) -> dict[str, Any]:
    """Returns rank correlations of disagreement with true error.

    Args:
        latents: N held-out episodes.
        physics: The same episodes, with the disagreement and error of each recorded step.
        dream: Replay of these episodes in the dream.

    Returns:
        `step`: over all N x T single steps from recorded states. `rollout_12` and `rollout_24`: over N rollouts of this
        length, for each of `aggregates`. All rollouts of a figure have the same length, so length alone cannot explain
        the correlation.
    """
    assert physics.error is not None
    figures: dict[str, Any] = {"step": spearman(physics.disagreement.flatten(), physics.error.flatten())}
    drift, steps = frame_errors(latents.tokens, dream.tokens), latents.action.shape[1]
    for h in (steps // 2, steps):
        disagreement = aggregates(dream.disagreement[:, :h])
        figures[f"rollout_{h}"] = {name: spearman(value, drift[:, h - 1]) for name, value in disagreement.items()}
    return figures


@torch.inference_mode()
def outliers(model: Any, latents: EncodedDataset, seed: int = 0) -> dict[str, Any]:
    """Measures how well disagreement separates absurd from ordinary inputs, over `STEPS` steps from mid-episode.

    - `actions`: full-scale actions that alternate in sign, which occur in no recorded episode. They are absurd but not
      necessarily hard to predict: the hand trembles in place.
    - `proprio`: the set-point of another episode, so that the arm is not where the set-point says.
    - `chimera`: the left half of one scene and the right half of another, which shows two arms or none; for slots,
      half of the slots.
    - `noise`: tokens with added noise of the same variance.

    Returns:
        For each: `auc`, from the disagreement in the first step; `flagged`, the fraction of absurd steps above the
        threshold that `FALSE_ALARMS` of the ordinary steps exceed; and `flagged_by_own_threshold`, the fraction above
        the model's `disagreement_threshold`, if it has one.
    """
    generator = torch.Generator().manual_seed(seed)
    middle = latents.action.shape[1] // 2
    steps = min(STEPS, latents.action.shape[1] - middle)
    tokens, proprio, action = latents.tokens[:, middle].float(), latents.proprio[:, middle], latents.action[:, middle:]
    action, state = action[:, :steps], partial(encoded_state, model, instruction=latents.instruction)
    start = state(tokens, proprio)
    sign = torch.randint(0, 2, (len(action), 1, len(ACTION_NAMES)), generator=generator) * 2.0 - 1
    count, side = tokens.shape[1], math.isqrt(tokens.shape[1])
    columns = torch.arange(count) % side if side**2 == count else torch.arange(count)
    left = (columns < (side if side**2 == count else count) // 2)[:, None]
    noise = tokens.std() * torch.randn(tokens.shape, generator=generator)
    absurd = {
        "actions": (start, sign * (1 - 2 * (torch.arange(steps) % 2)).view(1, -1, 1)),
        "proprio": (state(tokens, proprio.roll(1, 0)), action),
        "chimera": (state(torch.where(left, tokens, tokens.roll(1, 0)), proprio), action),
        "noise": (state(tokens + noise, proprio), action),
    }
    ordinary = _disagreement(model, start, action)
    limit = float(np.quantile(ordinary, 1 - FALSE_ALARMS))
    own = getattr(getattr(model, "config", None), "disagreement_threshold", None)
    figures: dict[str, Any] = {}
    for name, (begin, actions) in absurd.items():
        disagreement = _disagreement(model, begin, actions)
        truth = torch.cat([torch.zeros(len(ordinary)), torch.ones(len(disagreement))])
        figures[name] = {
            "auc": auc(torch.cat([ordinary[:, 0], disagreement[:, 0]]), truth),
            "flagged": float((disagreement > limit).float().mean()),
        }
        if own is not None:
            figures[name]["flagged_by_own_threshold"] = float((disagreement > own).float().mean())
    return figures


def _disagreement(model: Any, state: State, actions: Tensor) -> Tensor:
    """Returns the disagreements `(N, K)` along K actions."""
    disagreement = open_loop(model, state, actions)[1].disagreement
    assert disagreement is not None
    return disagreement
