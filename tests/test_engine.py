"""The engine knows no robot: a world of one number, without goals, sentences or pictures, that ends and remembers."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.agents.policies.tensor_env import TensorVecEnv
from dream_env.dream import DreamEnv, DreamVectorEnv
from dream_env.initial_states import InitialStates
from dream_env.spec import WorldSpec
from dream_env.tensors import TensorDreams
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import Prediction
from dream_env.wrappers import WorldModelWrapper

LIMIT = 3.0


class Walk(gym.Env):
    """A walker on a line, left (0) or right (1), paid for being far to the right; it falls off beyond 3."""

    observation_space = spaces.Box(-10, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return self._see(), {}

    def step(self, action):
        self.place += 2 * int(action) - 1
        return self._see(), float(self.place), abs(self.place) > LIMIT, False, {}

    def _see(self):
        return np.array([self.place], np.float32)


class WalkModel:
    """Knows the walk, and counts the steps that it remembers."""

    spec = WorldSpec("Walk-v0", spaces.Dict({"state": Walk.observation_space}), Walk.action_space, horizon=6)
    embedding_dim, noise_dim, observed, has_memory = 1, 1, (), True
    device = torch.device("cpu")

    def encode(self, observation, previous=None):
        place = observation["state"]
        return {"place": place, "memory": torch.zeros_like(place) if previous is None else previous["memory"]}

    def step(self, state, action, noise=None, temperature=1.0):
        drift = 0 if noise is None else 0.1 * temperature * (noise - 0.5)
        place = state["place"] + 2 * action[:, None] - 1 + drift
        told = Prediction(reward=place[:, 0], terminated=(place[:, 0].abs() > LIMIT).float())
        return {"place": place, "memory": state["memory"] + 1}, told

    def embedding(self, state):
        return state["place"] / 10

    def decode(self, state):
        return {"state": state["place"]}


def starts():
    places, nothing = np.linspace(-1, 1, 9, dtype=np.float32)[:, None], np.zeros(9, int)
    return InitialStates({"state": places}, {}, nothing, np.array([""] * 9), np.array([""] * 9), nothing)


def options(**more):
    return {"world_model": WalkModel(), "initial_states": starts(), **more}


def test_a_dream_has_the_spaces_of_its_world():
    env = DreamEnv(**options(obs_type="native"))
    assert env.observation_space == Walk.observation_space and env.action_space == Walk.action_space
    check_env(env, skip_render_check=True)
    plain = DreamEnv(**options())
    assert plain.observation_space.keys() == {"embedding"}
    check_env(plain, skip_render_check=True)
    made = gym.make("Dream-v0", **options())
    assert made.metadata["render_modes"] == DreamVectorEnv(**options()).metadata["render_modes"] == []
    check_env(made.unwrapped)


def test_what_a_model_predicts_is_paid_and_ends_the_episode():
    env = DreamEnv(**options(temperature=0.0, obs_type="native"))
    obs, info = env.reset(seed=0)
    assert info == {}, "the model predicts no success"
    rewards, ends = [], []
    while not any(ends[-1:]):
        obs, reward, terminated, truncated, _ = env.step(1)
        rewards.append(reward), ends.append(terminated)
    assert rewards[-1] == pytest.approx(obs[0]) and obs[0] > LIMIT and not truncated
    env.reset(seed=0)
    assert [env.step(step % 2)[2:4] for step in range(6)] == [(False, False)] * 5 + [(False, True)], "its horizon"


def test_vector_rows_end_and_start_anew_as_single_dreams_do():
    envs, singles = DreamVectorEnv(5, **options()), [DreamEnv(**options()) for _ in range(5)]
    envs.reset(seed=0)
    for i, env in enumerate(singles):
        env.reset(seed=i)
    rng, counts = np.random.default_rng(0), np.zeros(3, int)
    for _ in range(40):
        actions = rng.integers(0, 2, 5)
        obs, rewards, terminated, truncated, info = envs.step(actions)
        for i, env in enumerate(singles):
            one, reward, *ends, _ = env.step(actions[i])
            assert reward == pytest.approx(rewards[i], abs=1e-5) and ends == [terminated[i], truncated[i]]
            counts += [*ends, not any(ends)]
            if any(ends):
                np.testing.assert_allclose(info["final_obs"][i]["embedding"], one["embedding"], atol=1e-6)
                one, _ = env.reset()
            np.testing.assert_allclose(one["embedding"], obs["embedding"][i], atol=1e-6)
    assert counts.min() > 5, "both ends occur"


def test_tensors_end_where_the_model_says():
    dreams = TensorDreams(64, **options())
    dreams.reset(seed=0)
    seen = torch.zeros(3, dtype=torch.int64)
    for _ in range(20):
        _, _, terminated, truncated, info = dreams.step(torch.randint(0, 2, (64,)))
        assert torch.equal(terminated, info["final_obs"]["embedding"][:, 0].abs() > LIMIT / 10)
        assert not (terminated & truncated).any()
        seen += torch.stack([terminated.sum(), truncated.sum(), (~terminated & ~truncated).sum()])
    assert seen.min() > 0


def test_the_real_world_wears_the_dreams_form_and_the_model_remembers():
    env = WorldModelWrapper(Walk(), WalkModel())
    obs, _ = env.reset(seed=0)
    assert env.observation_space == DreamEnv(**options()).observation_space and obs in env.observation_space
    for step in range(3):
        obs, reward, *_ = env.step(step % 2)
        assert obs["embedding"][0] == pytest.approx(env.unwrapped.place / 10)
        assert reward == pytest.approx(env.unwrapped.place) and env.state["memory"].item() == step + 1
    with pytest.raises(ValueError, match="fitted to Walk-v0"):
        WorldModelWrapper(gym.make("Pendulum-v1"), WalkModel())


def test_a_model_without_success_is_never_said_to_fail():
    dreams, tensors = DreamVecEnv(2, **options(obs_type="native")), TensorVecEnv(TensorDreams(2, **options()))
    dreams.reset(), tensors.reset()
    infos = []
    for _ in range(6):
        infos += [info for info in dreams.step(np.array([0, 1]))[3] if info]
        tensors.move(torch.tensor([0, 1]))
    infos += tensors.take_episodes()
    assert len(infos) > 3 and not any("is_success" in info for info in infos)


def test_a_model_that_tells_success_only_in_steps_starts_some_dreams_anew():
    class Teller(WalkModel):
        """Has no method `success`."""

        def step(self, *args):
            state, told = super().step(*args)
            return state, told._replace(success=torch.ones(len(state["place"])))

    dreams = DreamVectorEnv(2, **options(world_model=Teller()))
    _, start = dreams.reset(seed=0)
    dreams.step(np.array([0, 1]))
    _, info = dreams.reset(options={"reset_mask": np.array([True, False])})
    assert info["success_probability"].tolist() == [0, 1] and info.keys() == start.keys()


def test_a_reward_that_the_model_does_not_predict_is_refused():
    class Silent(WalkModel):
        """Predicts no reward."""

        def step(self, *args, **kwargs):
            state, told = super().step(*args, **kwargs)
            return state, told._replace(reward=None)

    with pytest.raises(ValueError, match="reward='environment': .* predicts no reward; accepted: a world model that"):
        DreamEnv(**options(world_model=Silent()))


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_sb3_learns_in_the_dream_and_acts_in_the_real_world(algorithm):
    size = {"n_steps": 16} if algorithm is PPO else {"learning_starts": 50}
    agent = algorithm("MlpPolicy", DreamVecEnv(8, **options(obs_type="native")), seed=0, **size)
    agent.learn(400)
    assert len(agent.ep_info_buffer) > 5
    obs, _ = Walk().reset(seed=0)
    assert agent.predict(obs)[0] in Walk.action_space


WRONG = {
    "reward": ({"reward": "energy"}, "reward='energy' measures the distance to a goal, and Walk-v0 has none"),
    "success": ({"reward": "success"}, "reward='success': .* of Walk-v0 predicts no success; accepted: 'environment'"),
    "goal_env": ({"goal_env": True}, "world without goals"),
    "pixels": ({"obs_type": "pixels"}, "Walk-v0 has no pictures"),
    "task": ({"task": "lift"}, "task='lift'"),
}


def test_starts_of_another_world_are_refused():
    with pytest.raises(ValueError, match="initial_states=None: a world model of Walk-v0 .*; accepted: a file, or an"):
        gym.make("Dream-v0", world_model=WalkModel())
    nicol = checkpoint.resolve("default") / "initial_states.npz"
    with pytest.raises(ValueError, match=r"'state' of Walk-v0 is float32 \(1,\), and they lack it; accepted"):
        DreamEnv(**options(initial_states=nicol))
    wide = replace(starts(), observation={"state": np.zeros((9, 2), np.float32)})
    with pytest.raises(ValueError, match=r"and they hold float32 \(2,\); accepted"):
        DreamEnv(**options(initial_states=wide))


def test_stable_baselines3_makes_dreams_without_pictures_by_id():
    for ask in ({}, {"render_mode": None}):  # it asks for the render mode "rgb_array" unless told otherwise
        venv = make_vec_env("Dream-v0", 2, env_kwargs={**options(), **ask})
        assert {len(part) for part in venv.reset().values()} == {2}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_world_has_not_is_refused(wrong):
    kwargs, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        DreamEnv(**options(**kwargs))
    for make in (DreamEnv, DreamVectorEnv):
        with pytest.raises(ValueError, match="render_mode='rgb_array': Walk-v0 was recorded without pictures"):
            make(**options(render_mode="rgb_array"))
    env = DreamEnv(**options())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Walk-v0 has not any"):
        env.reset(options={"instruction": "go right"})
