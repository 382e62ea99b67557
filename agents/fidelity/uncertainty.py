"""Whether a world model knows what it does not know: disagreement against true error, and against the absurd."""

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
"""Steps for which something absurd goes on."""
FALSE_ALARMS = 0.01
"""Share of ordinary steps that may be flagged where the flagged share of absurd ones is told."""


def frame_errors(tokens: Tensor, predicted: Tensor) -> Tensor:
    """Mean squared error of every predicted frame but the first, `(N, T)`, of tokens `(N, T + 1, tokens, C)` each."""
    return (predicted[:, 1:].float() - tokens[:, 1:].float()).square().mean((2, 3))


def aggregates(disagreement: Tensor) -> dict[str, Tensor]:
    """Makes one figure `(N,)` of the disagreements `(N, K)` along a rollout, in several ways."""
    return {
        "sum": disagreement.sum(1),
        "sum of roots": disagreement.sqrt().sum(1),
        "largest": disagreement.max(1).values,
        "last": disagreement[:, -1],
    }


def correlations(latents: EncodedDataset, physics: Rollout, dream: Rollout) -> dict[str, Any]:
    """Rank correlations of disagreement with true error.

    Args:
        latents: N held-out episodes.
        physics: The same, with disagreement about and error of each recorded step.
        dream: Their replay.

    Returns:
        `step`: of single steps from recorded states, all N x T of them. `rollout_12`, `rollout_24`: of whole rollouts,
        N of one length each (so that none is explained by length alone), for each of `aggregates`.
    """
    assert physics.error is not None
    figures: dict[str, Any] = {"step": spearman(physics.disagreement.flatten(), physics.error.flatten())}
    drift, steps = frame_errors(latents.tokens, dream.tokens), latents.action.shape[1]
    for h in (steps // 2, steps):
        told = aggregates(dream.disagreement[:, :h])
        figures[f"rollout_{h}"] = {name: spearman(value, drift[:, h - 1]) for name, value in told.items()}
    return figures


@torch.inference_mode()
def outliers(model: Any, latents: EncodedDataset, seed: int = 0) -> dict[str, Any]:
    """How well disagreement tells the absurd from the ordinary, each for `STEPS` steps from the episodes' middle.

    - `actions`: full-scale actions that alternate in sign, which no recorded episode holds. They are absurd but need
      not be hard to predict: the hand trembles in place.
    - `proprio`: the set-point of another episode: the arm is not where it says.
    - `chimera`: the left half of one scene and the right half of another: two arms, or none; of slots half of them.
    - `noise`: tokens under noise of their own variance.

    Returns:
        For each: `auc` of the first step's disagreement and `flagged`, the share of its steps above the threshold that
        `FALSE_ALARMS` of the ordinary steps are above; and `flagged_by_own_threshold`, that above the model's own.
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
        told = _disagreement(model, begin, actions)
        truth = torch.cat([torch.zeros(len(ordinary)), torch.ones(len(told))])
        figures[name] = {
            "auc": auc(torch.cat([ordinary[:, 0], told[:, 0]]), truth),
            "flagged": float((told > limit).float().mean()),
        }
        if own is not None:
            figures[name]["flagged_by_own_threshold"] = float((told > own).float().mean())
    return figures


def _disagreement(model: Any, state: State, actions: Tensor) -> Tensor:
    """Disagreements `(N, K)` along K actions."""
    told = open_loop(model, state, actions)[1].disagreement
    assert told is not None
    return told
