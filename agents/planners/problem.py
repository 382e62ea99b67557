"""What a solver is given and what it returns: the conventions that every solver of this package shares.

Candidates are `(B, S, H, A)` (environments, samples, horizon, numbers of an action), costs `(B, S)`; lower is better.
Environments are independent of each other: every one has a random generator of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

Cost = Callable[[Tensor], Tensor]
"""Maps candidates `(B, S, H, A)` to costs `(B, S)`."""


class Plan(NamedTuple):
    """What a solver found.

    Attributes:
        actions: The cheapest candidate that was seen, `(B, H, A)`.
        cost: Its cost, `(B,)`.
        elites: The cheapest candidates `(B, K, H, A)`, cheapest first, worth a look at the next step.
    """

    actions: Tensor
    cost: Tensor
    elites: Tensor


class Solver(Protocol):
    """Finds actions of low cost."""

    def solve(self, problem: Problem) -> Plan:
        """Returns the best plan within the solver's budget."""
        ...


class ActionBox:
    """The box that candidates live in, and what of it an environment takes.

    The box of a `Discrete` space of n choices is `[-1, 1]^n`; the largest number is the choice.

    Args:
        space: A `Box` with finite limits and one axis, or a `Discrete`.
        device: Device of the candidates.

    Raises:
        ValueError: If it is another space.
    """

    def __init__(self, space: spaces.Space, device: torch.device | str = "cpu") -> None:
        self.start: int | None = None
        if isinstance(space, spaces.Discrete):
            self.start = int(space.start)
            low, high = -torch.ones(int(space.n)), torch.ones(int(space.n))
        elif isinstance(space, spaces.Box) and len(space.shape) == 1 and space.is_bounded():
            low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (space.low, space.high))
        else:
            raise ValueError(f"action space {space}; a planner accepts: a Box (n,) with finite limits, or a Discrete")
        self.low, self.high = low.to(device), high.to(device)

    @property
    def center(self) -> Tensor:
        """Middle of the box `(A,)`."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> Tensor:
        """Half the widths of the box `(A,)`."""
        return (self.high - self.low) / 2

    @property
    def spread(self) -> Tensor:
        """What noise on a policy's actions is a share of, `(A,)`: half the widths; more of a choice.

        A policy's choice stands two halves above all others, so that little noise would never change it: at a share of
        0.3 it changes one in eight choices of two.
        """
        return self.half if self.start is None else 4 * self.half

    def clip(self, candidates: Tensor) -> Tensor:
        """Brings candidates `(..., A)` into the box."""
        return torch.maximum(torch.minimum(candidates, self.high), self.low)

    def actions(self, candidates: Tensor) -> Tensor:
        """Returns what the environment takes: `(..., A)` float32, or `(...)` int64 where actions are discrete."""
        return self.clip(candidates) if self.start is None else candidates.argmax(-1) + self.start

    def candidates(self, actions: Tensor) -> Tensor:
        """Returns the candidates `(..., A)` that stand for actions of the environment."""
        if self.start is None:
            return actions
        return 2.0 * torch.nn.functional.one_hot(actions.long() - self.start, len(self.low)).float() - 1


class Noise:
    """Random numbers for a batch of environments, drawn on the CPU so that every device gets the same.

    Args:
        seeds: One for each environment.
        device: Where the numbers go.
    """

    def __init__(self, seeds: list[int], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """Returns standard normal numbers `(B, *shape)`."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Returns numbers `(B, *shape)` in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)

    def colored(self, count: int, horizon: int, size: int, beta: float) -> Tensor:
        """Returns noise `(B, count, horizon, size)` of unit variance whose power falls with frequency as `1 / f^beta`.

        At 0 it is white; at 2 neighboring actions are much alike (iCEM, Pinneri et al. 2020, section 3.1; the recipe is
        that of Timmer and König 1995).
        """
        white = self.normal(count, size, horizon)
        if beta == 0 or horizon == 1 or count == 0:
            return white.transpose(-1, -2)
        frequency = torch.fft.rfftfreq(horizon, device=white.device)
        frequency[0] = 1 / horizon  # the constant part is as strong as the slowest wave
        scale = frequency ** (-beta / 2)
        mirrored = torch.full_like(scale, 2.0)
        mirrored[0] = 1
        if horizon % 2 == 0:
            mirrored[-1] = 1
        scale = scale / ((scale.square() * mirrored).sum() / horizon).sqrt()
        return torch.fft.irfft(torch.fft.rfft(white) * scale, n=horizon).transpose(-1, -2)


@dataclass
class Problem:
    """What to minimize, and where to begin.

    Attributes:
        cost: Of candidates.
        box: Where candidates live.
        mean: Where the search begins, `(B, H, A)`.
        noise: Random numbers, one generator for each of B.
        proposals: Candidates to try first, `(B, K, H, A)`; K may be 0.
    """

    cost: Cost
    box: ActionBox
    mean: Tensor
    noise: Noise
    proposals: Tensor | None = None

    def sample(self, mean: Tensor, std: Tensor, count: int, beta: float = 0.0) -> Tensor:
        """Draws candidates `(B, count, H, A)` around a mean `(B, H, A)`, within the box."""
        drawn = self.noise.colored(count, mean.shape[1], mean.shape[2], beta)
        return self.box.clip(mean[:, None] + std[:, None] * drawn)

    def first(self, std: Tensor, count: int, beta: float = 0.0) -> Tensor:
        """Draws the first candidates: the mean itself, the proposals, and samples up to `count`.

        Raises:
            ValueError: If there are more proposals than that.
        """
        given = [self.mean[:, None], *([] if self.proposals is None else [self.proposals])]
        known = self.box.clip(torch.cat(given, 1))
        if known.shape[1] > count:
            raise ValueError(f"samples={count}; accepted: at least {known.shape[1]}, the mean and all proposals")
        return torch.cat([known, self.sample(self.mean, std, count - known.shape[1], beta)], 1)


def cheapest(candidates: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the cheapest candidates `(B, count, H, A)` and their costs `(B, count)`, cheapest first."""
    least, index = costs.topk(count, dim=1, largest=False)
    return candidates[torch.arange(len(index), device=index.device)[:, None], index], least


def best_of(seen: list[tuple[Tensor, Tensor]]) -> Plan:
    """Makes a plan of the cheapest among candidates `(B, K, H, A)` with costs `(B, K)`."""
    candidates, costs = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
    best, cost = cheapest(candidates, costs, 1)
    return Plan(best[:, 0], cost[:, 0], best)


def check_counts(**counts: Any) -> None:
    """Raises ValueError unless every count is a whole number from 1 on."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count!r}; accepted: a whole number from 1 on")
