"""Alternative outcomes of a step: each ensemble member predicts a mixture of outcomes for every slot.

Whether an object stays in the hand or slips may depend on something that no image shows. A single prediction would be
the average of both, or always the more frequent one. A mixture predicts both, with their probabilities (mixture density
networks: Bishop 1994; in a world model: Ha & Schmidhuber 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Outcomes(NamedTuple):
    """J outcomes of each of E members for K slots.

    Attributes:
        change: Changes of the moving slot features, in pixels, `(E, B, K, J, n)`.
        logit: Logits of the outcome probabilities, `(E, B, K, J)`.
        spread: Scale of the Laplace distribution around each outcome, in pixels, `(E, B, K, J)`.
        memory: Memory of the slots after each outcome, `(E, B, K, J, M)`.
    """

    change: Tensor
    logit: Tensor
    spread: Tensor
    memory: Tensor

    @property
    def number(self) -> int:
        """Number J of outcomes."""
        return self.logit.shape[-1]

    def log_joint(self, off: Tensor, numbers: Tensor | float) -> Tensor:
        """Returns the log of each outcome's probability times its likelihood of the true change, up to a constant.

        The likelihood is a Laplace density with scale `spread`.

        Args:
            off: Distance of each outcome to the true change: a sum of absolute errors in pixels, `(E, B, K, J)`.
            numbers: Number of terms in that sum, `(E, B, K, 1)` or a number; each adds one normalization term.
        """
        return self.logit.log_softmax(-1) - off / self.spread - numbers * self.spread.log()

    def pick(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the changes `(E, B, K, n)` and memories `(E, B, K, M)` of outcomes at indices `(E, B, K)`."""
        if self.number == 1:
            return self.change[..., 0, :], self.memory[..., 0, :]
        change, memory = (
            part.gather(-2, which[..., None, None].expand(*which.shape, 1, part.shape[-1])).squeeze(-2)
            for part in (self.change, self.memory)
        )
        return change, memory

    def likeliest(self) -> Tensor:
        """Returns the index of each member's most likely outcome, `(E, B, K)`."""
        return self.logit.argmax(-1)

    def drawn(self, chance: Tensor, temperature: Tensor) -> Tensor:
        """Samples the index of an outcome of each member, `(E, B, K)`.

        Args:
            chance: Uniform random numbers `(B,)` in [0, 1).
            temperature: Divides the logits, `()`; towards 0 the most likely outcome is always selected.
        """
        below = softmax(self.logit / temperature.clamp(min=1e-6)).cumsum(-1)[..., :-1]
        return (below <= chance[:, None, None]).sum(-1)

    def nearest(self, change: Tensor) -> Tensor:
        """Returns the index of each member's outcome that best explains a change, `(E, B, K)`.

        Args:
            change: The change that happened, `(B, K, n)`.
        """
        if self.number == 1:
            return self.likeliest()
        off = (self.change - change.unsqueeze(-2)).abs().sum(-1)
        return self.log_joint(off, change.shape[-1]).argmax(-1)

    def mean(self) -> Tensor:
        """Returns the mean change of each member's outcomes, `(E, B, K, n)`."""
        if self.number == 1:
            return self.change[..., 0, :]
        return (softmax(self.logit).unsqueeze(-1) * self.change).sum(-2)


def softmax(logit: Tensor) -> Tensor:
    """Returns the softmax over a short last dimension, as `Tensor.softmax`, which on a CPU does one row at a time."""
    return logit.movedim(-1, 0).softmax(0).movedim(0, -1)


def drawn(outcomes: Outcomes, owns: Tensor, chance: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Draws a change of the slots `(B, K, n)` and the next robot state `(B, P)`: one member's, and one of its outcomes.

    Args:
        outcomes: The outcomes that the members predict.
        owns: The robot states that they predict, `(E, B, P)`.
        chance: Uniform random numbers `(B,)` in [0, 1), which select the member and its outcome.
        temperature: Scales the deviation of the member from the mean of the members, and divides the outcome logits,
            `()`; at 0 the result is the mean of the members' most likely outcomes.
    """
    members, scaled = len(owns), chance * len(owns)
    member, rows = scaled.long().clamp(max=members - 1), torch.arange(len(chance), device=chance.device)
    modes, _ = outcomes.pick(outcomes.likeliest())
    change, own = modes.mean(0), owns.mean(0)
    change = change + temperature * (modes[member, rows] - change)
    if outcomes.number > 1:
        other = outcomes.pick(outcomes.drawn(scaled - member, temperature))[0]
        change = change + (temperature > 0) * (other - modes)[member, rows]
    return change, own + temperature * (owns[member, rows] - own)
