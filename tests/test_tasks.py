"""Tasks of more than a move: what success is, what experts do, and how long episodes are."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import dream_env  # noqa: F401  (registers the ids)
from dream_env.agents.data.behaviors import Job
from dream_env.agents.eval.statistics import spearman
from dream_env.agents.nicol import behaviors
from dream_env.data import episodes as general
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.layout import Layout
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD, TASKS, SimState

LAYOUT = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))
GOALS = np.array([[0.56, -0.30], [0.56, -0.06]])
NEW = ("place", "stack", "arrange")
NOW = SimState(
    objects=np.array([[0.56, -0.30, 0.825], [0.50, -0.18, 0.825], [0.56, -0.06, 0.825]]),
    target=0,
    hand=np.array([0.5, -0.3, 0.95]),
    setpoint=np.array([0.5, -0.3, 0.95, 0.0]),
    held=False,
    other=2,
    goals=GOALS,
    speeds=np.zeros(3),
)
ON_TOP = np.array([0.565, -0.065, 0.875])


def changed(**values):
    """A moment after `NOW`; `first` is where the named cube is."""
    objects = NOW.objects.copy()
    for name, cube in (("first", 0), ("second", 2)):
        if name in values:
            objects[cube] = values.pop(name)
    return replace(NOW, objects=objects, **values)


@pytest.mark.parametrize(
    ("task", "now", "done"),
    [
        ("place", changed(), True),
        ("place", changed(first=(0.54, -0.30, 0.825)), True),
        ("place", changed(first=(0.52, -0.30, 0.825)), False),
        ("place", changed(first=(0.56, -0.30, 0.84)), False),
        ("place", changed(touched=(0,)), False),
        ("place", changed(touched=(1,)), True),
        ("place", changed(speeds=np.array([0.05, 0, 0])), False),
        ("place", changed(goals=GOALS[::-1]), False),
        ("stack", changed(first=ON_TOP), True),
        ("stack", changed(), False),
        ("stack", changed(first=ON_TOP, touched=(0,)), False),
        ("stack", changed(first=ON_TOP + (0, 0, 0.02)), False),
        ("stack", changed(first=ON_TOP + (0.03, 0, 0)), False),
        ("stack", changed(first=ON_TOP, second=(0.56, -0.06, 0.845)), False),
        ("stack", changed(first=NOW.objects[2], second=ON_TOP), False),
        ("arrange", changed(), True),
        ("arrange", changed(second=(0.52, -0.06, 0.825)), False),
        ("arrange", changed(first=NOW.objects[2], second=NOW.objects[0]), False),
        ("arrange", changed(touched=(2,)), False),
    ],
)
def test_success_is_told_by_where_cubes_lie_at_rest_and_let_go(task, now, done):
    assert TASKS[task].condition(now) is done
    assert (TASKS[task].steps_to_go(now) == 0) == done


def test_the_size_of_a_cube_counts():
    small = np.array([0.04, 0.05, 0.06])
    assert TASKS["place"].condition(changed(first=(0.56, -0.30, 0.82), sizes=small))
    assert not TASKS["lift"].condition(changed(first=(0.5, -0.3, 0.879), held=True, sizes=small))
    on_top = changed(first=(0.56, -0.06, 0.88), second=(0.56, -0.06, 0.83), sizes=small)
    assert TASKS["stack"].condition(on_top) and not TASKS["stack"].condition(replace(on_top, sizes=np.full(3, 0.036)))


@pytest.mark.parametrize("missing", [{"speeds": None}, {"goals": None}])
def test_what_is_not_known_is_no_success(missing):
    with pytest.raises(ValueError, match=f"{next(iter(missing))}=None"):
        TASKS["place"].condition(replace(NOW, **missing))


@pytest.mark.parametrize("task", NEW)
def test_expert_does_what_the_goal_picture_shows(task):
    env = gym.make("NicoLReal-v0", task=task, world_model=None).unwrapped
    wins = 0
    for seed in (100_000, 100_001):
        env.reset(seed=seed)
        assert not env.truth()["condition"] and env.episode_steps == env._max_episode_steps == TASKS[task].horizon
        ends, told = [], []
        while not any(ends):
            told.append(TASKS[task].steps_to_go(env.sim_state()))
            obs, _, _, truncated, info = env.step(env.expert_action())
            ends.append(truncated)
        wins += info["is_success"]
        assert len(ends) == env.episode_steps
        first = told.index(0)
        assert spearman(told[: first + 1], -np.arange(first + 1.0)) > 0.97 and abs(told[0] - first) < 0.25 * first
        assert np.abs(env.goal_image.astype(int) - obs["pixels"]).mean() < 4
    assert wins == 2
    env.close()


def test_a_place_is_told_by_the_picture_alone():
    env = NicoLRealEnv("place")
    said = {"layout": LAYOUT, "instruction": "put the green cube where the picture shows it"}
    pictures = []
    for goal in GOALS:
        obs, _ = env.reset(seed=1, options=said | {"goals": goal[None]})
        pictures.append((env.goal_image, obs["pixels"], obs["instruction"]))
    assert np.abs(pictures[0][0].astype(int) - pictures[1][0]).max() > 100
    for name in (1, 2):
        np.testing.assert_array_equal(pictures[0][name], pictures[1][name])
    state = env.get_state()
    env.reset(seed=2)
    env.set_state(state)
    np.testing.assert_array_equal(env.start.goals, GOALS[1:])
    for goals, task in ((GOALS, "place"), ([[2.0, 0.0]], "place"), (GOALS[:1], "stack")):
        with pytest.raises(ValueError, match="goals="):
            env.reset(seed=1, options={"layout": LAYOUT, "goals": goals, "task": task})
    env.close()


def test_new_tasks_are_not_in_the_usual_mix():
    assert STANDARD == ("reach", "push", "lift") and set(TASKS) == {*STANDARD, *NEW, "lift_bar"}
    env = NicoLRealEnv("all")
    for seed in range(4):
        env.reset(seed=seed)
        assert env.task_name in STANDARD and env.start.goals is None
    env.close()


@pytest.fixture(scope="module")
def recorded():
    """One episode of `stack` and one of `reach`."""
    made = [behaviors.make_env(task) for task in ("stack", "reach")]
    return [
        (behaviors.record(env, Job(0, "demo", seed, task)), behaviors.spec_of(env, None))
        for env, seed, task in zip(made, (5, 6), ("stack", "reach"), strict=True)
    ]


def test_episodes_are_as_long_as_their_task(recorded):
    (long, spec), (short, usual) = recorded
    assert (len(long), spec.horizon) == (40, 40) and (len(short), usual) == (24, SPEC)
    assert set(long.labels) - set(short.labels) == {"other", "goals", "shapes", "sizes", "scene"}
    view = EpisodeDataset.of(general.EpisodeDataset.stack([long], spec))
    assert view.objects.shape == (1, 41, 3, 3) and view.colors.shape == (1, 3)
    assert view.success[0] == bool(long.success[-3:].all())
    assert view[0].general().labels["objects"].shape == (41, 9)


def test_different_lengths_are_one_data_set_but_not_one_array(recorded):
    (long, spec), (short, _) = recorded
    bare = replace(
        long,
        labels={name: long.labels[name] for name in short.labels}
        | {"objects": long.labels["objects"][:, :9], "colors": long.labels["colors"][:, :3]},
    )
    both = general.EpisodeDataset.stack([bare, short], spec)
    assert [len(both[i]) for i in range(2)] == [40, 24]
    with pytest.raises(ValueError, match="25 to 41 frames.*load tasks with different horizons one at a time"):
        EpisodeDataset.of(both)


def test_another_length_than_the_tasks_is_refused():
    with pytest.raises(ValueError, match="max_steps=24; accepted: 40"):
        behaviors.spec_of(behaviors.make_env("stack"), 24)


def test_all_stands_for_what_the_world_model_knows():
    env = gym.make("dream_env:NicoLReal-v0", task="all", world_model="place_stack")
    drawn = {env.reset(seed=seed) and env.unwrapped.task_name for seed in range(6)}
    assert drawn == {"place", "stack"} and env.unwrapped._max_episode_steps == 40
    env.close()
    with pytest.raises(ValueError, match="tasks='lift_bar' is not known; accepted: 'reach'"):
        gym.make("dream_env:NicoLReal-v0", task="all", world_model=None, tasks=("lift_bar",))
