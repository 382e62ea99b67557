"""Matches slots to labelled objects, by fitting one linear map from slots to positions for all of them.

The order of labels is arbitrary and may differ between episodes. The algorithm alternates: slots are matched to the
objects whose positions the linear map predicts best, then the map is fitted to these pairs. It starts from several
random matchings, because a single start can end in a poor local optimum.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

LOOKS = 12
"""Number of frames per episode that are compared."""
TRIES = 40
"""Number of random initial matchings."""
ROUNDS = 15
"""Largest number of iterations from each initial matching."""
KEPT = 0.8
"""Share of the pairs, the best ones, to which the map is fitted."""
NOWHERE = 1e3
"""Cost in meters of a slot that is never visible, or an object that is absent."""


def match(slots: np.ndarray, seen: np.ndarray, places: np.ndarray, seed: int = 0) -> np.ndarray:
    """Matches slots to objects.

    Args:
        slots: Slots of N episodes, L frames of each, `(N, L, K, n)`.
        seen: Whether they are visible, `(N, L, K)` bool.
        places: Positions of M objects in meters, `(N, L, M, D)`; an object that is always at zero is absent.
        seed: Seed of the initial matchings.

    Returns:
        Index of the object of each slot in each episode, `(N, K)`; -1 for none.
    """
    rng = np.random.default_rng(seed)
    given = np.concatenate([np.ones((*slots.shape[:-1], 1)), slots], -1)
    there: np.ndarray = np.any(places != 0, axis=(1, 3))
    possible = seen.max(1)[:, :, None] & there[:, None]  # (N, K, M)
    best, least = np.full(possible.shape[:2], -1), np.inf
    for _ in range(TRIES * bool(possible.any())):
        pairs, cost = _assigned(rng.random(possible.shape), possible)
        for _ in range(ROUNDS):
            before, weight = pairs, _fitted(given, seen, places, pairs, cost)
            pairs, cost = _assigned(_costs(given @ weight, seen, places), possible)
            if (pairs == before).all():
                break
        total = np.sort(cost[pairs >= 0])[: max(1, int(KEPT * (pairs >= 0).sum()))].sum()
        if total < least:
            best, least = pairs, total
    return best


def _assigned(costs: np.ndarray, possible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the optimal assignment for costs `(N, K, M)`, and the cost of each pair, `(N, K)`."""
    pairs, pair_costs = np.full(costs.shape[:2], -1), np.full(costs.shape[:2], np.inf)
    for i, (cost, can) in enumerate(zip(costs, possible, strict=True)):
        slot, thing = linear_sum_assignment(np.where(can, cost, NOWHERE))
        valid = can[slot, thing]
        pairs[i, slot[valid]], pair_costs[i, slot[valid]] = thing[valid], cost[slot[valid], thing[valid]]
    return pairs, pair_costs


def _costs(predicted: np.ndarray, seen: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the distance of predicted positions `(N, L, K, D)` to each object, a mean over frames, `(N, K, M)`."""
    off = np.linalg.norm(predicted[:, :, :, None] - places[:, :, None], axis=-1)
    return (off * seen[..., None]).sum(1) / np.maximum(seen.sum(1), 1)[..., None]


def _fitted(given: np.ndarray, seen: np.ndarray, places: np.ndarray, pairs: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Fits the linear map `(n + 1, D)` to the best pairs, by ridge regression."""
    kept = (pairs >= 0) & (cost <= np.quantile(cost[pairs >= 0], KEPT))
    row, slot = np.nonzero(kept)
    there = seen[row, :, slot]
    inputs, target = given[row, :, slot][there], places[row, :, pairs[row, slot]][there]
    gram = inputs.T @ inputs + 1e-3 * len(inputs) * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ target)
