"""Dreams in skrl: its flat observations are the dreams', episodes end, and PPO runs."""

import numpy as np
import pytest
import torch
import toy
from skrl.envs.wrappers.torch import Wrapper
from skrl.utils.spaces.torch import unflatten_tensorized_space

from dream_env.adapters.skrl import SkrlDreams
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.tensors import TensorDreams

KWARGS = {"world_model": toy.ToyWorldModel(), "initial_states": toy.initial_states(), "seed": 3}


def test_steps_are_those_of_the_dreams():
    env, dreams = SkrlDreams(6, task="all", **KWARGS), TensorDreams(6, task="all", **KWARGS)
    assert isinstance(env, Wrapper) and env.num_envs == 6 and env.device.type == "cpu" and env.state() is None
    flat, _ = env.reset()
    expected, _ = dreams.reset()
    again, _ = env.reset()
    assert torch.equal(flat, again), "dreams start anew by themselves"
    actions = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (EPISODE_STEPS, 6, 4)).astype(np.float32))
    for step, action in enumerate(actions):
        parts = unflatten_tensorized_space(env.observation_space, flat)
        assert all(torch.equal(parts[name], expected[name]) for name in env.observation_space)
        flat, reward, terminated, truncated, info = env.step(action)
        expected, rewards, *_ = dreams.step(action)
        assert torch.equal(reward[:, 0], rewards) and reward.shape == terminated.shape == truncated.shape == (6, 1)
        assert bool(terminated.all()) is (step == EPISODE_STEPS - 1) and not truncated.any()
        assert 0 <= float(info["episode"]["is_success"]) <= 1
    assert env.render().shape == (6, 64, 64, 3)
    env.close()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="accepted"):
        SkrlDreams(2, task="no such task", **KWARGS)


def test_a_world_without_pictures_cannot_be_drawn(cartpole):
    env = SkrlDreams(2, world_model=cartpole)
    env.reset()
    with pytest.raises(ValueError, match="CartPole-v1 was recorded without pictures"):
        env.render()
