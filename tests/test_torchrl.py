"""TorchRL's GymEnv makes both worlds, as its users do."""

import pytest

pytest.importorskip("torchrl", reason="torchrl is not installed; .ci/torchrl makes an environment with it")

import gymnasium as gym
import torch
from torchrl.envs import GymEnv
from torchrl.envs.libs.gym import GymWrapper
from torchrl.envs.utils import check_env_specs

import dream_env  # noqa: F401  registers the ids


@pytest.mark.parametrize("world", ["NicoLDream-v0", "NicoLReal-v0"])
def test_gym_env_makes_it_and_rolls_it_out(world):
    env = GymEnv(world, task="reach")
    check_env_specs(env)
    env.set_seed(0)
    played = env.rollout(30)
    assert played.batch_size == (24,)  # the horizon
    assert played["next", "truncated"][-1] and not played["next", "terminated"].any()
    assert played["embedding"].dtype == torch.float32
    env.close()


def test_options_and_wrapped_envs_are_taken():
    env = GymWrapper(gym.make("NicoLDream-v0", obs_type="native"))
    assert {"pixels", "proprio"} <= {*env.rollout(2).keys()}
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_option'"):
        GymEnv("NicoLDream-v0", no_such_option=1)
