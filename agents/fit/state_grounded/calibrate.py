"""Calibrates the success head and the disagreement threshold on held-out episodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from dream_env.agents.eval.open_loop import open_loop
from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.nicol.world_model.model import StateGroundedModel

CERTAIN = 0.95
"""Lowest success threshold. Policies that are trained in the world model exploit states that barely count as success
there: a cube that is pushed just far enough in the world model is often not far enough in physics."""
SURE = 0.999
"""Highest success threshold, because no state reaches a probability of 1."""


def calibrate_success(
    model: StateGroundedModel, held_out: EncodedDataset, tasks: np.ndarray, false_positives: float
) -> None:
    """Sets the success head's temperature (Guo et al. 2017) and threshold on held-out episodes.

    The temperature minimizes the cross-entropy over encoded states and states of rollouts. The threshold is the lowest
    one, at least `CERTAIN`, at which in every task at most `false_positives` of the failures in rollouts are classified
    as successes. Rollouts are teacher-forced, so that the recorded condition is the correct label: the head is
    calibrated on what a state shows, not on the outcome of contacts.

    Args:
        model: The world model.
        held_out: N held-out episodes.
        tasks: Tasks of the episodes, `(N,)`.
        false_positives: Accepted share of false positives among failures, half an episode and a whole one ahead.
    """
    model.success_head.temperature.fill_(1.0)
    length = held_out.action.shape[1]
    ahead = [
        model_metrics.success_ahead(model, held_out, steps, teacher_forced=True) for steps in (length // 2, length)
    ]
    dreamt, truth = (torch.cat(parts, dim=1) for parts in zip(*ahead, strict=True))
    encoded = model_metrics.success_on(model, held_out)
    logits = torch.cat([encoded.flatten(), dreamt.flatten()]).clamp(1e-6, 1 - 1e-6).logit()
    truths = torch.cat([held_out.condition.flatten(), truth.flatten()])
    temperatures = torch.logspace(-1, 1, 201)
    losses = [torch.nn.functional.binary_cross_entropy_with_logits(logits / t, truths) for t in temperatures]
    best = temperatures[torch.stack(losses).argmin()]
    model.success_head.temperature.fill_(best)
    threshold = CERTAIN
    for task in np.unique(tasks):
        own = torch.from_numpy(tasks == task)
        failures = (dreamt[own][truth[own] < 0.5].clamp(1e-6, 1 - 1e-6).logit() / best).sigmoid()
        if len(failures):
            threshold = max(threshold, failures.quantile(1 - false_positives).item())
    model.config = replace(model.config, success_threshold=min(math.ceil(1000 * threshold) / 1000, SURE))


@torch.inference_mode()
def calibrate_disagreement(model: StateGroundedModel, held_out: EncodedDataset) -> None:
    """Sets the disagreement threshold, which at most one step in a thousand exceeds under recorded actions.

    It is measured on open-loop rollouts from the first frame, where accumulated prediction errors add to the
    disagreement.
    """
    disagreement = open_loop(model, model_metrics.first(model, held_out), held_out.action)[1].disagreement
    assert disagreement is not None
    threshold = disagreement.flatten().quantile(QUANTILE).item()
    model.config = replace(model.config, disagreement_threshold=float(f"{threshold:.4g}"))
