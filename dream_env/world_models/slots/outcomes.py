"""What may come of a step: each member of the ensemble tells some outcomes of every slot, one of which will be.

A thing stays in a hand or slips out of it by what no picture shows. One guess would be neither, or always what comes
more often; a mixture tells both, and how likely each is (mixture density networks: Bishop 1994; in a world model: Ha &
Schmidhuber 2018).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Outcomes(NamedTuple):
    """Outcomes J of each of E members for K slots.

    Attributes:
        change: How the moving numbers of slots change, in pixels, `(E, B, K, J, n)`.
        logit: Of how likely each outcome is, `(E, B, K, J)`.
        spread: How far off each outcome is, when it is the one, in pixels, `(E, B, K, J)`.
        memory: What slots remember after each, `(E, B, K, J, M)`.
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
        """Returns the logarithm of each outcome's weight times the likelihood that it gives to what happened.

        Args:
            off: How far each is from it, a sum of absolute differences in pixels, `(E, B, K, J)`.
            numbers: How many numbers that sum is of, `(E, B, K, 1)`, as Laplace's density has each.
        """
        return self.logit.log_softmax(-1) - off / self.spread - numbers * self.spread.log()

    def pick(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Returns changes `(E, B, K, n)` and memories `(E, B, K, M)` of outcomes by number, `(E, B, K)`."""
        if self.number == 1:
            return self.change[..., 0, :], self.memory[..., 0, :]
        change, memory = (
            part.gather(-2, which[..., None, None].expand(*which.shape, 1, part.shape[-1])).squeeze(-2)
            for part in (self.change, self.memory)
        )
        return change, memory

    def likeliest(self) -> Tensor:
        """Returns the number of each member's likeliest outcome, `(E, B, K)`."""
        return self.logit.argmax(-1)

    def drawn(self, chance: Tensor, temperature: float) -> Tensor:
        """Returns the number of an outcome of each member, drawn by chances `(B,)` in [0, 1), `(E, B, K)`.

        The lower the temperature, the more often it is the likeliest.
        """
        below = (self.logit / max(temperature, 1e-6)).softmax(-1).cumsum(-1)[..., :-1]
        return (below <= chance[:, None, None]).sum(-1)

    def nearest(self, change: Tensor) -> Tensor:
        """Returns the number of each member's outcome that most probably is the one that happened, `(E, B, K)`.

        Args:
            change: What happened, `(B, K, n)`.
        """
        if self.number == 1:
            return self.likeliest()
        off = (self.change - change.unsqueeze(-2)).abs().sum(-1)
        return self.log_joint(off, change.shape[-1]).argmax(-1)

    def mean(self) -> Tensor:
        """Returns the mean of every member's outcomes, `(E, B, K, n)`."""
        if self.number == 1:
            return self.change[..., 0, :]
        return (self.logit.softmax(-1).unsqueeze(-1) * self.change).sum(-2)
