"""Dreams as tensors: the same rewards as the vector env, gradients, and no way to the host."""

from typing import get_args

import numpy as np
import pytest
import torch
import toy

from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.rewards import RewardName
from dream_env.tensors import TensorDreams
from dream_env.world_models import checkpoint

KWARGS = {"world_model": toy.ToyWorldModel(), "initial_states": toy.initial_states()}
CERTAIN = KWARGS | {"temperature": 0.0}
"""Without noise, which tensors draw from another generator than arrays."""


def play(dreams, actions, start):
    """Rewards, ends, successes and distances of an episode, `(T, B)` each."""
    dreams.reset(start=torch.from_numpy(start))
    steps = []
    for action in torch.from_numpy(actions):
        _, reward, _, ended, info = dreams.step(action)
        steps.append({"reward": reward, "ended": ended} | {key: info[key] for key in ("is_success", "distance")})
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}


@pytest.mark.parametrize("reward", [name for name in get_args(RewardName) if name != "environment"])
@pytest.mark.parametrize("kwargs", [{}, {"disagreement_penalty": 0.1, "max_disagreement": 5.0}])
def test_same_starts_and_actions_give_the_same_as_the_vector_env(reward, kwargs):
    kwargs, rng = CERTAIN | {"reward": reward} | kwargs, np.random.default_rng(0)
    actions, start = rng.uniform(-1.2, 1.2, (EPISODE_STEPS, 6, 4)).astype(np.float32), np.arange(6)
    tensors = play(TensorDreams(6, task="all", **kwargs), actions, start)
    env = NicoLDreamVectorEnv(6, "all", **kwargs)
    env.reset(seed=0, options={"start": start})
    alive = np.ones(6, bool)  # later episodes begin elsewhere
    for t, action in enumerate(actions):
        _, rewards, _, ended, info = env.step(action)
        last = info.get("final_info", info)
        for name, values in (("reward", rewards), ("ended", ended)):
            assert tensors[name][t].numpy()[alive] == pytest.approx(values[alive], abs=1e-5), (t, name)
        for name in ("is_success", "distance"):
            values = np.where(ended, last[name], info[name])
            assert tensors[name][t].numpy()[alive] == pytest.approx(values[alive], rel=1e-5), (t, name)
        alive &= ~ended
    assert not alive.any()


def test_default_world_model_gives_the_same_rewards():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (EPISODE_STEPS, 5, 4)).astype(np.float32)
    start = rng.integers(0, 100, 5)
    tensors = play(TensorDreams(5, task="all", temperature=0.0), actions, start)
    env = NicoLDreamVectorEnv(5, "all", temperature=0.0)
    env.reset(options={"start": start})
    rewards = np.stack([env.step(action)[1] for action in actions])
    assert tensors["reward"].numpy() == pytest.approx(rewards, abs=1e-5)


def test_ended_dreams_start_anew_and_show_their_end():
    dreams = TensorDreams(4, task="push", max_episode_steps=3, **KWARGS)
    obs, _ = dreams.reset(seed=1)
    for step in range(6):
        before = obs
        obs, _, terminated, truncated, info = dreams.step(torch.zeros(4, 4))
        assert truncated.tolist() == [step % 3 == 2] * 4 and not terminated.any()
        final = info["final_obs"]
        assert torch.equal(final["goal"], before["goal"])
        assert torch.equal(final["embedding"], obs["embedding"]) is not bool(truncated.all())
    assert obs["embedding"].shape == (4, 1024) and obs["instruction"].shape == (4, 64)


def rows_of(dreams):
    """Rows of the initial states that dreams have begun with."""
    known = dreams.engine.initial_states.observation["proprio"]
    return (dreams.state["proprio"].numpy()[:, None] == known).all(-1).argmax(1)


def test_seed_fixes_what_is_drawn():
    first, second = (TensorDreams(50, task="all", seed=seed, **KWARGS) for seed in (0, 1))
    one = first.reset(seed=3)[0]["embedding"]
    assert torch.equal(one, second.reset(seed=3)[0]["embedding"])
    assert not torch.equal(one, first.reset()[0]["embedding"])


@pytest.mark.parametrize(("starts", "share"), [("episode", 0.0), ("any", 0.4), (1.0, 1.0)])
def test_starts_have_their_shares(starts, share):
    bank = KWARGS["initial_states"]
    dreams = TensorDreams(4000, task="all", starts=starts, **KWARGS)
    rows = rows_of(dreams)
    assert (bank.step[rows] > 0).mean() == pytest.approx(share, abs=0.03)
    assert [(bank.task[rows] == task).mean() for task in bank.tasks] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert set(bank.task[rows_of(TensorDreams(500, task="push", **KWARGS))]) == {"push"}


def test_temperature_makes_dreams_differ():
    start = torch.zeros(8, dtype=torch.long)
    for temperature in (0.0, 1.0):
        dreams = TensorDreams(8, temperature=temperature, **KWARGS)
        dreams.reset(start=start)
        spread = float(dreams.step(torch.ones(8, 4))[0]["embedding"].std(0).max())
        assert (spread > 1e-3) is bool(temperature)


def test_pixels_are_drawn_on_the_device():
    dreams = TensorDreams(2, obs_type="pixels", **KWARGS)
    obs, *_ = dreams.step(torch.zeros(2, 4))
    assert obs["pixels"].shape == (2, 64, 64, 3) and obs["pixels"].dtype == torch.uint8
    assert set(obs) == set(dreams.single_observation_space.spaces)


def test_gradients_are_those_of_finite_differences():
    dreams = TensorDreams(3, task="all", differentiable=True, reward="progress", **CERTAIN)
    start, chance = torch.arange(3), torch.Generator().manual_seed(0)
    actions = 1.6 * torch.rand(EPISODE_STEPS, 3, 4, generator=chance) - 0.8

    def returns(actions):
        dreams.reset(start=start)
        return sum(dreams.step(action)[1] for action in actions).sum()

    actions.requires_grad_()
    (gradient,) = torch.autograd.grad(returns(actions), actions)
    assert gradient[0].abs().min() > 0, "the first action is felt to the end"
    with torch.no_grad():
        direction = torch.randn(actions.shape, generator=chance)
        change = (returns(actions + 1e-3 * direction) - returns(actions - 1e-3 * direction)) / 2e-3
    assert change.item() == pytest.approx((gradient * direction).sum().item(), rel=3e-2)


def test_gradients_flow_through_the_default_model_only_if_asked():
    action = torch.zeros(2, 4, requires_grad=True)
    assert not TensorDreams(2).step(action)[1].requires_grad
    dreams = TensorDreams(2, differentiable=True)
    for _ in range(2):  # a second time through a freed graph would raise
        dreams.detach()
        for _ in range(3):
            reward = dreams.step(action)[1]
        (gradient,) = torch.autograd.grad(reward.sum(), action)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    with torch.no_grad():
        assert not dreams.step(action)[1].requires_grad


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_step_never_asks_the_host(temperature):
    """A "meta" tensor has no numbers: every copy to the host raises, as does every choice that needs one."""
    dreams = TensorDreams(64, temperature=temperature, max_disagreement="calibrated", disagreement_penalty=0.1)
    model, kept = dreams.model, [(part, dict(part._parameters), dict(part._buffers)) for part in dreams.model.modules()]
    names = [name for name, value in vars(dreams).items() if isinstance(value, torch.Tensor)]
    try:
        for part in model.modules():
            for tensors in (part._parameters, part._buffers):
                tensors.update({name: x.to("meta") for name, x in tensors.items() if x is not None})
        for name in names:
            setattr(dreams, name, getattr(dreams, name).to("meta"))
        for name in ("_table", "_carry", "_obs"):
            setattr(dreams, name, {key: x.to("meta") for key, x in getattr(dreams, name).items()})
        dreams.device = dreams.engine.device = torch.device("meta")
        dreams._generator = None
        for _ in range(2):
            obs, reward, *_ = dreams.step(torch.zeros(64, 4, device="meta"))
        assert reward.device.type == obs["embedding"].device.type == "meta"
    finally:
        for part, parameters, buffers in kept:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
    assert checkpoint.load("default") is model and model.device.type == "cpu"


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_envs": 0},
        {"num_envs": "2"},
        {"max_episode_steps": 0},
        {"goal_env": True},
        {"reward": "no"},
        {"seed": None},
    ],
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match="accepted"):
        TensorDreams(**{"num_envs": 2} | KWARGS | wrong)
    dreams = TensorDreams(2, **KWARGS)
    with pytest.raises(ValueError, match=r"action has shape \(4,\); accepted: \(2, 4\)"):
        dreams.step(torch.zeros(4))
    with pytest.raises(ValueError, match=r"action is a ndarray; accepted: \(2, 4\), a tensor"):
        dreams.step(np.zeros((2, 4)))
    for start in (torch.arange(3), torch.tensor([0, -1]), torch.tensor([0.0, 1.0]), [0, 999]):
        with pytest.raises(ValueError, match=r"start=.*accepted: \(2,\) rows of the initial states, 0 to 23"):
            dreams.reset(start=start)
    assert dreams.reset(start=[0, 1])[0]["proprio"].shape == (2, 4)
    for seed in (-1, 1.5, "one"):
        with pytest.raises(ValueError, match="seed=.*; accepted: an integer, 0 to"):
            dreams.reset(seed=seed)
    assert torch.equal(dreams.reset(seed=np.int64(7))[0]["proprio"], dreams.reset(seed=7)[0]["proprio"])


def test_observations_are_the_callers_own():
    dreams = TensorDreams(2, **KWARGS)
    obs, _ = dreams.reset(seed=0)
    before = dreams.state["proprio"].clone()
    for part in obs.values():
        part.mul_(0)
    assert torch.equal(dreams.state["proprio"], before)
    double, single = (
        dreams.reset(seed=0) and dreams.step(action)[0] for action in (torch.ones(2, 4).double(), torch.ones(2, 4))
    )
    assert torch.equal(double["proprio"], single["proprio"])
    obs, *_, info = dreams.step(torch.ones(2, 4))
    before = info["final_obs"]["proprio"].clone()
    obs["proprio"].mul_(0)
    assert torch.equal(info["final_obs"]["proprio"], before)


def test_observations_after_a_step_show_the_embedding_of_their_state():
    dreams, envs = TensorDreams(3, **CERTAIN), NicoLDreamVectorEnv(3, "all", **CERTAIN)
    envs.reset(seed=0)
    for obs, engine, carry in (
        (dreams.step(torch.ones(3, 4))[0], dreams.engine, lambda: dreams._carry),
        (envs.step(np.ones((3, 4), np.float32))[0], envs.dreams.engine, lambda: envs.dreams.carry),
    ):
        np.testing.assert_allclose(obs["embedding"], engine.observe(carry())["embedding"], atol=1e-6)
    saved = envs.dreams.get_state()
    envs.step(-np.ones((3, 4), np.float32))
    envs.dreams.set_state(saved)
    np.testing.assert_allclose(envs.dreams.observation()["embedding"], obs["embedding"], atol=1e-6)
