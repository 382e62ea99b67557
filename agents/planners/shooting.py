"""Random shooting: the baseline of every other solver."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.agents.planners.problem import Plan, Problem, best_of, check_counts


@dataclass(frozen=True)
class RandomShooting:
    """Samples the whole budget at once and returns the candidate of lowest cost.

    Attributes:
        samples: Candidates per iteration.
        iterations: Number of iterations; as in the other solvers, the budget is `samples * iterations`.
        std: Standard deviation, as a share of half the action box.
        beta: Exponent of the noise spectrum along the horizon, see `Noise.colored`.
    """

    samples: int = 96
    iterations: int = 4
    std: float = 0.5
    beta: float = 2.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_counts(samples=self.samples, iterations=self.iterations)

    def solve(self, problem: Problem) -> Plan:
        """See `Solver`."""
        std = (self.std * problem.box.half).expand_as(problem.mean)
        candidates = problem.first(std, self.samples * self.iterations, self.beta)
        return best_of([(candidates, problem.cost(candidates))])
