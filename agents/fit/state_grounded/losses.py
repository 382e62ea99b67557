"""Loss functions of the stages of `agents.fit --model state_grounded`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.agents.fit import distributed
from dream_env.agents.fit.constants import CHANGED
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import BLUR, CENTIMETER, ObjectDynamics
from dream_env.nicol.world_model.state_estimator import HAND, OBJECT_STATE, StateEstimator
from dream_env.nicol.world_model.success_head import SuccessHead
from dream_env.world_models.autoencoder import AutoEncoder


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
    """Returns the weighted squared error of the reconstruction, plus the error of the object state from the tokens.

    Args:
        autoencoder: In training mode.
        images: Pictures `(B, H, W, 3)` uint8.
        generator: Source of the noise.
        weight: Weight of pixels that differ from the background; others have weight 1. With equal weights small cubes
            are not reconstructed.
        noise: Standard deviation of the noise on the tokens, which makes distances between tokens meaningful.
        placing: Weight of the object state's error.
        estimator: State estimator in training mode; None for the reconstruction error only.
        truth: True object states `(B, R)`.
        known: Mask of the entries of `truth` that exist, `(B, R)` bool.

    Returns:
        The loss, a scalar.
    """
    tokens = noisy(autoencoder.encode(images), generator, noise)
    drawn = reconstruction_loss(autoencoder, tokens, images, weight)
    if estimator is None or truth is None or known is None:
        return drawn
    return drawn + placing * object_state_loss(estimator(tokens), truth, known)


def noisy(tokens: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    """Adds Gaussian noise with standard deviation `noise` to tokens `(B, T, C)`."""
    return tokens + noise * distributed.draw(tokens.shape, generator, tokens.device)


def reconstruction_loss(autoencoder: AutoEncoder, tokens: Tensor, images: Tensor, weight: float) -> Tensor:
    """Returns the weighted error of pictures decoded from tokens `(B, T, C)`; arguments as in `autoencoder_loss`."""
    target = images.float() / 255
    changed = (target - autoencoder.background).abs().amax(-1, keepdim=True) > CHANGED
    weights = 1 + (weight - 1) * changed
    error = weights * (autoencoder.decode(tokens).float() - target) ** 2
    return error.sum() / (3 * distributed.average(weights.sum()))


def arm_renderer_loss(renderer: ArmRenderer, tokens: Tensor, arm: Tensor) -> Tensor:
    """Returns the mean squared error of the tokens rendered from the arm's state `(B, 2, n)` for pairs of frames.

    The remaining error is due to the cubes, which the renderer does not know.

    Args:
        renderer: The arm renderer.
        tokens: Tokens of two consecutive frames, `(B, 2, T, C)`.
        arm: Set-point and position of the hand in both frames, `(B, 2, n)`.
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
    """Returns the error of k steps of every ensemble member, each step from the member's own previous prediction.

    Each step continues from the mixture component that most probably happened according to the truth. A member is
    therefore not penalized at later steps for a random outcome that it could not predict.

    Args:
        dynamics: Object dynamics in training mode.
        object_state: Object states estimated from the first frames, `(B, R)`.
        proprio: Set-points `(B, k + 1, 4)`.
        truth: True object states `(B, k + 1, R)`.
        known: Mask of the entries of `truth` that exist, `(B, k + 1, R)` bool.
        share: Weight of each window for every member, `(B, E)`; None for equal weights.

    Returns:
        The loss, a scalar: the mean over the ensemble members.
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
    """Returns the error of k predicted steps, each from the previous prediction.

    This is the rollout loss of V-JEPA 2-AC, section 3, with an additional term: the error of the object state that is
    estimated from predicted tokens is added to the mean squared error of the tokens. A cube is only a small part of the
    tokens, so with the token error alone the predictor would learn the motion of the arm first and its effect on cubes
    last.

    Each head weights the windows differently, so that the heads disagree where the data are sparse. The rollout
    continues from the mean of the heads, as `step` does.

    The predictor is given the outcome of contacts: the component of the object dynamics that most probably happened. It
    only has to learn to render that outcome, not to predict which one occurs.

    Args:
        model: World model with its predictor in training mode.
        tokens: Windows of encoded frames `(B, k + 1, T, C)`.
        proprio: Set-points `(B, k + 1, 4)`.
        action: Actions `(B, k, 4)`.
        generator: Source of the noise.
        noise: Standard deviation of the noise on the first frame.
        weight: Weight of the object state's error.
        truth: True object states `(B, k + 1, R)`, which are more accurate than estimates, for example for a cube behind
            the hand; None for the error of tokens only, with an object state of zeros.
        known: Mask of the entries of `truth` that exist, `(B, k + 1, R)` bool.
        share: Weight of each window for every head, `(B, ensemble)`; None for equal weights.

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
    """Returns the error of object states `(..., R)`: squared up to one centimeter, then linear; masked by `known`."""
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
    """Returns the binary cross-entropy of the task's condition `(B,)`, 0 or 1; shapes as in `SuccessHead.forward`."""
    logits = head(tokens, proprio, instruction, object_state)
    return F.binary_cross_entropy_with_logits(logits.float(), condition)


def metric_loss(vectors: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
    """Returns the error of the learned distance in control steps: squared up to one step, then absolute.

    Args:
        vectors: Metric vectors of the states, `(B, M)`.
        goals: Metric vectors of the goals, `(B, M)`.
        steps: True steps to go, `(B,)`.
    """
    # The square root has no gradient at 0; with the offset, the distance of a state to itself is 0.01 steps.
    distance = ((vectors.float() - goals.float()).square().sum(1) + 1e-4).sqrt()
    return F.smooth_l1_loss(distance, steps)
