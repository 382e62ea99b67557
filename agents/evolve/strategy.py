"""CMA-ES of the library `cma`, restored from past returns instead of a pickle."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


class Strategy:
    """The covariance matrix adaptation evolution strategy (Hansen 2016, "The CMA evolution strategy: a tutorial").

    Its state is fully determined by its arguments and the returns of earlier candidates: given these returns, it is
    restored exactly.

    Args:
        mean: Initial mean, `(n,)`.
        sigma: Initial standard deviation.
        population: Candidates per generation.
        seed: Seed of all random numbers.
        diagonal: Adapts variances only, with costs linear in n (Ros & Hansen 2008).
        returns: Returns of earlier generations, `(G, population)`.

    Raises:
        ImportError: If `cma` is not installed.
    """

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        population: int,
        seed: int = 0,
        diagonal: bool = False,
        returns: np.ndarray | None = None,
    ) -> None:
        try:
            import cma
        except ImportError as error:
            raise ImportError('agents.evolve needs cma: pip install -c constraints.txt -e ".[evolve]"') from error
        generator = np.random.RandomState(seed)
        options: dict[str, Any] = {
            "popsize": population,
            "seed": np.nan,  # keeps cma from seeding numpy's global generator
            "randn": generator.randn,
            "CMA_diagonal": diagonal,
            "verbose": -9,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._strategy = cma.CMAEvolutionStrategy(np.asarray(mean, np.float64), sigma, options)
        self._returns: list[np.ndarray] = []
        for past in [] if returns is None else returns:
            self.ask()
            self.tell(past)

    @property
    def returns(self) -> np.ndarray:
        """Returns of all candidates so far, `(G, population)`."""
        return np.array(self._returns).reshape(-1, self._strategy.popsize)

    @property
    def generation(self) -> int:
        """Number of generations so far."""
        return len(self._returns)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, `(n,)`."""
        return np.array(self._strategy.mean)

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self._strategy.sigma)

    def ask(self) -> np.ndarray:
        """Samples the candidates of a generation, `(population, n)`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._asked = self._strategy.ask()
        return np.array(self._asked)

    def tell(self, returns: np.ndarray) -> None:
        """Updates the distribution with the returns of the candidates, `(population,)`; higher is better.

        Raises:
            ValueError: If a return is not finite.
        """
        values = np.asarray(returns, np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"returns hold {values[~np.isfinite(values)][0]}; accepted: finite numbers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._strategy.tell(self._asked, (-values).tolist())
        self._returns.append(values)
