"""Thresholds that `agents.fit` sets on held-out episodes: of success, and of disagreement."""

from __future__ import annotations

from dataclasses import replace

import torch

from dream_env.agents import model_metrics
from dream_env.agents.latents import Latents
from dream_env.world_models.latent import LatentWorldModel
from dream_env.world_models.protocol import LatentState

QUANTILE = 0.999
"""Share of the steps along held-out episodes whose disagreement stays below the threshold."""


def calibrate_success(model: LatentWorldModel, held_out: Latents, false_positives: float) -> None:
    """Sets the success head's temperature (Guo et al. 2017) and threshold on held-out episodes.

    The temperature minimizes the cross-entropy over encoded and dreamt states; the threshold is the lowest from 0.5
    on at which at most `false_positives` of the dreamt failures are called successes.
    """
    model.success_head.temperature.fill_(1.0)
    dreamt, truth = model_metrics.success_ahead(model, held_out, held_out.action.shape[1] // 2)
    encoded = model_metrics.success_on(model, held_out)
    logits = torch.cat([encoded.flatten(), dreamt.flatten()]).clamp(1e-6, 1 - 1e-6).logit()
    truths = torch.cat([held_out.condition.flatten(), truth.flatten()])
    temperatures = torch.logspace(-1, 1, 201)
    losses = [torch.nn.functional.binary_cross_entropy_with_logits(logits / t, truths) for t in temperatures]
    best = temperatures[torch.stack(losses).argmin()]
    model.success_head.temperature.fill_(best)
    failures = (dreamt.flatten()[truth.flatten() < 0.5].clamp(1e-6, 1 - 1e-6).logit() / best).sigmoid()
    threshold = failures.quantile(1 - false_positives).item() if len(failures) else 0.5
    model.config = replace(model.config, success_threshold=round(max(0.5, threshold), 3))


@torch.inference_mode()
def calibrate_disagreement(model: LatentWorldModel, held_out: Latents) -> None:
    """Sets the threshold of disagreement: a step above it is rarer than one in a thousand under recorded actions.

    It is taken along dreams from the first frame, where a dream's own errors add to what the ensemble disagrees on.
    """
    state = LatentState(held_out.tokens[:, 0].float(), held_out.proprio[:, 0])
    values = []
    for action in held_out.action.unbind(1):
        values.append(model.disagreement(state, action))
        state = model.step(state, action)
    threshold = torch.cat(values).quantile(QUANTILE).item()
    model.config = replace(model.config, disagreement_threshold=float(f"{threshold:.4g}"))
