"""Scripted behaviors for PandaPush: playing with the object, and demonstrations of the task.

Both read the true positions from the simulator, in the place of a person who sees them. Only pictures, the hand's state
and actions are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.agents.data.behaviors import Behavior, Observation

_LOW, _HIGH, _REACH = 0.02, 0.08, 0.15
"""Heights of the hand when pushing and when passing over, and half the side of the square of objects, in m."""
_STEP = 0.05
"""Distance that the hand moves in a step at full action, in m."""
_NOISE = 0.1
"""Standard deviation of the noise on actions; people are not exact either."""
_SLOWING = 0.0045
"""What the table's friction takes from the speed of a sliding object, in m per step and step."""
_FASTEST_PUSH = 0.02
"""Largest speed of a demonstrated push, in m per step. A faster object slides on for long."""
_NEAR = 0.03
"""Distance to the goal at which a demonstration stops pushing, in m."""
_TIME = 0.04
"""Duration of a step, in s."""


def play(env: gym.Env) -> Callable[..., Behavior]:
    """Returns a behavior that pushes the object around the table, as a person at the controls would.

    Between two pushes, the hand returns to its initial position, because goal pictures show it there and no distance
    can be learned to a state that was never recorded.
    """
    sim, robot = env.get_wrapper_attr("sim"), env.get_wrapper_attr("robot")

    def acts(space: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
        def to(target: np.ndarray, height: float, pace: float = 1.0) -> Iterator[np.ndarray]:
            for _ in range(12):
                left = np.append(target, height) - robot.get_ee_position()
                if np.linalg.norm(left) < 0.015:
                    break
                yield left * min(1 / _STEP, pace / np.abs(left).max()) + rng.normal(0, _NOISE, 3)

        home = robot.get_ee_position()
        while True:
            place, spot = np.array(sim.get_base_position("object"))[:2], rng.uniform(-_REACH, _REACH, 2)
            way = (spot - place) / max(np.linalg.norm(spot - place), 1e-6)
            way += rng.normal(0, 0.1, 2)  # real pushes are not centered
            before = place - rng.uniform(0.06, 0.09) * way
            yield from to(before, _HIGH)
            yield from to(before, _LOW)
            yield from to(spot - 0.03 * way, _LOW, rng.uniform(0.3, 1.0))
            yield from to(robot.get_ee_position()[:2] - 0.02 * way, _HIGH)
            yield from to(home[:2], home[2])

    return acts


def demonstrate(env: gym.Env) -> Callable[..., Behavior]:
    """Returns a behavior that pushes the object to its goal and takes the hand back to where it began."""
    sim, robot, task = (env.get_wrapper_attr(name) for name in ("sim", "robot", "task"))

    def acts(space: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
        home = robot.get_ee_position()
        while True:
            thing, velocity = np.array(sim.get_base_position("object")), np.array(sim.get_base_velocity("object"))
            motion = next_motion(robot.get_ee_position(), thing[:2], velocity[:2] * _TIME, task.get_goal()[:2], home)
            yield motion / max(_STEP, np.abs(motion).max()) + rng.normal(0, _NOISE, 3)

    return acts


def next_motion(
    hand: np.ndarray, thing: np.ndarray, velocity: np.ndarray, goal: np.ndarray, home: np.ndarray
) -> np.ndarray:
    """Returns the motion of the hand that pushes a thing to its goal, `(3,)` in m.

    Args:
        hand: Position of the hand, `(3,)` in m.
        thing: Position of the thing on the table, `(2,)` in m.
        velocity: Its velocity, `(2,)` in m per step.
        goal: Its goal, `(2,)` in m.
        home: Where the hand rests, `(3,)` in m.
    """
    left, offset = goal - thing, hand[:2] - thing
    distance = float(np.linalg.norm(left))
    way = left / max(distance, 1e-6)
    behind = -float(offset @ way)
    aside = offset + behind * way
    stops = thing + velocity * np.linalg.norm(velocity) / (2 * _SLOWING)
    fast_enough = float(np.sqrt(2 * _SLOWING * distance))  # it then slides to the goal by itself
    near, high = np.linalg.norm(offset) < 0.07, hand[2] > 0.75 * _HIGH
    if min(distance, float(np.linalg.norm(goal - stops))) < _NEAR or velocity @ way > 0.9 * fast_enough:
        if near and not high:
            return np.append(0.4 * offset, _HIGH - hand[2])
        return home - hand
    if hand[2] < 0.05 and behind > 0.025 and np.linalg.norm(aside) < 0.025:
        speed = min(_FASTEST_PUSH, fast_enough) + 0.5 * max(0.0, behind - 0.05)
        return np.append(way * speed - 0.5 * aside, _LOW - hand[2])
    to_start = thing - 0.07 * way - hand[:2]
    if np.linalg.norm(to_start) < 0.02:
        return np.append(to_start, _LOW - hand[2])
    if near and not high and behind < 0.04:
        return np.append(np.zeros(2), _HIGH - hand[2])
    return np.append(to_start, (_HIGH if np.linalg.norm(to_start) > 0.04 else 0.05) - hand[2])


BEHAVIORS = {"play": play, "demo": demonstrate}
"""Behaviors by the kind of their episodes; episodes of kind "demo" are what `agents.clone` imitates."""
