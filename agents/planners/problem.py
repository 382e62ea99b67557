"""Inputs and outputs of solvers, which are the same for every solver of this package.

Candidates have the shape `(B, S, H, A)` (environments, samples, horizon, action dimensions), costs `(B, S)`; lower is
better. Environments are independent of each other, and each has its own random generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from dream_env.spec import WorldSpec

Cost = Callable[[Tensor], Tensor]
"""Maps candidates `(B, S, H, A)` to costs `(B, S)`."""


class Plan(NamedTuple):
    """Result of a solver.

    Attributes:
        actions: The candidate of lowest cost, `(B, H, A)`.
        cost: Its cost, `(B,)`.
        elites: The candidates of lowest cost `(B, K, H, A)`, sorted by cost; proposals for the next search.
    """

    actions: Tensor
    cost: Tensor
    elites: Tensor


class Solver(Protocol):
    """Searches for actions of low cost."""

    def solve(self, problem: Problem) -> Plan:
        """Returns the best plan within the solver's budget."""
        ...


def check_horizon(horizon: int, spec: WorldSpec) -> None:
    """Raises ValueError if a plan is longer than an episode."""
    if spec.horizon is not None and horizon > spec.horizon:
        raise ValueError(f"horizon={horizon}; accepted: up to {spec.horizon}, the length of an episode of {spec.name}")


class ActionBox:
    """The box of candidates, and the conversion between candidates and actions of the environment.

    The box of a `Discrete` space of n choices is `[-1, 1]^n`; the choice is the index of the largest number.

    Args:
        space: A `Box` with finite limits and one axis, or a `Discrete`.
        device: Device of the candidates.

    Raises:
        ValueError: If the space is of another kind.
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
        """Center of the box `(A,)`."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> Tensor:
        """Half the width of the box `(A,)`."""
        return (self.high - self.low) / 2

    @property
    def spread(self) -> Tensor:
        """Scale of the noise on a policy's actions `(A,)`: half the width of the box, four times that if discrete.

        The number of a policy's discrete choice is larger than all others by twice half the width, so weak noise would
        never change the choice. With this scale, a share of 0.3 changes one in eight choices between two actions.
        """
        return self.half if self.start is None else 4 * self.half

    def clip(self, candidates: Tensor) -> Tensor:
        """Clips candidates `(..., A)` to the box."""
        return torch.maximum(torch.minimum(candidates, self.high), self.low)

    def actions(self, candidates: Tensor) -> Tensor:
        """Converts candidates to actions of the environment: `(..., A)` float32, or `(...)` int64 if discrete."""
        return self.clip(candidates) if self.start is None else candidates.argmax(-1) + self.start

    def candidates(self, actions: Tensor) -> Tensor:
        """Converts actions of the environment to candidates `(..., A)`."""
        if self.start is None:
            return actions
        return 2.0 * torch.nn.functional.one_hot(actions.long() - self.start, len(self.low)).float() - 1


class Noise:
    """Random numbers for a batch of environments, generated on the CPU so that they are the same on every device.

    Args:
        seeds: One seed per environment.
        device: Device of the returned tensors.
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

        At `beta=0` it is white noise; at 2, consecutive actions are strongly correlated (iCEM, Pinneri et al. 2020,
        section 3.1; method of Timmer and König 1995).
        """
        white = self.normal(count, size, horizon)
        if beta == 0 or horizon == 1 or count == 0:
            return white.transpose(-1, -2)
        frequency = torch.fft.rfftfreq(horizon, device=white.device)
        frequency[0] = 1 / horizon  # the constant component is as strong as the lowest frequency
        scale = frequency ** (-beta / 2)
        mirrored = torch.full_like(scale, 2.0)
        mirrored[0] = 1
        if horizon % 2 == 0:
            mirrored[-1] = 1
        scale = scale / ((scale.square() * mirrored).sum() / horizon).sqrt()
        return torch.fft.irfft(torch.fft.rfft(white) * scale, n=horizon).transpose(-1, -2)


@dataclass
class Problem:
    """An optimization problem: the cost to minimize, and where the search starts.

    Attributes:
        cost: Cost function of candidates.
        box: Box of the candidates.
        mean: Initial mean of the search, `(B, H, A)`.
        noise: Random numbers, with one generator for each of the B environments.
        proposals: Candidates to try first, `(B, K, H, A)`; K may be 0.
    """

    cost: Cost
    box: ActionBox
    mean: Tensor
    noise: Noise
    proposals: Tensor | None = None

    def sample(self, mean: Tensor, std: Tensor, count: int, beta: float = 0.0) -> Tensor:
        """Samples candidates `(B, count, H, A)` around a mean `(B, H, A)`, clipped to the box."""
        drawn = self.noise.colored(count, mean.shape[1], mean.shape[2], beta)
        return self.box.clip(mean[:, None] + std[:, None] * drawn)

    def first(self, std: Tensor, count: int, beta: float = 0.0) -> Tensor:
        """Returns the first candidates: the mean, the proposals, and random samples up to `count`.

        Raises:
            ValueError: If the mean and the proposals are more than `count`.
        """
        given = [self.mean[:, None], *([] if self.proposals is None else [self.proposals])]
        known = self.box.clip(torch.cat(given, 1))
        if known.shape[1] > count:
            raise ValueError(f"samples={count}; accepted: at least {known.shape[1]}, the mean and all proposals")
        return torch.cat([known, self.sample(self.mean, std, count - known.shape[1], beta)], 1)


def cheapest(candidates: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the candidates of lowest cost `(B, count, H, A)` and their costs `(B, count)`, sorted by cost."""
    least, index = costs.topk(count, dim=1, largest=False)
    return candidates[torch.arange(len(index), device=index.device)[:, None], index], least


def best_of(seen: list[tuple[Tensor, Tensor]]) -> Plan:
    """Returns the plan of lowest cost among all given candidates `(B, K, H, A)` with their costs `(B, K)`."""
    candidates, costs = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
    best, cost = cheapest(candidates, costs, 1)
    return Plan(best[:, 0], cost[:, 0], best)


def check_counts(**counts: Any) -> None:
    """Raises ValueError unless every count is an integer of 1 or more."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count!r}; accepted: a whole number from 1 on")
