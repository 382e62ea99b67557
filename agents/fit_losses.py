"""The losses of `agents.fit`: pictures through the auto-encoder, rollouts of the predictor, the success head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.latent import SuccessHead
from dream_env.world_models.predictor import Predictor

CHANGED = 16 / 255
"""Difference to the background from which on a pixel counts as an object's or the arm's."""


def autoencoder_loss(
    autoencoder: AutoEncoder,
    images: Tensor,
    generator: torch.Generator,
    weight: float,
    noise: float,
) -> Tensor:
    """Weighted mean squared error of the reconstruction.

    Args:
        autoencoder: In training mode.
        images: Pictures `(B, H, W, 3)` uint8.
        generator: Source of the noise.
        weight: Weight of pixels that differ from the background, beside 1 for the others; without it a small cube is
            lost in the table.
        noise: Standard deviation of the noise on the tokens, which makes distances between them mean something.

    Returns:
        The loss, a scalar.
    """
    tokens = autoencoder.encode(images)
    tokens = tokens + noise * torch.randn(tokens.shape, generator=generator)
    target = images.float() / 255
    changed = (target - autoencoder.background).abs().amax(-1, keepdim=True) > CHANGED
    weights = 1 + (weight - 1) * changed
    error = weights * (autoencoder.decode(tokens).float() - target) ** 2
    return error.sum() / (3 * weights.sum())


def rollout_loss(
    predictor: Predictor,
    tokens: Tensor,
    proprio: Tensor,
    action: Tensor,
    generator: torch.Generator,
    noise: float,
) -> Tensor:
    """Mean squared error of k predicted steps, each from the prediction before (V-JEPA 2-AC's rollout loss, section 3).

    Every head is trained on its own random half of the windows and half on all of them, so that the heads differ where
    data is thin; the rollout goes on from their mean, which is what `step` gives.

    Args:
        predictor: In training mode.
        tokens: Windows of encoded frames `(B, k + 1, T, C)`.
        proprio: Set-points `(B, k + 1, 4)`.
        action: Actions `(B, k, 4)`.
        generator: Source of the noise.
        noise: Standard deviation of the noise on the first frame.

    Returns:
        The loss, a scalar.
    """
    state = tokens[:, 0] + noise * torch.randn(tokens[:, 0].shape, generator=generator)
    heads = len(predictor.heads)
    share = torch.randint(0, 2, (heads, len(tokens)), generator=generator) + 0.5
    total = torch.zeros(())
    steps = action.shape[1]
    for k in range(steps):
        predictions, _ = predictor(state, proprio[:, k], action[:, k])
        error = (predictions - tokens[:, k + 1]).square().mean((2, 3))
        total = total + (share * error).mean()
        state = predictions.mean(0)
    return total / steps


def success_loss(
    head: SuccessHead,
    tokens: Tensor,
    proprio: Tensor,
    instruction: Tensor,
    condition: Tensor,
) -> Tensor:
    """Binary cross-entropy of the task's condition; shapes as in `SuccessHead.forward`, condition `(B,)` 0 or 1."""
    logits = head(tokens, proprio, instruction)
    return F.binary_cross_entropy_with_logits(logits.float(), condition)
