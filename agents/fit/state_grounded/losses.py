"""The losses of `agents.fit`, one for each stage that trains by one of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.agents.fit import distributed
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import BLUR, CENTIMETER, ObjectDynamics
from dream_env.nicol.world_model.state_estimator import HAND, OBJECT_STATE, StateEstimator
from dream_env.nicol.world_model.success_head import SuccessHead
from dream_env.world_models.autoencoder import AutoEncoder

CHANGED = 16 / 255
"""Difference to the background from which on a pixel counts as an object's or the arm's."""


def autoencoder_loss(
    autoencoder: AutoEncoder,
    images: Tensor,
    generator: torch.Generator,
    weight: float,
    noise: float,
    placing: float = 0.0,
    estimator: StateEstimator | None = None,
    truth: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Weighted mean squared error of the reconstruction, and the error of the object state estimated from the tokens.

    Args:
        autoencoder: In training mode.
        images: Pictures `(B, H, W, 3)` uint8.
        generator: Source of the noise.
        weight: Weight of pixels that differ from the background, beside 1 for the others; without it a small cube is
            lost in the table.
        noise: Standard deviation of the noise on the tokens, which makes distances between them mean something.
        placing: Weight of the object state's error.
        estimator: In training mode; None for pictures only.
        truth: The object states `(B, R)`.
        known: Which of their numbers exist, `(B, R)` bool.

    Returns:
        The loss, a scalar.
    """
    tokens = noisy(autoencoder.encode(images), generator, noise)
    drawn = reconstruction_loss(autoencoder, tokens, images, weight)
    if estimator is None or truth is None or known is None:
        return drawn
    return drawn + placing * object_state_loss(estimator(tokens), truth, known)


def noisy(tokens: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    """Adds noise of a standard deviation to tokens `(B, T, C)`."""
    return tokens + noise * distributed.draw(tokens.shape, generator, tokens.device)


def reconstruction_loss(autoencoder: AutoEncoder, tokens: Tensor, images: Tensor, weight: float) -> Tensor:
    """Error of the pictures that a decoder draws of tokens `(B, T, C)`; for the rest see `autoencoder_loss`."""
    target = images.float() / 255
    changed = (target - autoencoder.background).abs().amax(-1, keepdim=True) > CHANGED
    weights = 1 + (weight - 1) * changed
    error = weights * (autoencoder.decode(tokens).float() - target) ** 2
    return error.sum() / (3 * distributed.average(weights.sum()))


def arm_renderer_loss(renderer: ArmRenderer, tokens: Tensor, arm: Tensor) -> Tensor:
    """Mean squared error of the drawing of pairs of frames `(B, 2, T, C)` from what tells of the arm `(B, 2, n)`.

    What is left are the cubes.
    """
    return F.mse_loss(renderer(arm[:, 0], arm[:, 1]), torch.cat([tokens[:, 0], tokens[:, 1]], dim=-1))


def object_dynamics_loss(
    dynamics: ObjectDynamics,
    object_state: Tensor,
    proprio: Tensor,
    truth: Tensor,
    known: Tensor,
    share: Tensor | None = None,
) -> Tensor:
    """Error of k steps of every network of the ensemble, each step from what it predicted of the one before.

    Of its components that one goes on which most probably happened. So a network never has to make good for chance that
    it did not foresee, and learns from what is known at every step, not from what came of it.

    Args:
        dynamics: In training mode.
        object_state: As estimated from the first frames, `(B, R)`.
        proprio: Set-points `(B, k + 1, 4)`.
        truth: True object states `(B, k + 1, R)`.
        known: Which of their numbers exist, `(B, k + 1, R)` bool.
        share: How much each window counts for every network, `(B, E)`; None for all alike.

    Returns:
        The loss, a scalar: the mean over the networks.
    """
    device, steps = object_state.device, truth.shape[1] - 1
    total = torch.zeros((), device=device)
    counts = torch.ones((), device=device) if share is None else share.T
    for k in range(1, steps + 1):
        mixture = dynamics(object_state, proprio[:, k - 1], proprio[:, k])
        hand = F.smooth_l1_loss(mixture.hand, truth[:, k, : len(HAND)], beta=CENTIMETER, reduction="none")
        moved = -BLUR * mixture.log_joint(truth[:, k], known[:, k]).logsumexp(-1)
        total = total + (counts * (hand.sum(-1) + moved.sum(-1))).mean() / truth.shape[-1]
        object_state = mixture.posterior_mode(truth[:, k], known[:, k])
    return total / steps


def rollout_loss(
    model: StateGroundedModel,
    tokens: Tensor,
    proprio: Tensor,
    action: Tensor,
    generator: torch.Generator,
    noise: float,
    weight: float = 0.0,
    truth: Tensor | None = None,
    known: Tensor | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """Error of k predicted steps, each from the prediction before (V-JEPA 2-AC's rollout loss, section 3).

    To the mean squared error of the tokens comes that of the object state that is estimated from them. A small cube is
    a small part of the tokens, so a predictor that only has to match them learns the arm first and last what it does to
    cubes.

    Every head counts some windows more than others, so that the heads differ where data is thin; the rollout goes on
    from their mean, which is what `step` gives.

    Of what may come of a contact the predictor is told the component that most probably happened: it has to draw what
    it is told, not to doubt it.

    Args:
        model: Its predictor in training mode.
        tokens: Windows of encoded frames `(B, k + 1, T, C)`.
        proprio: Set-points `(B, k + 1, 4)`.
        action: Actions `(B, k, 4)`.
        generator: Source of the noise.
        noise: Standard deviation of the noise on the first frame.
        weight: Weight of the object state's error.
        truth: True object states `(B, k + 1, R)`, as a cube behind the hand is estimated less well; None matches tokens
            only, over a table without cubes.
        known: Which of their numbers exist, `(B, k + 1, R)` bool.
        share: How much each window counts for every head, `(B, ensemble)`; None for all alike.

    Returns:
        The loss, a scalar.
    """
    state, setpoint, steps = noisy(tokens[:, 0], generator, noise), proprio[:, 0], action.shape[1]
    if truth is None:
        object_state = tokens.new_zeros(len(tokens), len(OBJECT_STATE))
    else:
        object_state = model.state_estimator(state.float())
    total = torch.zeros((), device=tokens.device)
    for k in range(steps):
        moved = model.next_setpoint(setpoint, action[:, k])
        mixture = model.object_dynamics(object_state, setpoint, moved)
        modes = mixture.mode()
        if truth is not None and known is not None:
            modes = mixture.posterior_mode(truth[:, k + 1], known[:, k + 1])
        after = modes.mean(0)
        heads = model.predictor(state, action[:, k], setpoint, moved, object_state, after)
        error = (heads - tokens[:, k + 1]).square().mean((2, 3))
        total = total + (error if share is None else share.T * error).mean()
        state, setpoint, object_state = heads.mean(0), moved, after
        if weight and truth is not None and known is not None:
            estimated = model.state_estimator(state.float())
            total = total + weight * object_state_loss(estimated, truth[:, k + 1], known[:, k + 1])
    return total / steps


def object_state_loss(object_state: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Error of object states `(..., R)`: squared up to a centimeter, then linear, by how much each is `known`."""
    error = F.smooth_l1_loss(object_state.float(), truth, beta=CENTIMETER, reduction="none")
    return (error * known).mean()


def success_loss(
    head: SuccessHead,
    tokens: Tensor,
    proprio: Tensor,
    instruction: Tensor,
    condition: Tensor,
    object_state: Tensor,
) -> Tensor:
    """Binary cross-entropy of the task's condition; shapes as in `SuccessHead.forward`, condition `(B,)` 0 or 1."""
    logits = head(tokens, proprio, instruction, object_state)
    return F.binary_cross_entropy_with_logits(logits.float(), condition)


def metric_loss(vectors: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
    """Absolute error of the learned distance in steps.

    Args:
        vectors: Vectors of the frames `(B, M)`.
        goals: Vectors of frames that show their goals, `(B, M)`.
        steps: True steps to go, `(B,)`.
    """
    # The root has no gradient at 0: a frame of the goal itself is some hundredths of a step from it.
    distance = ((vectors.float() - goals.float()).square().sum(1) + 1e-4).sqrt()
    return F.smooth_l1_loss(distance, steps)
