"""World model and policy in one network: what each sees, what practice leaves alone, and how it is learned."""

import shutil
from dataclasses import replace
from pathlib import Path

import blocks
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents.clone import encoded_frames
from dream_env.agents.clone.transformer_arguments import Arguments as CloneArguments
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.fit.dynamics.arguments import Arguments as DynamicsArguments
from dream_env.agents.fit.dynamics.command import fit as fit_dynamics
from dream_env.agents.fit.slots.arguments import Arguments as SlotArguments
from dream_env.agents.fit.slots.command import fit as fit_slots
from dream_env.agents.fit.unified.arguments import Arguments
from dream_env.agents.fit.unified.command import fit, made
from dream_env.agents.fit.unified.frames import observations, tokens_of
from dream_env.agents.fit.unified.stages import noisy
from dream_env.agents.policies import registry
from dream_env.agents.policies.practice import PractisedPolicy
from dream_env.agents.policies.protocol import Policy, Practicable
from dream_env.agents.train.arguments import Arguments as TrainArguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.dream import DreamEnv
from dream_env.language import embed
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import HasSuccess, with_goal
from dream_env.world_models.unified.model import TOKENS, UnifiedModel
from dream_env.world_models.unified.tokens import take_over

SMALL = {"width": 16, "hidden": 16, "features": 8, "batch": 4, "ahead": 2, "updates": 3, "examples": 8, "dreams": 6}


@pytest.fixture(scope="module")
def data():
    return blocks.dataset(16)


@pytest.fixture(scope="module")
def base(tmp_path_factory, data):
    """A world model of slots, its folder."""
    out = tmp_path_factory.mktemp("base")
    small = {"updates": 2, "distance_updates": 2, "own_updates": 2, "picture_size": 32, "width": 16, "batch": 4}
    fit_slots(SlotArguments(data=(), out=out, ahead=2, held_out=0.2, **small), data)
    return str(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data, base):
    """A unified model around it, its folder."""
    out = tmp_path_factory.mktemp("unified") / "model"
    fit(Arguments(data=(), out=out, base=base, hindsight=0.5, **SMALL), data)
    return str(out)


def observed(data, rows):
    words = torch.from_numpy(np.stack([embed(str(data.instruction[i])) for i in rows]))
    frames = data.offsets[rows]
    seen = {n: torch.from_numpy(np.array(part[frames])) for n, part in data.observation.items()}
    return seen | {"instruction": words}


def shown(model, data, count):
    """What a policy sees of first frames, arrays."""
    state = model.encode(observed(data, np.arange(count)))
    obs = {name: state[name].numpy() for name in (*model.observed, "instruction")}
    embedding = model.embedding(state).numpy()
    goal = embedding + np.random.default_rng(0).normal(size=embedding.shape).astype(np.float32)
    return obs | {"embedding": embedding, "goal": goal}


def test_one_folder_is_a_world_model_and_a_policy(folder):
    env = DreamEnv(world_model=folder, render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    policy = registry.load(folder)
    assert isinstance(policy, Policy) and isinstance(policy, Practicable)
    action = policy.act({name: np.asarray(part)[None] for name, part in obs.items()})[0]
    assert env.action_space.contains(action)
    _, reward, *_, info = env.step(action)
    assert np.isfinite(reward) and info["disagreement"] > 0 and env.render().shape[2] == 3
    assert obs[TOKENS].shape == env.observation_space[TOKENS].shape


def test_embeddings_and_pictures_are_those_of_the_base(folder, base, data):
    model, known = checkpoint.load(folder), checkpoint.load(base)
    seen = observed(data, np.arange(5))
    assert torch.equal(model.embedding(model.encode(seen)), known.embedding(known.encode(seen)))
    drawn, its = (one.decode(one.encode(seen)) for one in (model, known))
    assert all(torch.equal(part, its[name]) for name, part in drawn.items())
    assert not any("dynamics" in name for name in model.state_dict())
    assert model.sentence_in_embedding == known.sentence_in_embedding, "planners ask"


def test_rows_are_the_same_alone_and_among_others_in_both_roles(folder, data):
    model, policy = checkpoint.load(folder), registry.load(folder)
    state, action, noise = model.encode(observed(data, np.arange(5))), torch.rand(5, 2), torch.rand(5, 1)
    together, told = model.step(state, action, noise)
    obs = shown(model, data, 5)
    chosen = policy.act(obs)
    for i in range(5):
        one = slice(i, i + 1)
        alone, its = model.step({k: v[one] for k, v in state.items()}, action[one], noise[one])
        assert all(torch.allclose(together[k][one], alone[k], atol=1e-5) for k in state)
        assert torch.allclose(told.disagreement[one], its.disagreement, atol=1e-6)
        policy.reset()
        np.testing.assert_allclose(policy.act({k: v[one] for k, v in obs.items()})[0], chosen[i], atol=1e-5)


def test_one_look_gives_what_two_do(folder, data):
    model, policy = checkpoint.load(folder), registry.load(folder)
    obs = shown(model, data, 4)
    goal, noise = torch.from_numpy(obs["goal"]), torch.rand(4, 1)
    state = with_goal(model, model.encode(observed(data, np.arange(4))), goal)
    with torch.no_grad():
        action, after, told = model.act_and_step(state, goal, noise)
        np.testing.assert_allclose(action, policy.act(obs), atol=1e-5)
        again, its = model.step(state, action, noise)
    assert all(torch.equal(after[name], again[name]) for name in after)
    assert torch.equal(told.success, its.success)


def test_noise_picks_a_head_and_none_is_their_mean(folder, data):
    model = checkpoint.load(folder)
    state, action = model.encode(observed(data, np.array([3]))), torch.rand(1, 2)
    mean, _ = model.step(state, action)
    each = [model.step(state, action, torch.tensor([[(i + 0.5) / 3]]))[0] for i in range(3)]
    assert not torch.allclose(each[0]["slots"], each[1]["slots"])
    assert torch.allclose(torch.stack([one["slots"] for one in each]).mean(0), mean["slots"], atol=1e-5)
    still, _ = model.step(state, action, torch.tensor([[0.1]]), temperature=0.0)
    assert torch.allclose(still["slots"], mean["slots"], atol=1e-6)


def test_an_observation_with_the_state_in_it_is_a_state_again(folder, data):
    model = checkpoint.load(folder)
    state = model.encode(observed(data, np.arange(4)))
    for _ in range(2):
        state, _ = model.step(state, torch.rand(4, 2))
    env = DreamEnv(world_model=folder, obs_type="state")
    names = (*model.observed, *model.state_spaces, "instruction")
    assert set(names) <= set(env.reset(seed=0)[0])
    again = model.restore({name: state[name] for name in names})
    assert again.keys() == state.keys()
    assert all(torch.allclose(part, state[name], atol=1e-5) for name, part in again.items())
    with pytest.raises(ValueError, match="no 'memory'"):
        model.restore({name: state[name] for name in model.observed})


def test_actions_depend_on_all_that_is_shown_and_on_nothing_that_follows(folder, data):
    """The action query comes before action and next tokens: no gradient leads from it to the stream that foresees."""
    policy = registry.load(folder)
    obs = {name: torch.from_numpy(part).float() for name, part in shown(policy, data, 3).items()}
    for part in policy.parameters():
        part.requires_grad_(True)
    policy(obs).sum().backward()
    assert all(part.grad is None for part in policy.dream.parameters())
    assert all(part.grad is not None for part in [*policy.trunk.parameters(), *policy.action_stream.parameters()])
    for name in policy.inputs:
        changed = obs | {name: obs[name] + torch.randn(obs[name].shape)}
        assert (policy(changed) - policy(obs)).abs().max() > 1e-6, name


def test_shuffled_futures_leave_what_a_policy_sees_as_it_is(base, data):
    known = checkpoint.load(base)
    model = UnifiedModel.around(known)
    seen = observations(model, known, data, None)
    other = {name: np.array(part) for name, part in data.observation.items()}
    for first, last in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        for part in other.values():
            part[first + 5 : last] = part[first + 5 : last][::-1]  # what comes after the fifth step
    again = observations(model, known, replace(data, observation=other), None)
    early = torch.cat([torch.arange(first, first + 5) for first in data.offsets[:-1]])
    for name in ("embedding", *seen.vectors):
        one, two = (getattr(x, name, None) if name == "embedding" else x.vectors[name] for x in (seen, again))
        assert torch.equal(one[early], two[early])
        assert not torch.equal(one, two)


def test_cached_observations_are_those_that_were_encoded(base, data, tmp_path, monkeypatch):
    known = checkpoint.load(base)
    model = UnifiedModel.around(known)
    monkeypatch.setattr(encoded_frames, "_bound", lambda *_: True)
    first, again = (observations(model, known, data, tmp_path) for _ in range(2))
    assert first is not again and again.bound and list(first.vectors) == list(again.vectors)
    assert torch.equal(first.embedding, again.embedding) and torch.equal(first.instruction, again.instruction)


def test_the_dream_does_not_know_what_was_asked_for(folder, data):
    model = checkpoint.load(folder)
    seen = observed(data, np.arange(4))
    one, other = (model.encode(seen | {"instruction": words}) for words in (seen["instruction"], torch.randn(4, 64)))
    action = torch.rand(4, 2)
    assert torch.equal(model.step(one, action)[0]["slots"], model.step(other, action)[0]["slots"])


def test_practice_offers_the_action_stream_alone_and_leaves_the_dream_as_it_is(folder, data, tmp_path):
    policy = registry.load(folder)
    offered = {name for name, part in policy.named_parameters() if part.requires_grad}
    assert offered and all(name.startswith("action_stream.") for name in offered)
    sizes = {"steps": 64, "n_envs": 4, "critic_warmup": 0, "validation_episodes": 0, "rate": 1e-2, "reward": "energy"}
    args = TrainArguments(out=tmp_path / "rl", world_model=folder, init=folder, starts="episode", **sizes)
    train(args, make_env(args), None, progress=False)
    before, after = checkpoint.load(folder).state_dict(), checkpoint.load(tmp_path / "rl").state_dict()
    changed = {name for name, part in before.items() if not torch.equal(part, after[name])}
    assert changed and all(name.startswith("action_stream.") for name in changed)
    env = DreamEnv(world_model=tmp_path / "rl")  # and it is a dream with its starts, still
    assert env.reset(seed=0)[0].keys() == DreamEnv(world_model=folder).reset(seed=0)[0].keys()


def test_the_practised_policy_has_the_weights_of_the_stream_in_its_optimizer(folder):
    env = DreamEnv(world_model=folder)
    made = PractisedPolicy(env.observation_space, env.action_space, lambda _: 1e-3, clone=folder)
    trained = {id(part) for part in made.actor_parameters()}
    assert trained == {id(part) for part in made.actor.action_stream.parameters()}
    obs = {name: torch.zeros(2, *space.shape) for name, space in env.observation_space.items()}
    assert made.value(obs).shape == (2,)


def test_what_is_taught_comes_from_a_policy_and_from_its_dreams(folder, base, data, tmp_path):
    vla = str(tmp_path / "vla")
    small = {"width": 16, "depth": 1, "latents": 2, "updates": 2, "batch": 8, "world_model": base, "goal": True}
    clone(CloneArguments(data=(), out=tmp_path / "vla", **small), [data], checkpoint.load(base))
    sizes = SMALL | {"updates": 60, "learning_rate": 1e-2}
    args = Arguments(data=(), out=tmp_path / "fused", base=base, teacher_policy=vla, **sizes)
    model, found = fit(args, data)
    assert model.config.chunk == 1 and found["dreams"] == 6
    _, short = fit(replace(args, out=tmp_path / "short", updates=1), data)
    assert found["action_loss"] < 0.5 * short["action_loss"]
    assert registry.load(tmp_path / "fused").act(shown(model, data, 3)).shape == (3, 2)


def test_next_tokens_are_learned(base, data, tmp_path):
    off = []
    for updates in (1, 80):
        sizes = SMALL | {"updates": updates, "batch": 8, "learning_rate": 1e-2}
        model, _ = fit(Arguments(data=(), out=tmp_path / str(updates), base=base, action_weight=0, **sizes), data)
        state = model.encode(observed(data, np.arange(len(data))))
        for k in range(4):
            state, _ = model.step(state, torch.from_numpy(data.action[data.offsets[:-1] + k]))
        off.append(np.abs(state["hand"].numpy() - data.observation["hand"][data.offsets[:-1] + 4]).mean())
    assert off[1] < 0.4 * off[0]


def test_noise_is_on_what_actions_are_told_but_not_on_the_goal(base):
    model = UnifiedModel.around(checkpoint.load(base), width=16, hidden=16, features=8, sees=True)
    generator, scale = torch.Generator().manual_seed(0), torch.linspace(0.1, 2, model.embedding_dim)
    sizes = {"instruction": 64, "goal": model.embedding_dim, "embedding": model.embedding_dim}
    obs = {name: torch.randn(4000, size, generator=generator) for name, size in sizes.items()}
    obs["embedding"] *= scale
    model.action_stream.measure(torch.zeros(4000, model.tokens.robot), obs)
    told = noisy(model, obs, 0.5, generator)
    apart = {name: (told[name] - part).std(0) for name, part in obs.items()}
    torch.testing.assert_close(apart["embedding"], 0.5 * scale, rtol=0.1, atol=0)
    torch.testing.assert_close(apart["instruction"], torch.full((64,), 0.5), rtol=0.1, atol=0)
    assert not apart["goal"].any()


def test_encoded_episodes_are_read_again_from_the_cache(base, data, tmp_path):
    known = checkpoint.load(base)
    model = UnifiedModel.around(known)
    for read in (tokens_of, observations):
        fresh, kept = read(model, known, data, tmp_path), read(model, known, data, tmp_path)
        ours, its = (getattr(one, "observation", None) or one.vectors for one in (fresh, kept))
        assert all(torch.equal(part, its[name]) for name, part in ours.items())
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def mover(seed):
    """A point on a line that goes where it is pushed; its goal is where it ends."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (6, 1)).astype(np.float32)
    place = np.concatenate([rng.uniform(-1, 1, (1, 1)), 0.2 * action]).cumsum(0).astype(np.float32)
    return Episode(
        observation={"place": place},
        action=action,
        reward=-np.abs(place[1:, 0]),
        terminated=False,
        success=np.arange(7) == 6,
        goal={"place": place[-1]},
        seed=seed,
        kind="play",
        task="go",
        instruction="",
        labels={},
    )


def test_a_world_of_numbers_with_goals_becomes_tokens_too(tmp_path):
    spec = WorldSpec(
        "mover", spaces.Dict({"place": spaces.Box(-3, 3, (1,), np.float32)}), spaces.Box(-1, 1, (1,), np.float32), 6,
        goals=True,
    )  # fmt: skip
    data = EpisodeDataset.stack([mover(i) for i in range(12)], spec)
    out = tmp_path / "base"
    fit_dynamics(DynamicsArguments(data=(), out=out, updates=2, width=8, members=2, held_out=0.2), data)
    model, _ = fit(Arguments(data=(), out=tmp_path / "one", base=str(out), hindsight=1.0, **SMALL), data)
    env = gym.make("dream_env:Dream-v0", world_model=str(tmp_path / "one"))
    obs, _ = env.reset(seed=0)
    policy = registry.load(tmp_path / "one")
    env.step(policy.act({name: part[None] for name, part in obs.items()})[0])
    assert policy.inputs == (TOKENS, "goal") and not isinstance(model, HasSuccess)
    told = model.step(model.encode({"place": torch.zeros(2, 1)}), torch.zeros(2, 1))[1]
    assert told.reward.shape == (2,) and told.success is None


def test_what_does_not_fit_is_refused(base, folder, data, tmp_path):
    with pytest.raises(ValueError, match="kind 'state_grounded'; accepted: slots, dynamics"):
        UnifiedModel.around(checkpoint.load("state_grounded"))
    with pytest.raises(ValueError, match="provides .* no 'tokens'"):
        registry.load(folder).config.check_encoder(base)
    registry.load(folder).config.check_encoder(folder)
    with pytest.raises(ValueError, match="recorded_weight"):
        Arguments(data=(), out=tmp_path, recorded_weight=0.2)
    with pytest.raises(ValueError, match="lacks"):
        registry.load(folder).act({"embedding": np.zeros((1, 64))})
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "spec.json").unlink()
    with pytest.raises(ValueError, match=r"spec\.json"):
        registry.load(tmp_path / "bare")


def test_hindsight_is_refused_in_a_world_without_goals(base, data, tmp_path):
    known = checkpoint.load(base)
    known.spec, spec = replace(known.spec, goals=False), known.spec
    try:
        with pytest.raises(ValueError, match="hindsight=0.5: .* no goals; accepted: 0"):
            fit(Arguments(data=(), out=tmp_path / "x", base=base, hindsight=0.5, **SMALL), data)
    finally:
        known.spec = spec


@pytest.mark.parametrize(
    ("weights", "said"),
    [({}, "World model and policy"), ({"action_weight": 0.0}, "World model ("), ({"token_weight": 0.0}, "Policy (")],
)
def test_it_is_told_which_half_has_learned_nothing(folder, weights, said):
    model = checkpoint.load(folder)
    assert made(model, Arguments(data=(), out=Path("x"), **weights)).startswith(said)


def test_a_folder_whose_actions_learned_nothing_is_no_policy(base, data, tmp_path):
    fit(Arguments(data=(), out=tmp_path / "world", base=base, action_weight=0, **SMALL), data)
    assert DreamEnv(world_model=tmp_path / "world").reset(seed=0)[0]
    with pytest.raises(ValueError, match="were not trained.*accepted of a policy: .*--teacher-policy"):
        registry.load(tmp_path / "world")


def test_weights_are_taken_over_but_not_those_of_the_dynamics(base):
    known = checkpoint.load(base)
    model = UnifiedModel.around(known)
    before = model.base.painter.background.clone()
    model.base.painter.background.zero_()
    take_over(model.base, known)
    assert torch.equal(model.base.painter.background, before)


def test_actions_can_do_without_goals_and_without_next_tokens(base, data, tmp_path):
    sizes = SMALL | {"token_weight": 0.0, "goal": False}
    model, _ = fit(Arguments(data=(), out=tmp_path / "control", base=base, **sizes), data)
    torch.manual_seed(0)
    fresh = UnifiedModel.around(checkpoint.load(base), width=16, hidden=16, features=8, goal=False)
    assert all(
        torch.equal(part, fresh.state_dict()[f"dream.{name}"]) for name, part in model.dream.state_dict().items()
    )
    policy = registry.load(tmp_path / "control")
    assert "goal" not in policy.inputs and policy.act(shown(model, data, 2)).shape == (2, 2)
    space = DreamEnv(world_model=tmp_path / "control").observation_space
    assert policy.critic(space).model.action_stream.names == ("instruction", "goal", "embedding")
    with pytest.raises(ValueError, match="without goals"):
        Arguments(data=(), out=tmp_path, hindsight=0.5, goal=False)
