"""The cross-entropy method, and iCEM, its variant for planning at every step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from dream_env.agents.planners.problem import Plan, Problem, best_of, cheapest, check_counts


@dataclass(frozen=True)
class CEM:
    """Fits a Gaussian to the candidates of lowest cost, iteratively (Rubinstein 1999; PETS, Chua et al. 2018).

    In the last iteration, the mean is one of the candidates (Pinneri et al. 2020).

    Attributes:
        samples: New candidates per iteration.
        iterations: Number of iterations; the budget is `samples * iterations`.
        elites: Number of candidates that the Gaussian is fitted to.
        std: Initial standard deviation, as a share of half the action box.
        momentum: Share of the old mean and standard deviation that an iteration keeps.
        beta: Exponent of the noise spectrum along the horizon, see `Noise.colored`.
        kept: Number of elites that are candidates of the next iteration, too.
    """

    samples: int = 96
    iterations: int = 4
    elites: int = 12
    std: float = 0.5
    momentum: float = 0.1
    beta: float = 0.0
    kept: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(samples=self.samples, iterations=self.iterations, elites=self.elites)
        if self.elites > self.samples or not 0 <= self.kept <= self.elites:
            raise ValueError(f"{self}; accepted: kept <= elites <= samples")

    def solve(self, problem: Problem) -> Plan:
        """See `Solver`."""
        mean, seen = problem.mean, []
        std = (self.std * problem.box.half).expand_as(mean)
        pool = mean[:, None][:, :0], mean.new_zeros(len(mean), 0)  # the elites so far, and their costs
        for i in range(self.iterations):
            new = (problem.first if i == 0 else partial(problem.sample, mean))(std, self.samples, self.beta)
            if 0 < i == self.iterations - 1:
                new[:, 0] = problem.box.clip(mean)
            costs = problem.cost(new)
            new, costs = torch.cat([pool[0][:, : self.kept], new], 1), torch.cat([pool[1][:, : self.kept], costs], 1)
            pool = cheapest(new, costs, self.elites)
            seen.append((pool[0][:, :1], pool[1][:, :1]))
            mean = self.momentum * mean + (1 - self.momentum) * pool[0].mean(1)
            std = self.momentum * std + (1 - self.momentum) * pool[0].std(1, correction=0)
        return best_of(seen)._replace(elites=pool[0][:, : max(self.kept, 1)])


@dataclass(frozen=True)
class ICEM(CEM):
    """CEM with colored noise and kept elites (Pinneri et al. 2020)."""

    beta: float = 2.0
    kept: int = 5
