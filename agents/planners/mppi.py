"""Model predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.agents.planners.problem import Plan, Problem, best_of, cheapest, check_counts


@dataclass(frozen=True)
class MPPI:
    """Moves the mean to the average of the candidates, weighted by `exp(-cost / temperature)` (Williams et al. 2017).

    Costs are divided by their standard deviation, so one temperature fits every objective. The standard deviation of
    new candidates is the weighted one, as in TD-MPC2 (Hansen et al. 2024).

    Attributes:
        samples: Candidates per iteration.
        iterations: Number of iterations.
        temperature: Lower values give more weight to the candidates of lowest cost.
        std: Initial standard deviation, as a share of half the action box.
        least: Minimum standard deviation, as a share of half the action box.
        beta: Exponent of the noise spectrum along the horizon, see `Noise.colored`.
    """

    samples: int = 96
    iterations: int = 4
    temperature: float = 0.3
    std: float = 0.5
    least: float = 0.02
    beta: float = 2.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(samples=self.samples, iterations=self.iterations)
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}; accepted: above 0")

    def solve(self, problem: Problem) -> Plan:
        """See `Solver`."""
        mean = problem.mean
        std = (self.std * problem.box.half).expand_as(mean)
        seen = []
        for i in range(self.iterations):
            if i == 0:
                candidates = problem.first(std, self.samples, self.beta)
            else:
                candidates = problem.sample(mean, std, self.samples, self.beta)
                candidates[:, 0] = problem.box.clip(mean)
            costs = problem.cost(candidates)
            seen.append(cheapest(candidates, costs, 1))
            spread = costs.std(1, correction=0, keepdim=True).clamp_min(1e-9)
            weights = ((costs.amin(1, keepdim=True) - costs) / (self.temperature * spread)).softmax(1)[..., None, None]
            mean = (weights * candidates).sum(1)
            std = (weights * (candidates - mean[:, None]).square()).sum(1).sqrt()
            std = std.maximum(self.least * problem.box.half)
        return best_of(seen)
