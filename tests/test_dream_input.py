"""Bad input to NICOL's environments: each is refused with what is accepted."""

import gymnasium as gym
import numpy as np
import pytest

from dream_env.nicol import real
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv

BAD_ARGUMENTS = [
    ({"task": "juggle"}, "task='juggle'.*'reach'"),
    ({"obs_type": "sound"}, "obs_type='sound'"),
    ({"reward": "dense"}, "reward='dense'.*'bounded'"),
    ({"compile": True}, "ToyWorldModel has no method `compiled`.*accepted: False"),
    ({"precision": "float16"}, "precision='float16'.*'bfloat16'"),
    ({"render_mode": "human"}, "render_mode='human'.*'rgb_array'"),
    ({"starts": "middle"}, "starts='middle'.*'any'"),
    ({"starts": 1.5}, "starts=1.5; accepted: 'episode', 'any', a finite number, 0 to 1"),
    ({"starts": None}, "starts=None"),
    ({"disagreement_penalty": -1.0}, "disagreement_penalty=-1.0"),
    ({"temperature": -1.0}, "temperature=-1.0"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"max_disagreement": "high"}, "max_disagreement='high'.*'calibrated'"),
    ({"max_disagreement": -1}, "max_disagreement=-1; accepted: None, 'calibrated'"),
    ({"max_disagreement": float("nan")}, "max_disagreement=nan"),
    ({"max_disagreement": "often"}, "max_disagreement='often'"),
    ({"temperature": float("inf")}, "temperature=inf"),
    ({"temperature": None}, "temperature=None"),
    ({"world_model": None}, "world_model=None"),
    ({"goal_env": True, "reward": "progress"}, "reward='progress'.*'energy'"),
    ({"goal_env": True, "disagreement_penalty": 1.0}, "disagreement_penalty"),
]


@pytest.mark.parametrize(("kwargs", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(toy_folder, kwargs, message):
    for world in (NicoLDreamEnv, NicoLDreamVectorEnv):
        with pytest.raises(ValueError, match=message):
            world(**{"world_model": toy_folder, **kwargs})


def test_physics_without_a_world_model_has_its_own_observations_and_refuses_what_only_a_model_makes():
    env = real.make(world_model=None, obs_type="native")
    assert {*env.observation_space.spaces} == {"pixels", "proprio", "instruction"}
    env.close()
    with pytest.raises(ValueError, match="obs_type='natve' is not known; accepted: .*'native'"):
        real.make(world_model=None, obs_type="natve")
    for asked in ({"obs_type": "words"}, {"reward": "energy"}, {"goal_env": True}):
        with pytest.raises(ValueError, match="accepted: reward='success', goal_env=False, obs_type='native'"):
            real.make(world_model=None, **asked)


def test_an_option_that_dreams_do_not_have_is_named(toy_folder):
    for world in (NicoLDreamEnv, NicoLDreamVectorEnv):
        with pytest.raises(TypeError, match="unexpected keyword argument 'shift'; accepted: task, obs_type"):
            world(world_model=toy_folder, shift="mass")


def test_bad_vector_arguments_are_named(toy_folder):
    for name, value in (("num_envs", 0), ("max_episode_steps", 0), ("horizon", 0), ("autoreset_mode", "never")):
        with pytest.raises(ValueError, match=name):
            NicoLDreamVectorEnv(world_model=toy_folder, **{name: value})
    envs = NicoLDreamVectorEnv(2, world_model=toy_folder)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="seed has 3"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, bool)})


@pytest.mark.parametrize("action", [np.full(4, np.nan), np.full(4, np.inf), np.zeros(3), np.zeros((1, 4))], ids=str)
def test_bad_actions_are_refused(toy_folder, action):
    env, envs = NicoLDreamEnv("all", world_model=toy_folder), NicoLDreamVectorEnv(2, world_model=toy_folder)
    env.reset(seed=0), envs.reset(seed=0)
    with pytest.raises(ValueError, match="accepted"):
        env.step(action)
    with pytest.raises(ValueError, match="accepted"):
        envs.step(np.stack([action, action]))


BAD_OPTIONS = [
    ({"colour": "red"}, "options key='colour'.*'instruction'"),
    ({"task": "juggle"}, "juggle"),
    ({"instruction": 3}, "instruction.*accepted: a sentence"),
    ({"instruction": "qwxyz"}, "qwxyz"),
    ({"image": np.zeros((64, 64, 3), np.uint8)}, "'image' and 'proprio'"),
    ({"image": np.zeros((64, 64, 3)), "proprio": np.zeros(4)}, "'pixels'.*float64.*uint8"),
    ({"image": np.zeros((32, 32, 3), np.uint8), "proprio": np.zeros(4)}, "32, 32"),
    ({"image": np.zeros((64, 64, 3), np.uint8), "proprio": np.full(4, np.nan)}, "proprio"),
    ({"goal_image": np.zeros((64, 64), np.uint8)}, "'goal'.*'pixels'"),
    ({"start": 99}, "'start'.=99.*0 to 23"),
    ({"start": 0.5}, "'start'.=0.5"),
    ({"start": [0, 1]}, "'start'.*each of the 1 dreams"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_named(toy_folder, options, message):
    with pytest.raises(ValueError, match=message):
        NicoLDreamEnv("all", world_model=toy_folder).reset(options=options)


def test_bad_states_are_refused(toy_folder):
    env = NicoLDreamEnv("all", world_model=toy_folder)
    with pytest.raises(gym.error.ResetNeeded):
        env.get_state()
    with pytest.raises(ValueError, match="get_state"):
        env.set_state({"tokens": np.zeros((1, 2, 3))})


def test_an_env_that_was_reset_after_close_can_be_closed_again(toy_folder):
    for env in (NicoLDreamEnv(world_model=toy_folder), NicoLDreamVectorEnv(2, world_model=toy_folder)):
        for _ in range(2):
            env.reset(seed=0)
            env.close()
            with pytest.raises(gym.error.ResetNeeded):
                env.step(np.zeros(env.action_space.shape))


def test_numbers_of_dreams_and_steps_are_whole(toy_folder):
    for given in ({"num_envs": 2.5}, {"max_episode_steps": 1.5}):
        with pytest.raises(ValueError, match=f"{[*given][0]}=.*accepted: .*an integer"):
            NicoLDreamVectorEnv(world_model=toy_folder, **given)


def test_a_refused_state_begins_no_episode(toy_folder):
    env = NicoLDreamEnv(world_model=toy_folder)
    with pytest.raises(ValueError, match="state has"):
        env.set_state({"x": 1})
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(4, np.float32))
    other = NicoLDreamEnv(world_model=toy_folder)
    other.reset(seed=0)
    env.set_state(other.get_state())
    assert env.instruction == other.instruction
