"""How far predicted slots are off, in pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.outcomes import Outcomes
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE

MOVED = 1.0
"""Pixels in a step from which on a slot counts as moved, and its error more."""
HIDDEN = 0.3
"""How much it counts that what is hidden shows no pixel."""


def outcome_error(
    model: SlotModel, slots: Tensor, outcomes: Outcomes, truth: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns how unlikely the outcomes make what happened, `(E, b)`, and which of them most probably is the one.

    A rollout goes on from that one, so it never has to make good for chance that it did not foresee, and learns from
    what is known at every step, not from what came of it. The negative log-likelihood of a slot counts by the spread
    that is expected (Seitzer et al. 2022), or else what rests, and is foreseen well, would be all that counts; not by
    what came, or chances would be learned wrong.

    Args:
        model: The model.
        slots: Slots before the step, `(E, b, K, n)`.
        outcomes: What may come of it.
        truth: What was before and after it, `(E, b, 2, K, n)`.
        visible: Whether that is seen after it, `(E, b, K, C)`.

    Returns:
        The error, and the numbers of outcomes `(E, b, K)`.
    """
    every = slots.unsqueeze(3).expand(*slots.shape[:3], outcomes.number, -1)
    every = model.moved(every, outcomes.change)  # (E, b, K, J, n)
    if outcomes.number == 1:  # a median instead: more of those that moved, as what seldom comes would be left out
        return slot_error(model, every.squeeze(3), truth, visible), outcomes.likeliest()
    visible = visible.unsqueeze(3)
    wrong, hidden = _off(model, every, truth[:, :, 1].unsqueeze(3), visible)
    off = (wrong.sum(-1) * visible + wrong[..., SIZE] * hidden).sum(-1)
    joint = outcomes.log_joint(off, (SEEN * visible + hidden).sum(-1))
    which = joint.argmax(-1)
    spread = (outcomes.logit.softmax(-1) * outcomes.spread).sum(-1).detach()
    return (-spread * joint.logsumexp(-1)).sum(-1), which


def slot_error(model: SlotModel, slots: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Returns the error of predicted slots `(E, b, K, n)` in pixels, `(E, b)`; more of those that moved.

    Args:
        model: The model.
        slots: What is predicted.
        truth: What was before and after it, `(E, b, 2, K, n)`.
        visible: Whether that is seen after it, `(E, b, K, C)`.
    """
    wrong, hidden = _off(model, slots, truth[:, :, 1], visible)
    way = (truth[:, :, 1] - truth[:, :, 0]).unflatten(-1, (model.cameras, FEATURES))[..., :2]
    jumped = 1 + (way.norm(dim=-1) * model.config.picture_size / 2 > MOVED).float()
    return (jumped * wrong.sum(-1) * visible + wrong[..., SIZE] * hidden).sum((-1, -2))


def _off(model: SlotModel, slots: Tensor, truth: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the errors of slots under each camera in pixels, `(..., C, SEEN)`, and the weight of hidden ones.

    How large something looks tells how near it is, in parts of a pixel, so that counts as much as its place. Of what
    is hidden only its size does: it should show no pixel; `(..., C)`.
    """
    found, after = (
        part.unflatten(-1, (model.cameras, FEATURES)) * (model.config.picture_size / 2) for part in (slots, truth)
    )
    wrong = F.smooth_l1_loss(found, after.expand_as(found), beta=0.2, reduction="none")[..., :SEEN]
    return wrong, HIDDEN * ((after[..., SEEN] > 0) & ~visible)
