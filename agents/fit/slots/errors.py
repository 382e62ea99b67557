"""Training losses of predicted slots, in pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.outcomes import Outcomes
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE

MOVED = 1.0
"""Displacement in pixels per step above which a slot counts as moved; errors of moved slots have twice the weight."""
HIDDEN = 0.3
"""Weight of the size error of hidden slots, which should cover no pixels."""


def outcome_error(
    model: SlotModel, slots: Tensor, outcomes: Outcomes, truth: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the negative log-likelihood of what happened under the predicted outcomes, and the best outcome.

    Training rollouts continue from the best outcome, so that they do not have to correct for random events that could
    not be predicted. The likelihood of a slot is weighted by the expected spread (Seitzer et al. 2022); otherwise
    resting slots, which are predicted precisely, would dominate. It is not weighted by the spread of the outcome that
    happened, because the outcome probabilities would then be biased.

    Args:
        model: The model.
        slots: Slots before the step, `(E, b, K, n)`.
        outcomes: Predicted outcomes of the step.
        truth: True slots before and after the step, `(E, b, 2, K, n)`.
        visible: Whether the slots are visible after the step, `(E, b, K, C)`.

    Returns:
        The loss `(E, b)`, and the indices of the outcomes that best explain what happened, `(E, b, K)`.
    """
    every = slots.unsqueeze(3).expand(*slots.shape[:3], outcomes.number, -1)
    every = model.moved(every, outcomes.change)  # (E, b, K, J, n)
    if outcomes.number == 1:  # L1 loss, which fits the median: moved slots get more weight, or rare moves are ignored
        return slot_error(model, every.squeeze(3), truth, visible), outcomes.likeliest()
    visible = visible.unsqueeze(3)
    wrong, hidden = _off(model, every, truth[:, :, 1].unsqueeze(3), visible)
    off = (wrong.sum(-1) * visible + wrong[..., SIZE] * hidden).sum(-1)
    joint = outcomes.log_joint(off, (SEEN * visible + hidden).sum(-1))
    which = joint.argmax(-1)
    spread = (outcomes.logit.softmax(-1) * outcomes.spread).sum(-1).detach()
    return (-spread * joint.logsumexp(-1)).sum(-1), which


def slot_error(model: SlotModel, slots: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Returns the error of predicted slots in pixels, `(E, b)`; moved slots have twice the weight.

    Args:
        model: The model.
        slots: Predicted slots, `(E, b, K, n)`.
        truth: True slots before and after the step, `(E, b, 2, K, n)`.
        visible: Whether the slots are visible after the step, `(E, b, K, C)`.
    """
    wrong, hidden = _off(model, slots, truth[:, :, 1], visible)
    way = (truth[:, :, 1] - truth[:, :, 0]).unflatten(-1, (model.cameras, FEATURES))[..., :2]
    jumped = 1 + (way.norm(dim=-1) * model.config.picture_size / 2 > MOVED).float()
    return (jumped * wrong.sum(-1) * visible + wrong[..., SIZE] * hidden).sum((-1, -2))


def _off(model: SlotModel, slots: Tensor, truth: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the errors of slot features per camera in pixels, `(..., C, SEEN)`, and the weight of hidden slots.

    Size and spread count as much as the position, because small differences in apparent size indicate the distance to
    the camera. For hidden slots only the size error is used, with the weight `(..., C)`: they should cover no pixels.
    """
    found, after = (
        part.unflatten(-1, (model.cameras, FEATURES)) * (model.config.picture_size / 2) for part in (slots, truth)
    )
    wrong = F.smooth_l1_loss(found, after.expand_as(found), beta=0.2, reduction="none")[..., :SEEN]
    return wrong, HIDDEN * ((after[..., SEEN] > 0) & ~visible)
