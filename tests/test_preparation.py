"""What is done to an environment before it is recorded: an opening left out, actions limited; CarRacing drawn less."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dream_env.agents.studies.world_models_2018 import racing
from dream_env.preparation import Limited, Pictures, Preparation, Skip, SkipFirst, make, parse_options, steps


class Count(gym.Env):
    """Shows the number of steps and the last action; ends after eight."""

    observation_space = spaces.Box(-9, 9, (3,), np.float32)

    def __init__(self, action_space=None):
        self.action_space = action_space or spaces.Box(np.float32([-1, 0.5]), np.float32([1, 2]))

    def reset(self, *, seed=None, options=None):
        self.count, self.last = 0, np.zeros(2)
        return self.seen(), {}

    def step(self, action):
        self.count, self.last = self.count + 1, np.broadcast_to(action, 2)
        return self.seen(), 1.0, self.count == 8, False, {}

    def seen(self):
        return np.array([self.count, *self.last], np.float32)


def test_an_opening_is_left_out_without_action():
    assert SkipFirst(Count(), 3).reset()[0].tolist() == [3, 0, 0.5]  # what is nearest to nothing
    assert SkipFirst(Count(spaces.Discrete(3, start=2)), 2).reset()[0].tolist() == [2, 2, 2]


def test_an_opening_in_which_an_episode_ends_is_not_left_out():
    assert SkipFirst(Count(), 8).reset()[0].tolist() == [0, 0, 0]


def test_an_opening_as_long_as_its_episodes_is_refused():
    with pytest.raises(ValueError, match="first=200 .* end after 200 steps; accepted: fewer"):
        make("Pendulum-v1", Preparation(first=200))
    make("Pendulum-v1", Preparation(first=199)).close()


def test_the_time_limit_is_that_of_what_is_left():
    assert [steps(limit, Preparation(skip=4, first=10)) for limit in (None, 50, 51, 5)] == [None, 10, 11, 1]


def test_actions_are_limited():
    env = Limited(Count(), low=(-0.5, 0.5), high=(0.5, 1.0))
    assert env.action_space == spaces.Box(np.float32([-0.5, 0.5]), np.float32([0.5, 1.0]))
    env.reset()
    assert env.step(np.float32([-1, 2]))[0].tolist() == [1, -0.5, 1]
    assert Limited(Count(), high=(0.5, 1.0)).action_space.low.tolist() == [-1, 0.5]


@pytest.mark.parametrize("bounds", [{"low": (-2, 1)}, {"low": (0,)}, {"high": (1, 0.5)}, {"low": (1, 1, 1)}])
def test_bounds_beyond_the_environments_are_refused(bounds):
    with pytest.raises(ValueError, match="accepted: for each of an action's 2 numbers .*, within Box"):
        Limited(Count(), **bounds)
    with pytest.raises(ValueError, match="accepted: None"):
        Limited(Count(spaces.Discrete(2)), **bounds)


def test_skipped_steps_share_a_displacement_and_repeat_a_target():
    env = Skip(Count(), 4, divided=(0,))
    assert env.action_space == spaces.Box(np.float32([-4, 0.5]), np.float32([4, 2]))
    env.reset()
    assert env.step(np.float32([2, 1.5]))[0].tolist() == [4, 0.5, 1.5]
    assert env.step(env.action_space.high)[0].tolist() == [8, 1, 2], "never beyond the environment's own bounds"
    for divided in ((2,), (-1,)):
        with pytest.raises(ValueError, match="divided=.* of actions of Box.*; accepted: entries from 0 to 1"):
            Skip(Count(), 4, divided)
    with pytest.raises(ValueError, match="divided=.* of actions of Discrete.*; accepted: none"):
        Skip(Count(spaces.Discrete(3)), 4, (0,))
    with pytest.raises(ValueError, match="divided=.* with skip=1; accepted"):
        Preparation(divided=(0,))


def test_a_preparation_is_told_and_made_again():
    given = Preparation((("frame_skip", 4),), crop=(0, 12, 0, 0), size=64, first=13, low=(-1.0, 0.0), high=(1.0, 0.5))
    shared = Preparation(skip=3, divided=(0, 1))
    assert Preparation.of(shared.to_json()) == shared
    told = given.to_json()
    assert told["first"] == 13 and told["low"] == [-1.0, 0.0]
    assert Preparation.of(told) == given and Preparation().to_json() == {}
    with pytest.raises(ValueError, match="first=-1"):
        Preparation(first=-1)


def test_racing_that_draws_less_shows_and_pays_the_same():
    fast, plain = make(f"{racing.__name__}:CarRacingSkip-v3"), Skip(make("CarRacing-v3"), 4)
    first = [env.reset(seed=5)[0] for env in (fast, plain)]
    assert np.array_equal(*first)
    for action in np.random.default_rng(0).uniform((-1, 0, 0), 1, (12, 3)).astype(np.float32):
        one, other = fast.step(action), plain.step(action)
        assert np.array_equal(one[0], other[0]) and one[1] == pytest.approx(other[1]) and one[2:4] == other[2:4]
    assert fast.unwrapped.t == plain.unwrapped.t and fast.spec.max_episode_steps == 250


def test_racing_shows_where_an_episode_ended():
    env = make(f"{racing.__name__}:CarRacingSkip-v3")
    env.reset(seed=0)
    env.unwrapped.car.hull.position = (1e4, 0)  # off the field, in the first of four frames
    seen, paid, terminated, *_ = env.step(np.zeros(3, np.float32))
    assert terminated and paid == -100 and env.observation_space.contains(seen)
    with pytest.raises(ValueError, match="frame_skip=0"):
        make(f"{racing.__name__}:CarRacingSkip-v3", frame_skip=0)


@pytest.mark.parametrize(
    "text, found",
    [
        ("size=[3,4],on=True,map=small", {"size": [3, 4], "on": True, "map": "small"}),
        ('a={"b": [1, "x,y=2"]} , c=null', {"a": {"b": [1, "x,y=2"]}, "c": None}),
        ("rate=1e-3,name=007,none=None,", {"rate": 1e-3, "name": "007", "none": None}),
        ("word='a b',empty=,path=3/4", {"word": "a b", "empty": "", "path": "3/4"}),
    ],
)
def test_options_are_json_or_words(text, found):
    assert dict(parse_options(text)) == found


def test_an_environment_that_cannot_be_prepared_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(gym.make("CartPole-v1").unwrapped.__class__, "close", lambda self: closed.append(self))
    with pytest.raises(ValueError, match="env='CartPole-v1': part='eye'"):
        make("CartPole-v1", Preparation(part="eye"))
    assert closed


class Aimed(Count):
    """A Dict of a picture and a number, with a goal of both."""

    observation_space = spaces.Dict(
        {"eye": spaces.Box(0, 255, (12, 10, 3), np.uint8), "n": spaces.Box(-9, 9, (1,), np.float32)}
    )
    goal_observation = {"eye": np.zeros((12, 10, 3), np.uint8), "n": np.ones(1, np.float32)}


def test_goals_are_prepared_as_observations():
    goal = Pictures(Aimed(), size=8).get_wrapper_attr("goal_observation")
    assert goal["eye"].shape == (8, 8, 3) and goal["n"].tolist() == [1]
    assert list(Pictures(Aimed(), part="eye").get_wrapper_attr("goal_observation")) == ["pixels"]
    assert not Pictures(Count(), crop=(0, 0, 0, 0)).has_wrapper_attr("goal_observation")
