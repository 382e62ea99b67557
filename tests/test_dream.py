"""`NicoLDream-v0` as single and as vector environment, on a toy world model and on the shipped one."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
import toy
from dreams import FORMS, assert_close, assert_same, run_to_end
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import dream_env  # noqa: F401  registers the ids
from dream_env.dream_config import _compiled
from dream_env.nicol import constants
from dream_env.nicol.control import PositionControl
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv
from dream_env.wrappers import WorldModelWrapper


def make(world_model, task="all", **kwargs):
    return NicoLDreamEnv(task, world_model=world_model, **kwargs)


# --- as Gymnasium and SB3 want it


@pytest.mark.parametrize(
    ("task", "form"), [*((task, {}) for task in ("reach", "push", "lift")), *(("all", form) for form in FORMS)], ids=str
)
def test_passes_both_checkers(model, task, form):
    kwargs = {"task": task, "world_model": model, **form}
    for mode in (None, "rgb_array"):
        env = gym.make("NicoLDream-v0", render_mode=mode, **kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # An embedding has no bounds; Gymnasium's own tests leave these two out as well.
            warnings.filterwarnings("ignore", message=".*space m..imum value is -?infinity.*")
            check_env(env.unwrapped)
            check_env_sb3(env.unwrapped)


def test_make_vec_makes_the_batched_env(toy_folder):
    envs = gym.make_vec("NicoLDream-v0", num_envs=3, world_model=toy_folder)
    assert isinstance(envs, NicoLDreamVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.max_episode_steps == constants.EPISODE_STEPS
    obs, _ = envs.reset(seed=0)
    assert obs in envs.observation_space
    assert envs.single_observation_space == make(toy_folder).observation_space


def test_spec_survives_json(toy_folder):
    env = gym.make("NicoLDream-v0", task="lift", reward="energy", world_model=toy_folder)
    spec = EnvSpec.from_json(json.dumps(json.loads(env.spec.to_json())))
    again = gym.make(spec)
    assert again.unwrapped.config == env.unwrapped.config
    assert_same(env.reset(seed=1)[0], again.reset(seed=1)[0])


def test_the_spec_of_a_wrapped_env_makes_it_again(toy_folder, cartpole):
    models = ("NicoLReal-v0", toy_folder), ("NicoLReal-v0", toy.ToyWorldModel()), ("CartPole-v1", cartpole)
    for name, model in models:
        if name == "CartPole-v1":
            env = WorldModelWrapper(gym.make(name), model, reward="environment")
        else:
            env = PositionControl(gym.make(name, world_model=model, reward="energy"))
        again = gym.make(env.spec if isinstance(model, toy.ToyWorldModel) else EnvSpec.from_json(env.spec.to_json()))
        assert str(again) == str(env) and again.get_wrapper_attr("reward") == env.get_wrapper_attr("reward")
        assert_same(env.reset(seed=1)[0], again.reset(seed=1)[0])
        env.close(), again.close()


def test_episode_ends_by_time_limit_only(toy_folder):
    env = gym.make("NicoLDream-v0", world_model=toy_folder)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(constants.EPISODE_STEPS)]
    assert ends == [(False, False)] * (constants.EPISODE_STEPS - 1) + [(False, True)]


def test_render_is_the_decoder_enlarged(toy_folder):
    env = make(toy_folder, obs_type="pixels", render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render()[::4, ::4], obs["pixels"])
    assert env.render().shape == (256, 256, 3)
    assert make(toy_folder).render() is None


@pytest.mark.parametrize("options, steps", [({"horizon": 30}, 30), ({"horizon": 3}, 3), ({}, 24)])
def test_horizon_sets_the_length_of_episodes(toy_folder, options, steps):
    env = gym.make("NicoLDream-v0", world_model=toy_folder, **options)
    envs = gym.make_vec("NicoLDream-v0", num_envs=2, world_model=toy_folder, **options)
    env.reset(seed=0), envs.reset(seed=0)
    ends = [(env.step(np.zeros(4))[3], envs.step(np.zeros((2, 4)))[3].tolist()) for _ in range(steps)]
    assert ends == [(False, [False, False])] * (steps - 1) + [(True, [True, True])]
    assert env.unwrapped._max_episode_steps == envs.max_episode_steps == steps


def test_the_shorter_limit_counts(toy_folder):
    for horizon, limit in ((5, 9), (9, 5)):
        options = {"world_model": toy_folder, "horizon": horizon, "max_episode_steps": limit}
        env, envs = gym.make("NicoLDream-v0", **options), gym.make_vec("NicoLDream-v0", num_envs=1, **options)
        env.reset(seed=0)
        assert [env.step(np.zeros(4))[3] for _ in range(5)] == [False] * 4 + [True] and envs.max_episode_steps == 5


def test_handed_out_arrays_do_not_change_later(toy_folder):
    envs = NicoLDreamVectorEnv(4, "all", world_model=toy_folder, max_episode_steps=5)
    obs, _ = envs.reset(seed=0)
    kept = {name: rows.copy() for name, rows in obs.items()}
    run_to_end(envs, 12)
    assert_same(kept, obs)


def test_native_observations_are_the_callers_own(toy_folder):
    env, other = (make(toy_folder, obs_type="native") for _ in range(2))
    env.reset(seed=0)[0]["proprio"][:] = 0.5
    other.reset(seed=0)
    one, same = env.step(np.zeros(4)), other.step(np.zeros(4))
    assert_same(one[0], same[0])
    assert one[1] == same[1]


def test_every_env_has_spaces_of_its_own(toy_folder):
    """A space has a random generator: the actions that one env samples must not depend on other envs."""
    for name in ("NicoLDream-v0", "NicoLReal-v0"):
        for kind in ({}, {"obs_type": "pixels"}, {"obs_type": "native"}):
            one, other = (gym.make(name, world_model=toy_folder, **kind) for _ in range(2))
            assert one.action_space == other.action_space and one.action_space is not other.action_space
            for part, space in one.observation_space.items():
                assert space is not other.observation_space[part]
    one, other = (gym.make_vec("NicoLDream-v0", num_envs=2, world_model=toy_folder) for _ in range(2))
    assert not np.array_equal(one.action_space.sample(), other.action_space.sample())


def test_weights_and_bank_are_loaded_once(toy_folder):
    envs = [gym.make("NicoLDream-v0", world_model=toy_folder).unwrapped.dreams for _ in range(3)]
    envs.append(gym.make_vec("NicoLDream-v0", num_envs=2, world_model=toy_folder).dreams)
    assert len({id(one.engine.model) for one in envs}) == 1
    assert len({id(one.initial_states) for one in envs}) == 1


# --- reset options, state, success, disagreement


def test_options_replace_what_is_drawn(toy_folder):
    rng = np.random.default_rng(0)
    start, goal = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    options = {
        "task": "push",
        "instruction": "push the red cube",
        "image": start,
        "proprio": np.full(4, 0.5),
        "goal_image": goal,
    }
    env, envs = make(toy_folder), NicoLDreamVectorEnv(3, "all", world_model=toy_folder)
    obs, _ = env.reset(seed=0, options=options)
    assert (env.task_name, env.task_description) == ("push", "push the red cube")
    model = env.dreams.engine.model
    expected = model.embedding(model.encode({"pixels": torch.from_numpy(np.stack([start, goal]))})).numpy()
    np.testing.assert_allclose(obs["embedding"], expected[0], atol=1e-5)
    np.testing.assert_allclose(obs["goal"], expected[1], atol=1e-5)
    np.testing.assert_array_equal(obs["proprio"], np.full(4, 0.5, np.float32))
    batch, _ = envs.reset(seed=0, options=options)
    for i in range(3):
        assert_close(obs, {name: rows[i] for name, rows in batch.items()})
    run_to_end(envs, constants.EPISODE_STEPS)  # the next episodes are drawn again
    assert len(set(map(bytes, envs.dreams.carry["_goal"].numpy()))) > 1


def test_start_names_rows_of_the_bank(toy_folder):
    bank = toy.initial_states()
    proprio = bank.observation["proprio"]
    env, envs = NicoLDreamEnv("all", world_model=toy_folder), NicoLDreamVectorEnv(3, "all", world_model=toy_folder)
    obs, _ = env.reset(seed=5, options={"start": 7})
    batch, _ = envs.reset(seed=1, options={"start": np.array([7, 2, 11])})
    np.testing.assert_array_equal(batch["proprio"], proprio[[7, 2, 11]])
    assert envs.task_name == tuple(bank.task[[7, 2, 11]])
    for name, value in obs.items():
        np.testing.assert_allclose(value, batch[name][0], atol=1e-5)
    batch, _ = envs.reset(options={"start": 4, "reset_mask": np.array([False, True, True])})
    np.testing.assert_array_equal(batch["proprio"], proprio[[7, 4, 4]])


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_state_brings_back_the_dream_exactly(toy_folder, kind):
    def new():
        if kind == "single":
            return make(toy_folder, reward="progress", max_disagreement=100.0, temperature=0.0)
        return NicoLDreamVectorEnv(4, "all", world_model=toy_folder, reward="progress", temperature=0.0)

    env = new()
    env.reset(seed=2)
    actions = np.random.default_rng(1).uniform(-1, 1, (10, *env.action_space.shape))
    for action in actions:
        env.step(action)
    state = env.get_state()
    first = [env.step(action) for action in actions]
    fresh = new()
    for again in (env, fresh):
        again.set_state(state)
        assert again.instruction == tuple(state["sentence"]) or again.instruction == str(state["sentence"][0])
        for (obs, reward, *_, info), action in zip(first, actions, strict=True):
            obs_2, reward_2, *_, info_2 = again.step(action)
            assert_same(obs, obs_2)
            np.testing.assert_array_equal(reward, reward_2)
            assert_same(info, info_2)


def test_success_is_held_for_some_steps_in_a_row():
    model, hold = toy.ToyWorldModel(), constants.HOLD_STEPS
    picture = np.full((64, 64, 3), 127, np.uint8)  # its tokens are almost zero
    options = {"image": picture, "proprio": np.zeros(4), "goal_image": picture}
    env = NicoLDreamEnv(world_model=model, initial_states=toy.initial_states(), reward="success")
    _, info = env.reset(seed=0, options=options)
    assert info["success_probability"] > 0.5 and info["is_success"] is False
    rewards, flags = [], []
    for push in (0, 0, 1, 1, 1, 1, -1, -1, -1, *[0] * hold):  # stay, leave, come back
        _, reward, _, _, info = env.step(np.full(4, push, np.float32))
        rewards.append(reward)
        flags.append(info["success_probability"] > 0.5)
    assert flags[:2] == [True, True] and not all(flags) and all(flags[-hold:])
    held = [i >= hold and all(flags[i - hold : i]) for i in range(1, len(flags) + 1)]
    assert rewards == [float(one) for one in held]


def test_progress_is_the_decrease_of_the_distance(toy_folder):
    env = make(toy_folder, reward="progress")
    _, info = env.reset(seed=0)
    for _ in range(3):
        before = info["distance"]
        _, reward, _, _, info = env.step(env.action_space.sample())
        assert reward == pytest.approx(before - info["distance"], abs=1e-6)


def test_success_threshold_comes_from_the_model():
    flags = {}
    for threshold in (0.0, 1.1):
        model = toy.ToyWorldModel(toy.ToyConfig(success_threshold=threshold))
        envs = NicoLDreamVectorEnv(8, "all", world_model=model, initial_states=toy.initial_states())
        envs.reset(seed=0)
        flags[threshold] = run_to_end(envs, 5)[1]["is_success"]
    assert flags[0.0].all() and not flags[1.1].any()


def test_disagreement_costs_and_truncates(toy_folder):
    plain, wary = make(toy_folder), make(toy_folder, disagreement_penalty=0.5, max_disagreement=2.0)
    assert plain.reset(seed=0)[1]["disagreement"] == wary.reset(seed=0)[1]["disagreement"] == 0
    ends = []
    for size in (0.1, 1.0):
        _, reward, *_ = plain.step(np.full(4, size))
        _, careful, _, cut, info = wary.step(np.full(4, size))
        assert careful == pytest.approx(reward - 0.5 * info["disagreement"], abs=1e-6)
        ends.append((cut, info["disagreement"] > 2.0))
    assert ends == [(False, False), (True, True)]


def test_bfloat16_dreams_nearly_the_same():
    ends = []
    for precision in ("float32", "bfloat16"):
        envs = NicoLDreamVectorEnv(16, "all", precision=precision)
        envs.reset(seed=0)
        for _ in range(8):
            obs, reward, *_ = envs.step(np.zeros((16, 4), np.float32))
        assert obs["embedding"].dtype == reward.dtype == np.float32
        ends.append(obs["embedding"])
    error = np.square(ends[1] - ends[0]).mean()
    assert 0 < error < 0.01  # tokens have a variance of about 1


def test_compiled_dreams_are_compiled_once_and_nearly_the_same(monkeypatch):
    compile, calls = torch.compile, []

    def captured(function):
        calls.append(function)
        return compile(function, backend="eager")

    monkeypatch.setattr(torch, "compile", captured)
    _compiled.cache_clear()
    plain, fast = (NicoLDreamVectorEnv(3, "all", compile=compiled) for compiled in (False, True))
    made = len(calls)
    other = NicoLDreamVectorEnv(3, "all", compile=True)
    assert (
        len(calls) == made > 0
        and fast.dreams.engine.model is other.dreams.engine.model is not plain.dreams.engine.model
    )
    for envs in (plain, fast):
        envs.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 4)).astype(np.float32)
    for action in actions:
        one, two = plain.step(action), fast.step(action)
        np.testing.assert_allclose(two[0]["embedding"], one[0]["embedding"], atol=1e-4)
        np.testing.assert_allclose(two[1], one[1], atol=1e-4)
    _compiled.cache_clear()


def test_starts_follow_the_share(toy_folder):
    bank = toy.initial_states()
    for starts, share in (("episode", 0.0), ("any", 0.4), (1.0, 1.0)):
        envs = NicoLDreamVectorEnv(400, "all", world_model=toy_folder, starts=starts)
        proprio = envs.reset(seed=0)[0]["proprio"]
        row = (proprio[:, None] == bank.observation["proprio"]).all(-1).argmax(1)
        assert (bank.step[row] > 0).mean() == pytest.approx(share, abs=0.08)
        assert set(bank.task[row]) == set(toy.TASKS)


# --- goal env


def test_compute_reward_exists_for_goal_envs_only(toy_folder):
    assert not hasattr(make(toy_folder), "compute_reward")
    assert not hasattr(NicoLDreamVectorEnv(2, world_model=toy_folder), "compute_reward")
    for reward in ("bounded", "energy"):
        env = NicoLDreamVectorEnv(5, world_model=toy_folder, goal_env=True, reward=reward)
        env.reset(seed=0)
        obs, rewards, *_ = env.step(np.ones((5, 4), np.float32))
        again = env.compute_reward(obs["achieved_goal"], obs["desired_goal"], [{}] * 5)
        np.testing.assert_allclose(again, rewards, rtol=1e-5)


def test_hindsight_replay_learns(toy_folder):
    env = gym.make("NicoLDream-v0", world_model=toy_folder, goal_env=True, reward="energy")
    net = {"net_arch": [16]}
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=50,
        train_freq=20,
        batch_size=16,
        policy_kwargs=net,
        seed=0,
    )
    model.learn(200)
    assert model.num_timesteps == 200 and model._n_updates > 0
