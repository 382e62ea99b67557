"""The general VLA: what it looks at, what its heads make, how it is saved and practised."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from dream_env.agents.planners.foresight import Foresight, ForesightConfig
from dream_env.agents.policies import registry
from dream_env.agents.policies.latents import Attention
from dream_env.agents.policies.ppo import ClonePPO
from dream_env.agents.policies.practice import PractisedPolicy
from dream_env.agents.policies.protocol import Policy, Practicable
from dream_env.agents.policies.tensor_env import TensorVecEnv
from dream_env.agents.policies.transformer_vla import TransformerVLA, TransformerVLAConfig
from dream_env.language import WORDS, word_rows, word_vectors
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.tensors import TensorDreams


def config(**changes):
    sizes = {"tokens": 9, "channels": 5, "action_low": (-1.0, 0.0), "action_high": (1.0, 4.0), "vectors": {"state": 3}}
    small = {"width": 16, "latents": 3, "heads": 2, "hidden": 32, "depth": 1, "chunk": 3}
    return TransformerVLAConfig(**{**sizes, **small, "language": "words", **changes})


def observations(count, seed=0, sentences=("push the red cube", "lift the blue one")):
    rng = np.random.default_rng(seed)
    parts = {"embedding": 45, "goal": 45, "state": 3, "instruction": 64}
    obs = {name: rng.normal(size=(count, size)).astype(np.float32) for name, size in parts.items()}
    return obs | {"words": np.stack([word_rows(sentences[i % len(sentences)]) for i in range(count)])}


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return TransformerVLA(config(**changes)).eval()


def test_a_word_has_a_row_whatever_it_is_and_no_word_has_none():
    rows = word_rows("push the zyxwv cube")
    assert rows.shape == (WORDS,) and (rows[:4] > 0).all() and not rows[4:].any()
    assert not np.array_equal(rows, word_rows("the cube push zyxwv"))
    assert rows.max() < len(word_vectors()) and not word_vectors()[0].any()
    assert word_rows(" ".join(["word"] * 99)).all()


@pytest.mark.parametrize("head", ["gaussian", "k", "flow"])
def test_actions_lie_within_the_bounds_and_chunks_are_proposed(head):
    policy, obs = made(head=head), observations(4)
    assert isinstance(policy, Policy) and isinstance(policy, Practicable)
    chunks = policy.propose(obs, 6)
    assert chunks.shape == (4, 6, 3, 2)
    assert (chunks >= [-1, 0]).all() and (chunks <= [1, 4]).all()
    np.testing.assert_allclose(chunks[:, 0, 0], policy.act(obs), atol=1e-6)
    assert np.abs(chunks[:, 1] - chunks[:, 0]).max() > 1e-3
    tensors = {name: torch.from_numpy(part) for name, part in obs.items()}
    mean, std = policy.distribution(tensors)
    np.testing.assert_allclose(mean.detach(), policy.act(obs), atol=1e-5)
    np.testing.assert_allclose(std, [0.17, 0.34], atol=1e-6)
    torch.manual_seed(0)
    drawn = policy.act(obs, deterministic=False)
    assert not np.allclose(drawn, policy.act(obs))


def test_rows_of_a_batch_do_not_touch_each_other():
    policy, obs = made(), observations(4)
    alone = [policy.act({name: part[i : i + 1] for name, part in obs.items()})[0] for i in range(4)]
    np.testing.assert_allclose(policy.act(obs), alone, atol=1e-5)


def test_the_order_of_words_counts_and_so_does_every_part_that_is_read():
    policy = made(goal=True, compares=True)
    policy.trunk.order.data *= 50
    obs, other = observations(1), observations(1, seed=1)
    assert policy.inputs == ("embedding", "state", "words", "goal")
    for name in policy.inputs:
        changed = obs | {name: word_rows("the cube red push")[None] if name == "words" else other[name]}
        assert np.abs(policy.act(changed) - policy.act(obs)).max() > 1e-5, name
    with pytest.raises(ValueError, match=r"lacks \['goal'\]"):
        policy.act({name: part for name, part in obs.items() if name != "goal"})


def test_a_policy_that_learned_from_goals_but_is_not_shown_any_does_not_look_at_them():
    policy, obs = made(compares=True), observations(2)
    without = {name: part for name, part in obs.items() if name != "goal"}
    np.testing.assert_array_equal(policy.act(obs), policy.act(without))


def test_a_chunk_is_carried_out_before_it_looks_again_and_reset_forgets_it():
    policy, first, second = made(execute=2), observations(2), observations(2, seed=5)
    chunk = policy.propose(first, 1)[:, 0]
    policy.act(first)
    np.testing.assert_allclose(policy.act(second), chunk[:, 1])
    fresh = policy.act(second)
    np.testing.assert_allclose(fresh, policy.propose(second, 1)[:, 0, 0])
    policy.reset()
    np.testing.assert_allclose(policy.act(second), fresh)


def test_heads_with_several_ways_learn_two_where_a_gaussian_learns_their_mean():
    """Right or left of an obstacle: the mean of both runs into it."""
    generator, way = torch.Generator().manual_seed(0), {}
    for head in ("gaussian", "k", "flow"):
        policy = made(head=head, modes=2, chunk=1, language="none", action_low=(-1.0,), action_high=(1.0,))
        optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
        obs = {name: torch.from_numpy(part) for name, part in observations(64).items()}
        for _ in range(300):
            side = 0.7 * (2.0 * torch.randint(2, (64, 1, 1), generator=generator) - 1)
            loss = policy.loss(obs, side, torch.ones(64, 1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        way[head] = policy.propose(observations(64), 16)[..., 0, 0]
    assert np.abs(way["gaussian"][:, 0]).mean() < 0.35
    assert np.abs(np.abs(way["k"][:, :2]) - 0.7).mean() < 0.2 and (way["k"][:, 0] * way["k"][:, 1] < 0).mean() > 0.8
    assert np.abs(np.abs(way["flow"][:, 1:]) - 0.7).mean() < 0.25
    assert 0.2 < (way["flow"][:, 1:] > 0).mean() < 0.8


def test_it_is_saved_and_read_as_any_policy(tmp_path):
    policy = made(head="k", goal=True, compares=True)
    registry.save(policy, tmp_path / "policy", "A policy for tests.")
    again = registry.load(tmp_path / "policy")
    assert again.config == replace(policy.config, world_model="unlabelled")  # what "default" stands for
    np.testing.assert_array_equal(again.act(observations(3)), policy.act(observations(3)))


def test_wrong_numbers_are_refused():
    for wrong in ({"execute": 4}, {"action_low": (1.0, 0.0)}, {"head": "best"}, {"std": 0}, {"width": 15}):
        with pytest.raises(ValueError, match="accepted"):
            config(**wrong)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A policy that sees through the toy world model, its folder and the world model's."""
    root = tmp_path_factory.mktemp("seeing")
    world = toy.save(root / "world")
    torch.manual_seed(0)
    sizes = {"tokens": 64, "channels": 16, "vectors": {"proprio": 4}, "action_low": (-1.0,) * 4}
    policy = TransformerVLA(config(**sizes, action_high=(1.0,) * 4, world_model=world))
    registry.save(policy.eval(), root / "policy", "")
    return policy, str(root / "policy"), world


def test_it_acts_in_a_dream_that_shows_words_and_on_pictures_alike(seeing):
    policy, _, world = seeing
    env = NicoLDreamEnv(world_model=world, obs_type="words")
    obs, _ = env.reset(seed=3)
    assert env.observation_space.contains(obs)
    action = policy.act({name: part[None] for name, part in obs.items()})[0]
    assert env.action_space.contains(action)
    assert np.array_equal(obs["words"], word_rows(env.instruction))
    obs, *_ = env.step(action)
    assert np.array_equal(obs["words"], word_rows(env.instruction))
    start = toy.initial_states()
    seen = {name: part[0] for name, part in start.observation.items()}
    policy.reset()
    assert policy.act_on(seen, "push the red cube").shape == (4,)


def test_foresight_takes_it(seeing):
    policy, folder, world = seeing
    plan = ForesightConfig(
        policy=folder, world_model=world, candidates=3, horizon=4, execute=2, objective={"energy": 1.0}
    )
    env = NicoLDreamEnv(world_model=world, obs_type="words")
    obs, _ = env.reset(seed=0)
    seen = {name: part[None] for name, part in obs.items()}

    class Model(toy.ToyWorldModel):
        def restore(self, observation):
            tokens = observation["embedding"].unflatten(-1, (-1, 16))
            return self.state_of(tokens, observation.get("proprio"), observation.get("instruction"))

    assert Foresight(plan, Model(), policy).act(seen).shape == (1, 4)


@pytest.mark.parametrize("head", ["gaussian", "k", "flow"])
def test_ppo_improves_it_in_dreams_and_gives_it_back(seeing, tmp_path, head):
    policy, _, world = seeing
    other = TransformerVLA(TransformerVLAConfig(**{**vars(policy.config), "head": head, "execute": 2}))
    registry.save(other, tmp_path / "clone", "")
    env = TensorVecEnv(TensorDreams(8, world_model=world, obs_type="words", reward="energy"))
    kwargs = {"policy_kwargs": {"clone": str(tmp_path / "clone")}, "n_steps": 6, "batch_size": 16, "critic_warmup": 0}
    model = ClonePPO(PractisedPolicy, env, **kwargs)
    before = model.policy.vla()
    model.learn(8 * 6 * 2)
    after = model.policy.vla()
    obs, _ = NicoLDreamEnv(world_model=world, obs_type="words").reset(seed=0)
    seen = {name: part[None] for name, part in obs.items()}
    assert after.config.execute == 1
    assert np.abs(after.act(seen) - before.act(seen)).max() > 0
    prior = {name: part for name, part in model.policy.prior.state_dict().items()}
    assert all(torch.equal(part, other.state_dict()[name]) for name, part in prior.items())
    np.testing.assert_allclose(model.predict(seen, deterministic=True)[0], after.act(seen), atol=1e-5)


def test_ppo_improves_it_in_any_environment_of_stable_baselines(seeing):
    _, folder, world = seeing
    env = make_vec_env(lambda: NicoLDreamEnv(world_model=world, obs_type="words", reward="energy"), 2)
    kwargs = {"policy_kwargs": {"clone": folder}, "n_steps": 8, "batch_size": 8, "critic_warmup": 0}
    model = ClonePPO(PractisedPolicy, env, **kwargs)
    before = model.policy.vla().trunk.latents
    model.learn(32)
    assert not torch.equal(model.policy.vla().trunk.latents, before)


def test_ppo_refuses_a_world_that_does_not_show_what_it_reads(seeing):
    _, folder, world = seeing
    env = TensorVecEnv(TensorDreams(4, world_model=world, reward="energy"))
    with pytest.raises(ValueError, match="words"):
        ClonePPO(PractisedPolicy, env, policy_kwargs={"clone": folder}, n_steps=4, batch_size=4)


def test_the_critic_sees_the_goal_though_the_policy_does_not():
    policy = made()
    space = spaces.Dict({k: spaces.Box(-9, 9, (p.shape[1],), np.float32) for k, p in observations(1).items()})
    critic = policy.critic(space)
    obs = {name: torch.from_numpy(part) for name, part in observations(2).items()}
    other = obs | {"goal": torch.from_numpy(observations(2, seed=9)["goal"])}
    assert critic(obs).shape == (2,) and not torch.equal(critic(obs), critic(other))


def test_a_policy_is_read_once_unless_it_is_written_anew_and_callers_share_no_state(tmp_path):
    registry.save(made(execute=2), tmp_path, "For tests.")
    one, two = registry.load_once(str(tmp_path)), registry.load_once(str(tmp_path))
    one.act(observations(2))
    assert one.trunk is two.trunk and len(one._left) == 1 and not two._left
    registry.save(made(seed=1), tmp_path, "For tests.")
    new = registry.load_once(str(tmp_path))
    assert not torch.equal(new.trunk.latents, one.trunk.latents)


@pytest.mark.parametrize("private", [0, 1])
@pytest.mark.parametrize("same", [False, True])
def test_attention_among_few_equals_scaled_dot_product_attention(monkeypatch, same, private):
    torch.manual_seed(0)
    attention = Attention(16, 4)
    latents = torch.randn(3, 1 if same and not private else 5, 16, requires_grad=True)
    context, hidden = torch.randn(4, 5, 16, requires_grad=True), torch.rand(4, 5) < 0.4
    hidden[0] = False
    given = (latents, None, None, private) if private else (latents, context, hidden)
    found = []
    for few in (0, 100):
        monkeypatch.setattr("dream_env.agents.policies.latents.FEW", few)
        after = attention(*given)
        pulled = torch.autograd.grad(after.sin().sum(), (latents, *attention.parameters()))
        found.append([after, *pulled])
    for slow, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
