"""Which labelled thing each slot is: found by how well one map from slots to positions can serve all of them.

Labels come in any order, another one in every episode. A slot is paired with the thing whose position a linear map of
its numbers tells best, the map is fitted to these pairs, and so on; begun from several random pairings, as the first
one may lead astray.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

LOOKS = 12
"""Frames of an episode that are compared."""
TRIES = 40
"""Random pairings that are begun from."""
ROUNDS = 15
"""Most times that each is improved."""
KEPT = 0.8
"""Share of the pairs, those that fit best, that the map is fitted to."""
NOWHERE = 1e3
"""Cost (m) of a slot that is not seen, or a thing that is not there."""


def match(slots: np.ndarray, seen: np.ndarray, places: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pairs slots with things.

    Args:
        slots: Slots of N episodes, L frames of each, `(N, L, K, n)`.
        seen: Whether they are seen, `(N, L, K)` bool.
        places: Positions of M things in meters, `(N, L, M, D)`; a thing that is at zero all the time is not there.
        seed: Of the pairings that are begun from.

    Returns:
        The thing that each slot of each episode is, `(N, K)`; -1 for none.
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
    """Returns the cheapest pairs by costs `(N, K, M)`, and what each of them costs, `(N, K)`."""
    pairs, paid = np.full(costs.shape[:2], -1), np.full(costs.shape[:2], np.inf)
    for i, (cost, can) in enumerate(zip(costs, possible, strict=True)):
        slot, thing = linear_sum_assignment(np.where(can, cost, NOWHERE))
        some = can[slot, thing]
        pairs[i, slot[some]], paid[i, slot[some]] = thing[some], cost[slot[some], thing[some]]
    return pairs, paid


def _costs(told: np.ndarray, seen: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns how far what is told, `(N, L, K, D)`, is from each thing, a mean over frames, `(N, K, M)`."""
    off = np.linalg.norm(told[:, :, :, None] - places[:, :, None], axis=-1)
    return (off * seen[..., None]).sum(1) / np.maximum(seen.sum(1), 1)[..., None]


def _fitted(given: np.ndarray, seen: np.ndarray, places: np.ndarray, pairs: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Returns the linear map `(n + 1, D)` of the pairs that fit best, by ridge regression."""
    kept = (pairs >= 0) & (cost <= np.quantile(cost[pairs >= 0], KEPT))
    row, slot = np.nonzero(kept)
    there = seen[row, :, slot]
    inputs, target = given[row, :, slot][there], places[row, :, pairs[row, slot]][there]
    gram = inputs.T @ inputs + 1e-3 * len(inputs) * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ target)
