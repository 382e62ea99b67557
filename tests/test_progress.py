"""True progress: the control steps that the scripted expert still needs, told from the situation alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dream_env.agents.eval.statistics import spearman
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.tasks import STANDARD, TASKS, SimState
from dream_env.nicol.tasks.task import CUBE_SIZE, TABLE_Z, height_after, steps

CUBE_Z = TABLE_Z + CUBE_SIZE / 2
ON_TABLE = SimState(
    objects=np.array([[0.46, -0.30, CUBE_Z], [0.50, -0.18, CUBE_Z], [0.46, -0.06, CUBE_Z]]),
    target=1,
    hand=np.array([0.50, -0.18, 1.0]),
    setpoint=np.array([0.50, -0.18, 1.0, 0.0]),
    held=False,
)


@pytest.fixture(scope="module")
def env():
    env = NicoLRealEnv("all")
    yield env
    env.close()


@pytest.mark.parametrize(
    ("task", "hand", "cube", "held", "done"),
    [
        ("reach", (0.50, -0.18, CUBE_Z + 0.149), None, False, True),
        ("reach", (0.50, -0.18, CUBE_Z + 0.151), None, False, False),
        ("push", None, (0.631, -0.18, CUBE_Z), False, True),
        ("push", None, (0.629, -0.18, CUBE_Z), False, False),
        ("push", None, (0.631, -0.18, CUBE_Z + 0.03), False, False),
        ("lift", None, (0.50, -0.18, CUBE_Z + 0.061), True, True),
        ("lift", None, (0.50, -0.18, CUBE_Z + 0.059), True, False),
        ("lift", None, (0.50, -0.18, CUBE_Z + 0.061), False, False),
    ],
)
def test_success_is_what_the_readme_says(task: str, hand: Any, cube: Any, held: bool, done: bool) -> None:
    objects = ON_TABLE.objects.copy()
    objects[1] = objects[1] if cube is None else cube
    now = replace(ON_TABLE, objects=objects, hand=ON_TABLE.hand if hand is None else np.array(hand), held=held)
    assert bool(TASKS[task].condition(now)) is done


@pytest.mark.parametrize("task", STANDARD)
def test_estimate_is_what_the_expert_needs(env: NicoLRealEnv, task: str) -> None:
    for seed in range(200_500, 200_505):
        env.reset(seed=seed, options={"task": task})
        told, done = [], []
        for step in range(EPISODE_STEPS + 1):
            told.append(TASKS[task].steps_to_go(env.sim_state()))
            done.append(TASKS[task].condition(env.sim_state()))
            if step < EPISODE_STEPS:
                env.step(env.expert_action())
        first = done.index(True)
        true = first - np.arange(first + 1)
        assert abs(told[0] - first) < 1.5, (seed, told[0], first)
        assert np.abs(np.array(told[: first + 1]) - true).max() < 2
        assert spearman(told[: first + 1], true) > 0.99
        assert np.diff(told[: first + 1]).max() < 0.05, "it goes down all the way"
        assert [one == 0 for one in told] == done


def test_every_wrong_thing_costs_steps() -> None:
    lift = TASKS["lift"].steps_to_go
    grasp = replace(ON_TABLE, setpoint=np.array([0.50, -0.18, CUBE_Z, 1.0]))
    above = replace(ON_TABLE, setpoint=np.array([0.50, -0.18, 0.98, 0.0]))
    closed = replace(ON_TABLE, setpoint=np.array([0.50, -0.18, 0.98, 1.0]))
    elsewhere = replace(above, target=0)
    assert lift(grasp) < lift(above) < lift(closed) and lift(above) < lift(elsewhere)
    push = TASKS["push"].steps_to_go
    behind = replace(ON_TABLE, setpoint=np.array([0.39, -0.18, TABLE_Z + 0.05, 0.0]))
    before = replace(ON_TABLE, setpoint=np.array([0.60, -0.18, TABLE_Z + 0.05, 0.0]))
    assert push(behind) < push(before)
    reach = TASKS["reach"].steps_to_go
    assert reach(replace(ON_TABLE, target=0)) == pytest.approx(3.0, abs=0.1), "12 cm at 4 cm a step"


def test_a_cube_held_beyond_the_line_has_to_be_let_go() -> None:
    objects = ON_TABLE.objects.copy()
    objects[1] = [0.68, -0.18, 0.95]
    held = replace(ON_TABLE, objects=objects, held=True, setpoint=np.array([0.68, -0.18, 0.95, 1.0]))
    assert TASKS["push"].steps_to_go(held) == pytest.approx(5.0), "four steps to open, one to fall"


def test_steps_count_the_slowest_axis() -> None:
    assert steps(np.array([0.04, -0.12, 0.0])) == pytest.approx(3)
    assert steps(0.5, axis=3) == pytest.approx(2)
    assert height_after(ON_TABLE, 2.0, 0.9) == pytest.approx(0.92)
    assert height_after(ON_TABLE, 9.0, 0.9) == pytest.approx(0.9)
