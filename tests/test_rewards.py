"""Rewards: one function for both worlds, of the raw distance and of a learned metric."""

import numpy as np
import pytest
import torch
import toy
from stable_baselines3.common.env_checker import check_env

from dream_env import rewards
from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.nicol import constants
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv
from dream_env.nicol.env import NicoLRealEnv
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
    before, after, held = np.float32([3.0, 1.0]), np.float32([2.0, 1.5]), np.array([True, False])
    expected = {
        "energy": [-2.0, -1.5],
        "progress": [1.0, -0.5],
        "bounded": np.exp(-after / 0.4),
        "metric": [-2.0, -1.5],
        "metric_progress": [1.0, -0.5],
        "metric_bounded": np.exp(-after / 4.0),
        "success": [1.0, 0.0],
    }
    assert set(expected) == set(rewards.RewardName.__args__)
    for name, values in expected.items():
        given = rewards.reward(name, before, after, held)
        np.testing.assert_allclose(given, values, rtol=1e-6, err_msg=name)
        assert given.dtype == np.float32, name


def test_metric_distance_is_euclidean():
    assert rewards.metric_distance(np.float32([[3.0, 4.0]]), np.zeros(2, np.float32)) == pytest.approx([5.0])
    assert rewards.is_learned("metric") and not rewards.is_learned("energy")


@pytest.mark.parametrize(
    ("reward", "goal_env"), [*((name, False) for name in LEARNED), ("metric", True), ("metric_bounded", True)]
)
def test_learned_rewards_go_by_the_metric_of_what_is_kept_and_of_the_goal(reward, goal_env):
    model = latent()
    env = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward=reward, goal_env=goal_env)
    obs, info = env.reset(seed=0)
    for _ in range(4):
        before = info["metric_distance"]
        obs, value, _, _, info = env.step(env.action_space.sample())
        embedding, goal = (
            obs[key] for key in (("achieved_goal", "desired_goal") if goal_env else ("embedding", "goal"))
        )
        with torch.inference_mode():
            read, wanted = model.metric(torch.from_numpy(np.stack([embedding, goal])))
            kept = model.metric_head(env.dreams.state.situation)[0]
        assert not torch.allclose(read, kept), "an untrained picture shows something else"
        now = float(((read if goal_env else kept) - wanted).norm())  # hindsight has pictures only
        assert info["metric_distance"] == pytest.approx(now, rel=1e-5)
        assert info["distance"] == pytest.approx(float(((embedding - goal) ** 2).mean()), rel=1e-5)
        expected = {"metric": -now, "metric_progress": before - now, "metric_bounded": np.exp(-now / 4)}[reward]
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-5)
    plain = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward="energy")
    assert "metric_distance" not in plain.reset(seed=0)[1]


@pytest.mark.parametrize("form", [{}, {"goal_env": True}, {"temperature": 0.0}], ids=str)
@pytest.mark.parametrize("reward", ["metric", "metric_bounded"])
def test_rows_of_the_vector_env_are_single_envs(reward, form):
    kwargs = {"world_model": latent(), "initial_states": toy.initial_states(), "reward": reward, **form}
    envs, singles = NicoLDreamVectorEnv(5, "all", **kwargs), [NicoLDreamEnv("all", **kwargs) for _ in range(5)]
    envs.reset(seed=3)
    for i, env in enumerate(singles):
        env.reset(seed=3 + i)
    rng = np.random.default_rng(0)
    for step in range(constants.EPISODE_STEPS + 6):
        actions = rng.uniform(-1, 1, (5, 4)).astype(np.float32)
        obs, rewards, _, ended, infos = envs.step(actions)
        for i, env in enumerate(singles):
            one, value, *_, info = env.step(actions[i])
            if ended[i]:
                one, _ = env.reset()
            else:
                assert info == {name: infos[name][i] for name in info}
            assert value == rewards[i], (step, i)
            for name in one:
                np.testing.assert_array_equal(one[name], obs[name][i])


def test_compute_reward_is_the_reward_in_every_form():
    kwargs = {"world_model": latent(), "initial_states": toy.initial_states(), "goal_env": True}
    for reward in ("metric", "metric_bounded"):
        envs = DreamVecEnv(4, "all", reward=reward, **kwargs)
        envs.seed(0)
        envs.reset()
        obs, rewards, *_ = envs.step(np.ones((4, 4), np.float32))
        given = obs["achieved_goal"], obs["desired_goal"], [{}] * 4
        np.testing.assert_array_equal(envs.env_method("compute_reward", *given)[0], rewards)
        single = NicoLDreamEnv("all", reward=reward, **kwargs)
        check_env(single)
        one = single.compute_reward(obs["achieved_goal"][1], obs["desired_goal"][1], {})
        assert one == rewards[1]
    with pytest.raises(ValueError, match="metric_progress.*'metric_bounded'"):
        NicoLDreamEnv("all", reward="metric_progress", **kwargs)


def test_physics_gives_the_same_reward():
    model = latent()
    env = NicoLRealEnv("reach", world_model=model, reward="metric")
    _, info = env.reset(seed=0)
    obs, value, *_, info = env.step(env.expert_action())
    with torch.inference_mode():
        ours, goal = model.metric(torch.from_numpy(np.stack([obs["embedding"], obs["goal"]])))
    assert value == pytest.approx(-float((ours - goal).norm()), rel=1e-5)
    assert info["metric_distance"] == -value
    env.close()
    goals = NicoLRealEnv("reach", world_model=model, reward="metric_bounded", goal_env=True)
    goals.reset(seed=0)
    obs, value, *_ = goals.step(goals.expert_action())
    assert goals.compute_reward(obs["achieved_goal"], obs["desired_goal"], {}) == pytest.approx(value, rel=1e-5)
    goals.close()


@pytest.mark.parametrize("reward", ["energy", "progress", "bounded", "metric_progress", "success"])
def test_physics_pays_what_the_name_says(toy_folder, reward):
    env = NicoLRealEnv("reach", world_model=toy_folder, reward=reward)
    key = "metric_distance" if reward == "metric_progress" else "distance"
    _, info = env.reset(seed=0)
    for _ in range(12):
        before = info[key]
        _, value, *_, info = env.step(env.expert_action())
        now = info[key]
        told = {"energy": -now, "bounded": np.exp(-now / 0.4), "success": float(info["is_success"])}
        assert value == pytest.approx(told.get(reward, before - now), rel=1e-4, abs=1e-5)
    assert info["is_success"]
    env.close()


def test_models_without_a_metric_say_so():
    class Blunt(toy.ToyWorldModel):
        metric = property()

    old = latent(StateGroundedConfig(metric_dim=0, autoencoder_widths=(8, 8, 8), width=16, blocks=2, head_width=8))
    for model, message in ((old, "no learned metric.*agents.fit.*--init"), (Blunt(), "no method `metric`")):
        for reward in LEARNED:
            with pytest.raises(ValueError, match=message):
                NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward=reward)
        with pytest.raises(ValueError, match=message):
            NicoLRealEnv("reach", world_model=model, reward="metric")
        NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), reward="energy").reset(seed=0)


# --- noise and disagreement


def test_temperature_lets_luck_decide(toy_folder):
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
def test_luck_is_each_dreams_own(toy_folder, mode):
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
            np.testing.assert_array_equal(one["embedding"], obs["embedding"][i])


def test_calibrated_limit_comes_from_the_model():
    model = latent(StateGroundedConfig(**{**vars(SMALL), "disagreement_threshold": 1e-9}))
    env = NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), max_disagreement="calibrated")
    env.reset(seed=0)
    *_, cut, info = env.step(np.ones(4))
    assert cut and info["disagreement"] > 1e-9
    for model in (latent(), toy.ToyWorldModel()):
        with pytest.raises(ValueError, match="calibrated.*no disagreement_threshold.*accepted: a number"):
            NicoLDreamEnv("all", world_model=model, initial_states=toy.initial_states(), max_disagreement="calibrated")
