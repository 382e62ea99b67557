"""Behaviors for both arms: imperfect attempts and play."""

from __future__ import annotations

from typing import Any

import numpy as np

from dream_env.agents.data.behaviors import Behavior, Observation
from dream_env.nicol.constants import SETPOINT_STEP, denormalize
from dream_env.nicol.tasks.task import TABLE_Z

LIFT = 0.14
"""Mean height by which attempts lift the hands (m)."""


def attempt(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Attempts to lift the target with errors: hands miss its axis, close too early, and act at different times.

    In one of four episodes only one hand lifts, and the hands rise to different heights, so the object tilts, rotates
    in the fingers, or stays on the table. A world model that was fitted without such episodes would predict that one
    hand can do the work of two.
    """
    speed, low = rng.uniform(0.5, 1.0), TABLE_Z + rng.uniform(0.025, 0.05)
    along, beside = rng.uniform(0.3, 0.95, 2), rng.normal(0, rng.uniform(0.005, 0.025), (2, 2))
    grip, early = rng.uniform(0.6, 1.0, 2), rng.uniform(0.01, 0.06, 2)
    acts = np.array([True, True]) if rng.random() < 0.75 else np.arange(2) == rng.integers(2)
    rise = LIFT + rng.normal(0, 0.03, 2)
    closing, goals = np.zeros(2, bool), np.zeros((2, 3))
    while True:
        now, hands = env.sim_state(), denormalize(obs["proprio"]).reshape(2, 4)
        places = now.cube + along[:, None] * (now.ends[now.target] - now.cube)
        targets = np.column_stack([places[:, :2] + beside, np.full(2, low), np.zeros(2)])
        near = np.linalg.norm(targets[:, :3] - hands[:, :3], axis=1) < early
        goals[near & ~closing] = targets[near & ~closing, :3]
        closing |= near & acts
        lifts = bool((hands[:, 3] >= grip - 0.01)[acts].all())
        for i in np.flatnonzero(closing):
            targets[i] = np.append(goals[i] + [0, 0, rise[i] * lifts], grip[i])
        targets[~acts, 2] += 0.1  # the hand that does not lift waits above
        step = np.clip((targets - hands) / SETPOINT_STEP, -speed, speed).ravel()
        obs = yield step + rng.normal(0, 0.05, 8)


def play(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Plays without a task: each hand independently approaches a point of an object, and grasps, drags or lifts it."""
    stops: list[list[tuple[np.ndarray, float]]] = [[], []]
    left, speeds = np.zeros(2, int), np.ones(2)
    while True:
        now, hands = env.sim_state(), denormalize(obs["proprio"]).reshape(2, 4)
        targets = hands.copy()
        for i in range(2):
            if not stops[i]:
                stops[i] = _stops(rng, now, i)
                left[i], speeds[i] = rng.integers(4, 9), rng.uniform(0.4, 1.0)
            position, closed = stops[i][0]
            targets[i] = np.append(position, closed)
            left[i] -= 1
            if left[i] <= 0 or np.abs((targets[i] - hands[i]) / SETPOINT_STEP).max() < 0.3:
                stops[i].pop(0)
                left[i] = rng.integers(4, 9)
        obs = yield np.clip((targets - hands) / SETPOINT_STEP, -speeds[:, None], speeds[:, None]).ravel()


def _stops(rng: np.random.Generator, now: Any, hand: int) -> list[tuple[np.ndarray, float]]:
    """Returns positions and closings for a hand to pass through: above an object, down, closed, moved away."""
    index = rng.integers(len(now.objects))
    center, end = now.objects[index], now.ends[index, hand]
    place = center + rng.uniform(0.3, 0.95) * (end - center) + [*rng.normal(0, 0.02, 2), 0]
    grip = float(rng.random() < 0.7)
    moved = place + [*rng.normal(0, 0.08, 2), rng.choice([0, 0.05, 0.12])]
    stops = [
        (place + [0, 0, rng.uniform(0.06, 0.14)], 0.0),
        (place + [0, 0, rng.uniform(0.005, 0.03)], 0.0),
        (place, grip),
        (moved, grip),
    ]
    return stops[: rng.integers(2, len(stops) + 1)]
