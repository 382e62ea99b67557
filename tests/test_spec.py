"""A world's spec: read off environments, kept as JSON."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dream_env.observations import bare, observation_space
from dream_env.spec import WorldSpec, observe

PICTURE = spaces.Box(0, 255, (8, 6, 3), np.uint8)


def spec(**changes):
    parts = {"pixels": spaces.Box(0, 255, (8, 6, 3), np.uint8), "state": spaces.Box(-np.inf, 2, (3,), np.float32)}
    given = {"name": "X-v0", "observation": spaces.Dict(parts), "action": spaces.Box(-1, 1, (2,), np.float32)}
    return WorldSpec(**(given | changes))


@pytest.mark.parametrize(
    "action", [spaces.Box(np.array([-1, 0], np.float32), np.array([1, 5], np.float32)), spaces.Discrete(4, start=1)]
)
def test_a_spec_survives_its_file(tmp_path, action):
    one = spec(action=action, horizon=7, control_hz=10.0, names={"state": ("x (m)", "y (m)", "z (m)")})
    one.save(tmp_path / "spec.json")
    assert WorldSpec.load(tmp_path / "spec.json") == one
    assert one.pictures == ("pixels",) and one.vectors == ("state",)
    assert "preparation" not in one.to_json(), "specs of environments as they are stay as they were"


def test_environments_tell_their_spec():
    env = gym.make("Pendulum-v1")
    one = WorldSpec.of_env(env)
    assert (one.name, one.horizon, one.vectors, one.pictures) == ("Pendulum-v1", 200, ("state",), ())
    assert one.action == env.action_space and one.control_hz == 30
    assert observe(env.reset(seed=0)[0])["state"].shape == (3,)
    assert observe(np.zeros((4, 4, 3), np.uint8)).keys() == {"pixels"}


@pytest.mark.parametrize("name, space", [("state", spaces.Box(-1, 1, (3,), np.float32)), ("pixels", PICTURE)])
def test_a_dict_with_one_key_stays_a_dict(name, space):
    class One(gym.Env):
        observation_space, action_space = spaces.Dict({name: space}), spaces.Box(-1, 1, (2,), np.float32)

    found = WorldSpec.of_env(One())
    kept = WorldSpec.from_json(json.loads(json.dumps(found.to_json())))
    assert kept == found and bare(kept) is None
    assert observation_space(kept, 4, obs_type="native") == One.observation_space
    before = {key: value for key, value in found.to_json().items() if key != "single_key"}
    assert bare(WorldSpec.from_json(before)) == name  # specs of older checkpoints keep their meaning
    assert "single_key" not in spec().to_json()


@pytest.mark.parametrize(
    ("space", "wrapped", "said"),
    [
        (
            spaces.Box(0, 255, (8, 8, 1), np.uint8),
            lambda env: gym.wrappers.TransformObservation(env, lambda x: np.repeat(x, 3, -1), PICTURE),
            r"TransformObservation .*numpy.repeat\(picture, 3, axis=-1\)",
        ),
        (
            spaces.Box(0, 9, (3,), np.int64),
            lambda env: gym.wrappers.DtypeObservation(env, np.float32),
            r"DtypeObservation\(env, numpy.float32\)",
        ),
        (
            spaces.Discrete(5),
            lambda env: gym.wrappers.DtypeObservation(gym.wrappers.FlattenObservation(env), np.float32),
            r"FlattenObservation .*; then DtypeObservation\(env, numpy.float32\)",
        ),
    ],
)
def test_a_wrapper_that_helps_is_named_and_helps(space, wrapped, said):
    class Other(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

    with pytest.raises(ValueError, match=rf"accepted: a float vector .*gymnasium.wrappers.{said}"):
        WorldSpec.of_env(Other())
    WorldSpec.of_env(wrapped(Other()))


def test_what_cannot_be_recorded_says_what_can():
    with pytest.raises(ValueError, match=r"observation 'state' is Discrete\(5\); accepted: a float vector"):
        spec(observation=spaces.Dict({"state": spaces.Discrete(5)}))
    with pytest.raises(ValueError, match="action space is MultiBinary"):
        env = gym.make("CartPole-v1")
        env.action_space = spaces.MultiBinary(3)
        WorldSpec.of_env(env)
    with pytest.raises(ValueError, match="horizon=0; accepted: None, an integer, at least 1"):
        spec(horizon=0)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"name": 1}',
        "nothing",
        '{"name": "x", "observation": {"a": {"type": "Box", "shape": [1000000000], "dtype": "float32", "low": 0, '
        '"high": 1}}, "action": {"type": "Discrete", "n": 2}}',
    ],
)
def test_damaged_files_are_named(tmp_path, text):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(ValueError, match="spec.json"):
        WorldSpec.load(tmp_path / "spec.json")
