"""CMA-ES by the library `cma`, in a form that goes on from what candidates were worth, and needs no pickle."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


class Strategy:
    """The covariance matrix adaptation evolution strategy (Hansen 2016, "The CMA evolution strategy: a tutorial").

    Everything that it is follows from its arguments and from the returns that candidates had: given those of earlier
    generations it is exactly where it was.

    Args:
        mean: Where it begins, `(n,)`.
        sigma: Standard deviation at the beginning.
        population: Candidates of a generation.
        seed: Seed of all that is drawn.
        diagonal: Adapts variances only, linear in n (Ros & Hansen 2008).
        returns: Of earlier generations, `(G, population)`.

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
            "seed": np.nan,  # cma's own generator is numpy's global one
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
        """What candidates were worth until now, `(G, population)`."""
        return np.array(self._returns).reshape(-1, self._strategy.popsize)

    @property
    def generation(self) -> int:
        """Generations until now."""
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
        """Draws the candidates of a generation, `(population, n)`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._asked = self._strategy.ask()
        return np.array(self._asked)

    def tell(self, returns: np.ndarray) -> None:
        """Learns what the candidates were worth, `(population,)`; more is better.

        Raises:
            ValueError: If one is not a finite number.
        """
        values = np.asarray(returns, np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"returns hold {values[~np.isfinite(values)][0]}; accepted: finite numbers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._strategy.tell(self._asked, (-values).tolist())
        self._returns.append(values)
