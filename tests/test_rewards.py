"""Rewards: one function for both worlds, of the raw distance and of a learned metric."""

import numpy as np
import pytest
import torch
import toy
from stable_baselines3.common.env_checker import check_env

from dream_env import rewards
from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.nicol import real
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel

LEARNED = ("metric", "metric_progress", "metric_bounded")
SMALL = StateGroundedConfig(
    autoencoder_widths=(8, 8, 8), width=16, blocks=2, head_width=8, metric_dim=6, metric_widths=(16, 16)
)


def latent(config: StateGroundedConfig = SMALL) -> StateGroundedModel:
    """An untrained world model whose parts all do something."""
    torch.manual_seed(0)
    model = StateGroundedModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return model


def test_each_name_means_what_it_says():
    before, after = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 1.5])
    held, own = torch.tensor([True, False]), torch.tensor([7.0, 8.0])
    expected = {
        "energy": [-2.0, -1.5],
        "progress": [1.0, -0.5],
        "bounded": torch.exp(-after / 0.4),
        "metric": [-2.0, -1.5],
        "metric_progress": [1.0, -0.5],
        "metric_bounded": torch.exp(-after / 4.0),
        "success": [1.0, 0.0],
        "environment": own,
    }
    assert set(expected) == set(rewards.RewardName.__args__)
    for name, values in expected.items():
        given = rewards.reward(name, before, after, held, own)
        np.testing.assert_allclose(given, values, rtol=1e-6, err_msg=name)
        assert given.dtype == torch.float32, name
    with pytest.raises(ValueError, match="predicts no reward; accepted: a reward by the goal"):
        rewards.reward("environment", before, after, held)


def test_metric_distance_is_euclidean():
    assert rewards.metric_distance(torch.tensor([[3.0, 4.0]]), torch.zeros(2)).item() == pytest.approx(5.0)
    assert rewards.is_learned("metric") and not rewards.is_learned("energy")


@pytest.mark.parametrize("reward", LEARNED)
def test_learned_rewards_go_by_the_metric_of_state_and_goal(reward):
    model = latent()
    env = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward=reward)
    _, info = env.reset(seed=0, options={"start": 3})
    states = toy.initial_states()
    goal = model.metric(states.goals(model, np.array([3])))[0]
    for _ in range(4):
        before = info["metric_distance"]
        obs, value, _, _, info = env.step(env.action_space.sample())
        with torch.inference_mode():
            now = float((model.metric(env.dreams.engine.state(env.dreams.carry))[0] - goal).norm())
        assert info["metric_distance"] == pytest.approx(now, rel=1e-5)
        assert info["distance"] == pytest.approx(float(((obs["embedding"] - obs["goal"]) ** 2).mean()), rel=1e-4)
        expected = {"metric": -now, "metric_progress": before - now, "metric_bounded": np.exp(-now / 4)}[reward]
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-5)
    plain = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward="energy")
    assert "metric_distance" not in plain.reset(seed=0)[1]


@pytest.mark.parametrize("reward", ["energy", "bounded"])
def test_compute_reward_is_the_reward(reward):
    kwargs = {"world_model": latent(), "initial_states": toy.initial_states(), "goal_env": True}
    envs = DreamVecEnv(4, reward=reward, **kwargs)
    envs.seed(0)
    envs.reset()
    obs, rewards, *_ = envs.step(np.ones((4, 4), np.float32))
    given = obs["achieved_goal"], obs["desired_goal"], [{}] * 4
    np.testing.assert_allclose(envs.env_method("compute_reward", *given)[0], rewards, rtol=1e-5)
    single = NicoLDreamEnv("all", reward=reward, **kwargs)
    check_env(single)
    one = single.compute_reward(obs["achieved_goal"][1], obs["desired_goal"][1], {})
    assert one == pytest.approx(rewards[1], rel=1e-5)
    with pytest.raises(ValueError, match="metric_progress.*'bounded'"):
        NicoLDreamEnv("all", reward="metric_progress", **kwargs)


def test_physics_is_measured_by_the_same_metric():
    model = latent()
    env = real.make("reach", world_model=model, reward="metric")
    env.reset(seed=0)
    _, value, *_, info = env.step(env.unwrapped.expert_action())
    seen = {"pixels": env.unwrapped.last_observation["pixels"], "goal": env.unwrapped.goal_image}
    with torch.inference_mode():
        ours, goal = model.metric(model.encode({"pixels": torch.from_numpy(np.stack(list(seen.values())))}))
    assert value == pytest.approx(-float((ours - goal).norm()), rel=1e-4)
    assert info["metric_distance"] == pytest.approx(-value)
    env.close()


@pytest.mark.parametrize("reward", ["energy", "progress", "bounded", "metric_progress", "success", "environment"])
def test_physics_pays_what_the_name_says(toy_folder, reward):
    env = real.make("reach", world_model=toy_folder, reward=reward)
    key = "metric_distance" if reward == "metric_progress" else "distance"
    _, info = env.reset(seed=0)
    for _ in range(12):
        before = info[key]
        _, value, *_, info = env.step(env.unwrapped.expert_action())
        now, won = info[key], float(info["is_success"])
        told = {"energy": -now, "bounded": np.exp(-now / 0.4), "success": won, "environment": won}
        assert value == pytest.approx(told.get(reward, before - now), rel=1e-4, abs=1e-5)
    assert info["is_success"]
    env.close()


def test_models_without_a_metric_say_so():
    class Blunt:
        def __init__(self):
            self.toy = toy.ToyWorldModel()

        def __getattr__(self, name):
            if name == "metric":
                raise AttributeError(name)
            return getattr(self.__dict__["toy"], name)

    for reward in LEARNED:
        with pytest.raises(ValueError, match="Blunt has no learned metric; accepted: .*'energy'"):
            NicoLDreamEnv("all", world_model=Blunt(), initial_states=toy.initial_states(), reward=reward)
    with pytest.raises(ValueError, match="Blunt has no learned metric"):
        real.make("reach", world_model=Blunt(), reward="metric")
    NicoLDreamEnv("all", world_model=Blunt(), initial_states=toy.initial_states(), reward="energy").reset(seed=0)


# --- noise and disagreement


def test_temperature_is_the_strength_of_the_noise(toy_folder):
    def rollout(temperature, seed=0):
        env = NicoLDreamEnv("all", world_model=toy_folder, temperature=temperature)
        env.reset(seed=seed, options={"start": 3})
        return np.stack([env.step(np.full(4, 0.5))[0]["embedding"] for _ in range(3)])

    np.testing.assert_array_equal(rollout(1.0), rollout(1.0))
    np.testing.assert_array_equal(rollout(0.0, 1), rollout(0.0, 2))
    assert (rollout(1.0, 1) != rollout(1.0, 2)).any()
    apart = [np.abs(rollout(t) - rollout(0.0)).mean() for t in (0.1, 1.0, 3.0)]
    assert 0 < apart[0] < apart[1] < apart[2]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_noise_is_each_dreams_own(toy_folder, mode):
    kwargs = {"world_model": toy_folder, "temperature": 1.0, "max_disagreement": 4.0}
    envs = NicoLDreamVectorEnv(4, "all", autoreset_mode=mode, max_episode_steps=7, **kwargs)
    obs, _ = envs.reset(seed=0)
    singles = [NicoLDreamEnv("all", **kwargs) for _ in range(4)]
    for i, env in enumerate(singles):
        env.reset(seed=i)
    rng, length, waits = np.random.default_rng(1), np.zeros(4, int), np.zeros(4, bool)
    for _ in range(30):
        actions = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
        obs, _, _, ended, _ = envs.step(actions)
        for i, env in enumerate(singles):
            if waits[i]:
                one, _ = env.reset()
                waits[i], length[i] = False, 0
            else:
                one, _, _, cut, _ = env.step(actions[i])
                length[i] += 1
                if cut or length[i] == 7:
                    assert ended[i]
                    waits[i] = mode == "NextStep"
                    if not waits[i]:
                        one, _ = env.reset()
                        length[i] = 0
            np.testing.assert_allclose(one["embedding"], obs["embedding"][i], atol=1e-4)


def test_calibrated_limit_comes_from_the_model():
    model = latent(StateGroundedConfig(**{**vars(SMALL), "disagreement_threshold": 1e-9}))
    env = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), max_disagreement="calibrated")
    env.reset(seed=0)
    *_, cut, info = env.step(np.ones(4))
    assert cut and info["disagreement"] > 1e-9
    for model in (latent(), toy.ToyWorldModel()):
        with pytest.raises(ValueError, match="calibrated.*no disagreement_threshold.*accepted: a number"):
            NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), max_disagreement="calibrated")
