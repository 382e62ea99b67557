"""The losses of `agents.fit`, one for each stage that trains by one of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.agents.fit import distributed
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.model import SuccessHead
from dream_env.nicol.world_model.object_dynamics import BLUR, CENTIMETER, Mixture, ObjectDynamics
from dream_env.nicol.world_model.predictor import Predictor
from dream_env.nicol.world_model.state_estimator import HAND, StateEstimator
from dream_env.world_models.autoencoder import AutoEncoder

CHANGED = 16 / 255
"""Difference to the background from which on a pixel counts as an object's or the arm's."""
SETPOINT = 10.0
"""Weight of the set-point's error, where it is learned."""


def autoencoder_loss(
    autoencoder: AutoEncoder,
    images: Tensor,
    generator: torch.Generator,
    weight: float,
    noise: float,
    placing: float = 0.0,
    reader: StateEstimator | None = None,
    truth: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Weighted mean squared error of the reconstruction, and the error of what a reader reads off the tokens.

    Args:
        autoencoder: In training mode.
        images: Pictures `(B, H, W, 3)` uint8.
        generator: Source of the noise.
        weight: Weight of pixels that differ from the background, beside 1 for the others; without it a small cube is
            lost in the table.
        noise: Standard deviation of the noise on the tokens, which makes distances between them mean something.
        placing: Weight of the readings' error.
        reader: In training mode; None for pictures only.
        truth: What it should read, `(B, R)`.
        known: Which of these exist, `(B, R)` bool.

    Returns:
        The loss, a scalar.
    """
    tokens = noisy(autoencoder.encode(images), generator, noise)
    drawn = reconstruction_loss(autoencoder, tokens, images, weight)
    if reader is None or truth is None or known is None:
        return drawn
    return drawn + placing * reading_loss(reader(tokens), truth, known)


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


def sketch_loss(sketch: ArmRenderer, tokens: Tensor, arm: Tensor) -> Tensor:
    """Mean squared error of the drawing of pairs of frames `(B, 2, T, C)` from what tells of the arm `(B, 2, n)`.

    What is left are the cubes.
    """
    return F.mse_loss(sketch(arm[:, 0], arm[:, 1]), torch.cat([tokens[:, 0], tokens[:, 1]], dim=-1))


def interaction_loss(
    interaction: ObjectDynamics,
    readings: Tensor,
    proprio: Tensor,
    truth: Tensor,
    known: Tensor,
    share: Tensor | None = None,
) -> Tensor:
    """Error of k steps of every network of the ensemble, each step from what it predicted of the one before.

    Of its futures that one goes on which was nearest to what happened. So a network never has to make good for noise
    that it did not foresee, and learns from what is known at every step, not from what came of it.

    Args:
        interaction: In training mode.
        readings: What was read of the first frames, `(B, R)`.
        proprio: Set-points `(B, k + 1, 4)`.
        truth: Where hand and cubes are, as readings `(B, k + 1, R)`.
        known: Which of these exist, `(B, k + 1, R)` bool.
        share: How much each window counts for every network, `(B, E)`; None for all alike.

    Returns:
        The loss, a scalar: the mean over the networks.
    """
    total, situation, steps = torch.zeros((), device=readings.device), readings, truth.shape[1] - 1
    counts = torch.ones((), device=readings.device) if share is None else share.T
    for k in range(1, steps + 1):
        futures = interaction(situation, proprio[:, k - 1], proprio[:, k])
        hand = F.smooth_l1_loss(futures.hand, truth[:, k, : len(HAND)], beta=CENTIMETER, reduction="none")
        moved = -BLUR * futures.scores(truth[:, k], known[:, k]).logsumexp(-1)
        total = total + (counts * (hand.sum(-1) + moved.sum(-1))).mean() / truth.shape[-1]
        situation = futures.nearest(truth[:, k], known[:, k])
    return total / steps


def rollout_loss(
    predictor: Predictor,
    tokens: Tensor,
    proprio: Tensor,
    action: Tensor,
    generator: torch.Generator,
    noise: float,
    weight: float = 0.0,
    reader: StateEstimator | None = None,
    readings: Tensor | None = None,
    known: Tensor | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """Error of k predicted steps, each from the prediction before (V-JEPA 2-AC's rollout loss, section 3).

    To the mean squared error of the tokens comes that of what a frozen reader reads off them. A small cube is a small
    part of the tokens, so a predictor that only has to match them learns the arm first and last what it does to cubes.

    Every head counts some windows more than others, so that the heads differ where data is thin; the rollout goes on
    from their mean, which is what `step` gives.

    Of what may come of a contact the trunk is told the future that is nearest to what happened: it has to draw what it
    is told, not to doubt it. A set-point that is computed has no error, and its term no gradient.

    Args:
        predictor: In training mode.
        tokens: Windows of encoded frames `(B, k + 1, T, C)`.
        proprio: Set-points `(B, k + 1, 4)`.
        action: Actions `(B, k, 4)`.
        generator: Source of the noise.
        noise: Standard deviation of the noise on the first frame.
        weight: Weight of the readings' error.
        reader: Frozen reader; None matches tokens only.
        readings: What it should read, `(B, k + 1, R)`: the truth, as a cube behind the hand is read less well.
        known: Which readings exist, `(B, k + 1, R)` bool.
        share: How much each window counts for every head, `(B, ensemble)`; None for all alike.

    Returns:
        The loss, a scalar.
    """
    device = tokens.device
    state = noisy(tokens[:, 0], generator, noise)
    setpoint = proprio[:, 0]
    total = torch.zeros((), device=device)
    steps = action.shape[1]
    situation = [] if reader is None or predictor.interaction is None else [reader(state.float())]
    for k in range(steps):
        happened = () if readings is None or known is None else (readings[:, k + 1], known[:, k + 1])
        choose = Mixture.retraced if happened else Mixture.expected
        predictions, setpoint, *situation = predictor(
            state, setpoint, action[:, k], *situation, choose=choose, told=happened
        )
        error = (predictions - tokens[:, k + 1]).square().mean((2, 3))
        total = total + (error if share is None else share.T * error).mean()
        state = predictions.mean(0)
        total = total + SETPOINT * (setpoint - proprio[:, k + 1]).square().mean()
        if reader is not None and happened:
            total = total + weight * reading_loss(reader(state.float()), *happened)
    return total / steps


def reading_loss(readings: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Error of readings `(..., R)`: squared up to a centimeter, then linear, by how much each is `known`."""
    error = F.smooth_l1_loss(readings.float(), truth, beta=CENTIMETER, reduction="none")
    return (error * known).mean()


def success_loss(
    head: SuccessHead,
    tokens: Tensor,
    proprio: Tensor,
    instruction: Tensor,
    condition: Tensor,
    readings: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of the task's condition; shapes as in `SuccessHead.forward`, condition `(B,)` 0 or 1."""
    logits = head(tokens, proprio, instruction, readings)
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
