"""`NicoLRealEnv`: its states, its simulations, and what of it is there when."""

import gc
from typing import ClassVar

import numpy as np
import pybullet
import pytest
from gymnasium.error import ResetNeeded

from dream_env.nicol import constants
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.language import Grammar
from dream_env.nicol.layout import Layout
from dream_env.nicol.scene import RENEWED, TableScene
from dream_env.nicol.tasks import TASKS, Task, task_of
from dream_env.nicol.tasks.task import CUBE_SIZE, go

LAYOUT = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))


@pytest.fixture
def env():
    env = NicoLRealEnv("all")
    env.reset(seed=0)
    env.step(np.ones(4))
    yield env
    env.close()


BAD_STATES = [
    3,
    {},
    {"task_name": "juggle"},
    {"task_name": np.array(["lift", "push"])},
    {"instruction": 3},
    {"spoken": "qwxyz"},
    {"target": 3},
    {"target": None},
    {"other": 1},
    {"layout": [[0.5, 0.0]]},
    {"start": np.full(4, np.nan)},
    {"start": np.zeros(3)},
    {"start": "abc"},
    {"physics": {}},
    {"deltas": 3},
    {"deltas": [[np.nan] * 4]},
    {"deltas": [[2.0] * 4]},
    {"deltas": [[0.0] * 3]},
    {"deltas": [[0.0], [0.0, 1.0]]},
    {"goal_image": np.zeros((64, 64, 3))},
    {"goal_image": None},
    {"rng": {}},
    {"rng": "abc"},
    {"held": True},
]


@pytest.mark.parametrize("change", BAD_STATES, ids=range(len(BAD_STATES)))
def test_a_bad_state_is_refused_and_changes_nothing(env, change):
    before, objects = env.get_state(), env.truth()["objects"]
    bad = {**before, **change} if isinstance(change, dict) and change else change
    for call in (env.set_state, lambda state: env.reset(seed=5, options={"state": state})):
        with pytest.raises(ValueError, match="accepted: "):
            call(bad)
    after = env.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before.keys() - {"layout", "rng"})
    assert before["rng"] == after["rng"] and before["layout"] is after["layout"]
    np.testing.assert_array_equal(env.truth()["objects"], objects)
    env.step(np.zeros(4))


def test_a_state_is_a_copy(env):
    state = env.get_state()
    state["start"][:] = state["deltas"][:] = 0.5
    state["goal_image"][:] = 0
    state["rng"]["state"] = None
    again = env.get_state()
    assert again["deltas"].tolist() == [[1.0] * 4] and again["goal_image"].any() and again["rng"]["state"]
    assert not np.array_equal(again["start"], state["start"])
    with pytest.raises(ValueError, match="read-only"):
        env.layout.positions[0] = 0


def test_a_refused_reset_draws_nothing(env):
    before = env.np_random.bit_generator.state
    for options in (3, {"task": "dance"}, {"instruction": "paint the red cube"}, {"task": np.array(["a", "b"])}):
        with pytest.raises(ValueError, match="accepted: "):
            env.reset(seed=7, options=options)
    with pytest.raises(ValueError, match="seed='3'; accepted"):
        env.reset(seed="3")
    assert env.np_random.bit_generator.state == before
    a = env.reset(seed=3)[0]["pixels"]
    np.testing.assert_array_equal(a, env.reset(seed=np.int64(3))[0]["pixels"])


def test_before_the_first_reset_and_after_close_there_is_no_episode():
    env = NicoLRealEnv("all")
    simulated = [env.truth, env.expert_action, env.sim_state, env.get_state, lambda: env.last_observation]
    told = [lambda name=name: getattr(env, name) for name in ("task_name", "instruction", "target", "goal_image")]
    for call in simulated + told:
        with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
            call()
    assert not hasattr(env, "task_description") and not env.is_success
    env.reset(seed=0)
    env.close()
    for call in simulated:
        with pytest.raises(ResetNeeded, match="after close"):
            call()
    assert env._scene is None and env.task_name in TASKS


def clients() -> int:
    return sum(pybullet.isConnected(client) for client in range(64))


def test_a_dropped_env_leaves_no_simulation():
    before = clients()
    env = NicoLRealEnv("reach")
    env.reset(seed=0)
    assert clients() == before + 2, "the episode's and the expert's"
    del env
    gc.collect()
    assert clients() == before


def test_resets_do_not_add_up_in_memory():
    scene, setpoint = TableScene(), np.array([0.45, -0.2, 1.0, 0.0])

    def used() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return 4 * int(file.read().split()[1])

    after = []
    for _ in range(6):
        for _ in range(RENEWED):
            scene.reset(LAYOUT, setpoint)
        after.append(used())
    scene.close()
    assert after[-1] - after[1] < 4 * RENEWED * 10, "KB; an emptied client keeps 40 of every robot"


class Above(Task):
    """Hold the hand above one cube; its sentences name another as well."""

    name = "above"
    grammar = Grammar(
        ("leave the {color} {object} beside the {other_color} {other_object}",),
        ("keep the {color} {object} beside the {other_color} {other_object}",),
    )
    horizon: ClassVar[int] = 30

    def condition(self, now):
        return bool(np.linalg.norm(now.hand - now.second - (0, 0, 0.11)) < 0.04)

    def expert(self, now):
        return go(now, now.second + (0, 0, 0.11), 0.0)

    def steps_to_go(self, now):
        return 0.0


class Never(Above):
    """Cannot be done."""

    name = "never"
    horizon: ClassVar[int] = 4

    def condition(self, now):
        return now.cube[2] < -CUBE_SIZE


def test_another_task_leaves_the_standard_ones_as_they_are(monkeypatch):
    def drawn():
        env = NicoLRealEnv("all")
        seen = [(env.reset(seed=seed)[0]["pixels"].tobytes(), env.instruction) for seed in range(6)]
        env.close()
        return seen

    before = drawn()
    monkeypatch.setitem(TASKS, "above", Above())
    assert drawn() == before


def test_a_task_of_two_cubes_with_a_horizon_of_its_own(monkeypatch):
    monkeypatch.setitem(TASKS, "above", Above())
    env = NicoLRealEnv("above")
    for options in ({}, {"instruction": "leave the green cube beside the yellow cube"}):
        env.reset(seed=0, options=options)
        now = env.sim_state()
        assert now.other not in (None, now.target) and env._max_episode_steps == 30
        ends = [env.step(env.expert_action())[3] for _ in range(30)]
        assert ends == [False] * 29 + [True] and env.is_success
    assert task_of("leave the green cube beside the yellow cube") == "above"
    assert task_of("lift the green cube") == "lift"
    state = env.get_state()
    env.set_state(state)
    assert env.sim_state().other == now.other
    with pytest.raises(ValueError, match="names"):
        env.reset(options={"task": "lift", "instruction": "lift the green cube beside the yellow cube"})
    env.close()


def test_a_goal_that_the_expert_misses_is_no_goal(monkeypatch):
    monkeypatch.setitem(TASKS, "never", Never())
    env = NicoLRealEnv("never")
    with pytest.raises(ValueError, match="the expert of 'never' failed within 4 steps in 10 starts"):
        env.reset(seed=0)
    env.close()


def test_under_shifted_physics_the_goal_shows_the_task_done():
    """Half the friction lets this cube slip: the expert shows the goal with the usual one."""
    env = NicoLRealEnv("lift", shift="friction")
    env.reset(seed=16)
    goal = env.goal_image
    usual = NicoLRealEnv("lift")
    usual.reset(seed=16)
    np.testing.assert_array_equal(goal, usual.goal_image)
    assert env.scene.physics.friction == 0.5
    env.close(), usual.close()


def test_a_horizon_of_ones_own_truncates():
    env = NicoLRealEnv("reach", horizon=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(4))[3] for _ in range(3)] == [False, False, True]
    assert NicoLRealEnv("all")._max_episode_steps == constants.EPISODE_STEPS
    env.close()
