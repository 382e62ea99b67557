"""Gradient descent through a differentiable world model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dream_env.agents.planners.problem import Plan, Problem, best_of, cheapest, check_counts


@dataclass(frozen=True)
class GradientDescent:
    """Minimizes the cost with Adam from several starting points, and returns the candidate of lowest cost on the way.

    Attributes:
        samples: Number of starting points: the mean, the proposals, and random samples.
        iterations: Steps of Adam.
        rate: Learning rate, as a share of half the action box.
        std: Standard deviation of the starting points, as a share of half the action box.
        beta: Exponent of the spectrum of their noise along the horizon, see `Noise.colored`.
    """

    samples: int = 8
    iterations: int = 16
    rate: float = 0.1
    std: float = 0.5
    beta: float = 2.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(samples=self.samples, iterations=self.iterations)

    def solve(self, problem: Problem) -> Plan:
        """See `Solver`.

        Raises:
            ValueError: If the actions are discrete, or the cost does not depend on them.
        """
        box = problem.box
        if box.start is not None:
            raise ValueError("solver='gradient' with discrete actions; accepted: 'cem', 'icem', 'mppi', 'random'")
        with torch.inference_mode(False), torch.enable_grad():
            std = (self.std * box.half).expand_as(problem.mean)
            # In units of the box, so that one learning rate fits all actions.
            first = (problem.first(std, self.samples, self.beta) - box.center) / box.half
            point = first.clone().requires_grad_()
            optimizer = torch.optim.Adam([point], lr=self.rate)
            seen = []
            for _ in range(self.iterations):
                candidates = box.center + point * box.half
                costs = problem.cost(candidates)
                if not costs.requires_grad:
                    raise ValueError(
                        "solver='gradient': the cost has no gradient; accepted: a differentiable world model"
                    )
                seen.append(cheapest(candidates.detach().clone(), costs.detach(), 1))
                optimizer.zero_grad()
                costs.sum().backward()
                optimizer.step()
                point.data.clamp_(-1, 1)
        return best_of(seen)
