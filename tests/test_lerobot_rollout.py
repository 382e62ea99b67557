"""LeRobot's rollout in our environments, by the calls that it makes (lerobot/scripts/lerobot_eval.py)."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from dream_env.adapters.lerobot import LeRobotEnv, make_env


def rollout(env, seeds):
    """Makes the calls of LeRobot's `rollout`, and returns what a policy and the report get of them."""
    obs, _ = env.reset(seed=seeds, options={"lerobot_new_rollout": True})
    limit = env.call("_max_episode_steps")[0]
    done, seen, success = np.zeros(env.num_envs, bool), [], [False] * env.num_envs
    while not done.all() and len(seen) < limit:
        assert set(obs) <= {"pixels", "agent_pos"} and obs["agent_pos"].dtype == np.float32
        seen.append((obs, list(env.call("task_description"))))
        obs, _, terminated, truncated, info = env.step(np.stack([env.single_action_space.sample()] * env.num_envs))
        if "final_info" in info:
            success = info["final_info"]["is_success"].tolist()
        done |= terminated | truncated
    return seen, success


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_rollout_in_physics_sees_sentence_state_and_picture(asynchronous):
    cfg = SimpleNamespace(task="lift", gym_kwargs={})
    ((env_id, suite),) = make_env(2, asynchronous, cfg).items()
    env = suite[0]
    seen, success = rollout(env, [0, 1])
    obs, said = seen[0]
    assert env_id == "NicoLReal-v0" and len(seen) == 24 and success == [False, False]
    assert obs["pixels"].shape == (2, 64, 64, 3) and obs["pixels"].dtype == np.uint8
    assert obs["agent_pos"].shape == (2, 4)
    assert said[0] != said[1] and all(said) and env.call("task") == ("lift", "lift")
    env.close()
    alone = gym.make("NicoLReal-v0", task="lift", world_model=None)
    first, _ = alone.reset(seed=0)
    np.testing.assert_array_equal(first["pixels"], obs["pixels"][0])
    np.testing.assert_array_equal(first["proprio"], obs["agent_pos"][0])
    assert alone.unwrapped.instruction == said[0]
    alone.close()


def test_a_rollout_in_the_dream_is_alike():
    cfg = SimpleNamespace(task="NicoLDream-v0", gym_kwargs={"task": "all"})
    env = make_env(2, cfg=cfg)["NicoLDream-v0"][0]
    (obs, said), *rest = rollout(env, [0, 1])[0]
    assert len(rest) == 23 and all(said)
    assert obs["pixels"].shape == (2, 64, 64, 3) and obs["agent_pos"].shape == (2, 4)
    env.close()


def test_any_gymnasium_env_is_shown_as_lerobot_wants_it():
    env = make_env(3, cfg=SimpleNamespace(task="Pendulum-v1"))["Pendulum-v1"][0]
    assert env.single_observation_space["agent_pos"].shape == (3,) and env.call("task_description") == ("",) * 3
    assert env.call("_max_episode_steps") == (200,) * 3
    env.close()
    with pytest.raises(ValueError, match="accepted: pictures"):
        LeRobotEnv(gym.make("FrozenLake-v1"))
    for count in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"n_envs={count}; accepted: an integer, at least 1"):
            make_env(count)


def test_an_environment_without_a_time_limit_is_named():
    endless = gym.make("CartPole-v1").unwrapped
    endless._max_episode_steps = None  # as a dream has it
    env = LeRobotEnv(endless)
    with pytest.raises(ValueError, match="has no time limit"):
        int(env._max_episode_steps)
