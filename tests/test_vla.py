"""The VLA by itself, on disk, and inside stable-baselines3's policies."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.agents.nicol import rollouts
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.sentences import sentences
from dream_env.agents.nicol.vla import VLA, VLAConfig, object_state
from dream_env.agents.policies import registry
from dream_env.agents.policies.actors import VLAPolicy, VLASACPolicy
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.agents.policies.ppo import ClonePPO
from dream_env.agents.policies.sac import CloneSAC
from dream_env.language import embed
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.nicol.spec import SPEC
from dream_env.observations import observation_space as space_of
from dream_env.tensors import TensorDreams


def observation_space(size):
    return space_of(SPEC, size, ("proprio",))


def action_space():
    return SPEC.action


OFF_POLICY = {"buffer_size": 200, "learning_starts": 8, "batch_size": 16}


@pytest.fixture
def clone(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "clone"
    policy.save(VLA(), folder, "A policy for tests.")
    return folder


@pytest.fixture(scope="module")
def dream():
    return {"world_model": toy.ToyWorldModel(), "initial_states": toy.initial_states(), "task": "all"}


def observations(count):
    space = observation_space(1024)
    rng = np.random.default_rng(0)
    return {k: rng.uniform(-1, 1, (count, *s.shape)).astype(np.float32) for k, s in space.items()}


def test_is_small_and_bounded():
    vla = VLA()
    assert sum(p.numel() for p in vla.parameters()) < 100_000
    action, state = vla.predict({k: 50 * v for k, v in observations(8).items()})
    assert action.shape == (8, 4) and np.abs(action).max() <= 1 and state is None


def test_predicts_one_as_many_and_samples_around_the_mean():
    vla, obs = VLA(), observations(3)
    batch, _ = vla.predict(obs)
    one, _ = vla.predict({key: value[1] for key, value in obs.items()})
    np.testing.assert_allclose(one, batch[1], atol=1e-6)
    many = np.stack([vla.predict(obs, deterministic=False)[0] for _ in range(400)])
    np.testing.assert_allclose(many.std(0), 0.17, atol=0.04)
    np.testing.assert_allclose(many.mean(0), batch, atol=0.05)


def test_never_sees_the_goal():
    vla, obs = VLA(), observations(3)
    action, _ = vla.predict(obs)
    np.testing.assert_array_equal(vla.predict(obs | {"goal": obs["goal"] + 9})[0], action)
    del obs["goal"]
    np.testing.assert_array_equal(vla.predict(obs)[0], action)


def test_reads_the_named_cube_with_a_frozen_reader(tmp_path, dream):
    torch.manual_seed(0)
    vla, obs = VLA(VLAConfig(reads=True)), observations(3)
    policy.save(vla, tmp_path / "policy", "A policy that reads.")
    loaded = policy.load(tmp_path / "policy")
    np.testing.assert_array_equal(loaded.predict(obs)[0], vla.predict(obs)[0])
    with torch.no_grad():
        vla.trunk.target_selector.color.bias += torch.tensor([9.0, -9.0, 0.0, 0.0])
    assert np.abs(loaded.predict(obs)[0] - vla.predict(obs)[0]).max() > 1e-4
    agent = ClonePPO(
        VLAPolicy, DreamVecEnv(4, **dream), n_steps=4, batch_size=8, critic_warmup=0, learning_rate=1e-2,
        policy_kwargs={"clone": str(tmp_path / "policy")},
    )  # fmt: skip
    agent.learn(32)
    after = agent.policy.vla()
    pairs = zip(after.trunk.state_estimator.parameters(), loaded.trunk.state_estimator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(after.trunk.target_selector.color.weight, loaded.trunk.target_selector.color.weight)
    critic = agent.policy.vf_features_extractor
    pairs = zip(critic.state_estimator.parameters(), loaded.trunk.state_estimator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the critic reads as the actor does"
    assert not torch.equal(critic.target_selector.color.weight, loaded.trunk.target_selector.color.weight)


@pytest.mark.parametrize("part, value", [("proprio", np.zeros(3)), ("embedding", np.zeros((2, 1024)))])
def test_refuses_wrong_shapes(part, value):
    obs = {key: rows[0] for key, rows in observations(1).items()}
    with pytest.raises(ValueError, match=f"{part}.*accepted"):
        VLA().predict(obs | {part: value})
    del obs[part]
    with pytest.raises(ValueError, match=part):
        VLA().predict(obs)


def test_acts_on_pixels_and_words(tmp_path, dream):
    vla = VLA(VLAConfig(world_model=toy.save(tmp_path / "toy")))
    env = NicoLDreamEnv(obs_type="pixels", **dream)
    bank = toy.initial_states()
    seen, words = {name: part[0] for name, part in bank.observation.items()}, "lift the red cube"
    options = {"image": seen["pixels"], "proprio": seen["proprio"], "instruction": words}
    obs, _ = env.reset(seed=0, options=options)
    np.testing.assert_allclose(obs["instruction"], embed(words))
    for action in (vla.act_on(seen, words), vla.act_on({**obs, **seen}, words, goal=seen)):
        np.testing.assert_allclose(action, vla.predict(obs)[0], atol=1e-5)


def test_comes_back_from_disk_unchanged(clone):
    loaded, obs = policy.load(clone), observations(4)
    torch.manual_seed(0)
    np.testing.assert_array_equal(loaded.predict(obs)[0], VLA().predict(obs)[0])
    files = {file.name for file in clone.iterdir()}
    assert files == {"config.json", "model.safetensors", "README.md"}


def test_knows_through_which_encoder_it_learned(tmp_path):
    worlds = [toy.save(tmp_path / str(seed), toy.ToyWorldModel(toy.ToyConfig(seed=seed))) for seed in (0, 1)]
    known = fingerprint(toy.ToyWorldModel())
    policy.save(VLA(VLAConfig(world_model=worlds[0], encoder_id=known)), tmp_path / "policy", "card")
    config = policy.load(tmp_path / "policy").config
    assert config.encoder_id == known and len(set(known)) == len(known)
    blurred = tuple(1.005 * number for number in known)  # as another device may see it
    for each in (config, replace(config, encoder_id=blurred), replace(config, encoder_id=None)):
        each.check_encoder(worlds[0])
    with pytest.raises(ValueError, match=f"world_model='{worlds[1]}': .* that of '{worlds[0]}' .*agents.clone"):
        config.check_encoder(worlds[1])
    replace(config, encoder_id=None).check_encoder(worlds[1])
    saved = str(tmp_path / "policy")
    assert rollouts.env_kwargs(saved, "default")["world_model"] == worlds[0]
    with pytest.raises(ValueError, match="its encoder"):
        rollouts.env_kwargs(saved, worlds[1])
    stranger = VLA(replace(config, world_model=worlds[1]))
    with pytest.raises(ValueError, match="its encoder"):
        stranger.act_on(toy.initial_states().observation, "lift the red cube")


@pytest.mark.parametrize("name", [*registry.SHIPPED, *registry.ALIASES])
def test_the_shipped_clones_fit_the_shipped_world_model(name):
    config = registry.load(name).config
    assert config.encoder_id is not None
    config.check_encoder(config.world_model)


def test_the_default_world_model_is_the_one_that_a_policy_names(capsys):
    named = registry.named_world_model
    assert named("default", "bc5") == "state_grounded" and "which the policy names" in capsys.readouterr().out
    assert named("default", "unlabelled") == named("default", None) == "unlabelled" and not capsys.readouterr().out
    assert named("somewhere", "bc5") == "somewhere"


def test_the_default_clone_is_that_of_a_shipped_world_model():
    assert registry.suiting("default", "state_grounded") == "state_grounded"
    assert registry.suiting("default", "unlabelled") == registry.suiting("default", "runs/model") == "default"
    assert registry.suiting("bc5", "state_grounded") == "bc5" and registry.suiting(None, "state_grounded") is None


def test_a_policy_names_the_model_that_the_default_was(tmp_path):
    policy_ = registry.load("unlabelled")
    policy_.config = replace(policy_.config, world_model="default")
    registry.save(policy_, tmp_path, "")
    assert registry.load(tmp_path).config.world_model == "unlabelled"


def test_missing_files_are_named(clone, tmp_path):
    with pytest.raises(FileNotFoundError, match="agents.clone"):
        policy.load(tmp_path / "nowhere")
    (clone / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        policy.load(clone)
    (model := tmp_path / "checkpoint.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="runs the code in it; accepted: .* --trust"):
        policy.load(model)
    with pytest.raises(ValueError, match="is a file; accepted: a folder"):
        policy.load(clone / "README.md")


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("model.safetensors", lambda content: content[: len(content) // 2]),
        ("model.safetensors", lambda content: b"foreign"),
        ("config.json", lambda content: content[:-9]),
        ("config.json", lambda content: b"[]"),
        ("config.json", lambda content: content.replace(b'"vla"', b'"latent"')),
        ("config.json", lambda content: content.replace(b'"hidden"', b'"wide"')),
        ("config.json", lambda content: content.replace(b'"hidden": 128', b'"hidden": 1e12')),
        ("config.json", lambda content: content.replace(b"0.17", b"NaN")),
        ("config.json", lambda content: content.replace(b"128", b"64")),
    ],
)
def test_damaged_files_are_refused(clone, name, spoil):
    (clone / name).write_bytes(spoil((clone / name).read_bytes()))
    with pytest.raises(ValueError, match="agents.clone"):
        policy.load(clone)


@pytest.mark.parametrize(
    "algorithm, actor, kwargs",
    [
        (ClonePPO, VLAPolicy, {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "critic_warmup": 0}),
        (CloneSAC, VLASACPolicy, {**OFF_POLICY, "critic_warmup": 0}),
    ],
)
def test_is_the_actor_of_both_algorithms(algorithm, actor, kwargs, clone, dream, tmp_path):
    model = algorithm(actor, DreamVecEnv(2, **dream), policy_kwargs={"clone": str(clone)}, **kwargs)
    obs = observations(5)
    before = policy.load(clone).predict(obs)[0]
    np.testing.assert_allclose(model.predict(obs, deterministic=True)[0], before, atol=1e-6)
    model.learn(48)
    after = model.predict(obs, deterministic=True)[0]
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(model.policy.vla().predict(obs)[0], after, atol=1e-6)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], after)
    model.policy.save(tmp_path / "policy")
    loaded = actor.load(tmp_path / "policy")
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], after)


def test_sac_knows_its_divergence_from_the_clone(clone):
    policy_ = VLASACPolicy(observation_space(1024), action_space(), lambda _: 1e-3, clone=str(clone))
    actor, obs = policy_.actor, {key: torch.from_numpy(value) for key, value in observations(6).items()}
    drawn, apart = policy_.drawn(obs)
    assert apart.abs().max() < 1e-5
    assert 0 < (drawn - actor(obs, deterministic=True)).abs().mean() < 0.17, "it explores as the clone does"
    with torch.no_grad():
        actor.mu.bias += 0.17
        actor.log_std.bias += 1
    moved = 4 * ((np.e**2 + 1) / 2 - 1 - 0.5)  # KL of Gaussians with one deviation between means, e times as wide
    torch.testing.assert_close(policy_.drawn(obs)[1], torch.full((6,), moved), rtol=1e-3, atol=0)
    assert not any(parameter.requires_grad for parameter in policy_.prior.parameters())


def test_sac_can_leave_its_first_updates_to_the_critics(clone, dream, tmp_path):
    kwargs = {**OFF_POLICY, "policy_kwargs": {"clone": str(clone)}, "gradient_steps": 1, "train_freq": 1}
    model = CloneSAC(VLASACPolicy, DreamVecEnv(2, **dream), **kwargs, kl_coef=0.1, critic_warmup=4)
    before, critic = model.policy.vla().action.weight, model.critic.state_dict()["qf0.0.weight"].clone()
    updates = model.learning_starts // 2 + 1  # two dreams a step
    model.learn(2 * (updates + 2))
    assert 0 < model._n_updates < 4 and torch.equal(model.policy.vla().action.weight, before)
    assert not torch.equal(model.critic.state_dict()["qf0.0.weight"], critic)
    model.save(tmp_path / "model")
    loaded = CloneSAC.load(tmp_path / "model", env=model.get_env())
    loaded.learn(24, reset_num_timesteps=False)
    assert not torch.equal(loaded.policy.vla().action.weight, before)


def test_gradients_reach_actions_through_what_the_policy_reads(dream):
    torch.manual_seed(0)
    vla = VLA(VLAConfig(reads=True, queries=0))
    dreams = TensorDreams(4, differentiable=True, reward="energy", temperature=0.0, **dream)
    bias, change = vla.action.bias, torch.randn(4)

    def total(shift):
        with torch.no_grad():
            bias.add_(shift)
        obs, _ = dreams.reset(start=torch.arange(4))
        result = torch.zeros(())
        for _ in range(5):
            obs, reward, *_ = dreams.step(vla(obs))
            result = result + reward.sum()
        with torch.no_grad():
            bias.sub_(shift)
        return result

    (gradient,) = torch.autograd.grad(total(torch.zeros(4)), bias)
    with torch.no_grad():
        slope = (total(0.02 * change) - total(-0.02 * change)) / 0.04
    assert float(gradient @ change) == pytest.approx(float(slope), rel=0.02)
    obs, _ = dreams.reset(start=torch.arange(4))
    obs, *_ = dreams.step(action := torch.zeros(4, 4, requires_grad=True))
    target = vla.trunk.target_selector(object_state(vla.trunk.state_estimator, obs, "embedding"), obs["instruction"])
    (through,) = torch.autograd.grad(target.sum(), action)
    assert through.abs().max() > 0, "not only by the set-point"
    assert not any(weight.requires_grad for weight in vla.trunk.state_estimator.parameters())


def test_critic_sees_the_goal(clone):
    actor = VLAPolicy(observation_space(1024), action_space(), lambda _: 1e-3, clone=str(clone))
    obs = {key: torch.from_numpy(value) for key, value in observations(6).items()}
    elsewhere = obs | {"goal": obs["goal"] + 1}
    assert (actor.predict_values(obs) - actor.predict_values(elsewhere)).abs().max() > 1e-3


def test_a_world_of_another_size_is_refused(clone):
    with pytest.raises(ValueError, match="1024"):
        VLAPolicy(observation_space(512), action_space(), lambda _: 1e-3, clone=str(clone))
    with pytest.raises(ValueError, match="no visual input; accepted"):
        VLA(VLAConfig(queries=0))
    assert json.loads((clone / "config.json").read_text())["kind"] == "vla"


def test_a_sentence_never_heard_is_taken_for_the_nearest_known_one():
    heard, new = sentences("train"), sentences("test")
    known, said = (torch.tensor(np.stack([embed(one.words) for one in some])) for some in (heard, new))
    assert torch.equal(policy.nearest_known(known, known), known)
    meant = [heard[int((known == row).all(1).nonzero()[0, 0])] for row in policy.nearest_known(said, known)]
    right = np.mean([(a.task, a.color) == (b.task, b.color) for a, b in zip(meant, new, strict=True)])
    assert right > 0.95
    nothing = torch.zeros(1, 64)
    assert torch.equal(policy.nearest_known(nothing, known), nothing)  # like no known one
    assert policy.nearest_known(said, known[:0]) is said


def test_known_sentences_are_kept(tmp_path):
    vla = VLA(VLAConfig(sentences=3))
    vla.trunk.known.copy_(torch.randn(3, 64).clamp(-1, 1))
    policy.save(vla, tmp_path / "policy", "card")
    again, obs = policy.load(tmp_path / "policy"), observations(5)
    assert torch.equal(again.trunk.known, vla.trunk.known)
    heard = obs | {"instruction": vla.trunk.known[[0, 1, 2, 0, 1]].numpy()}
    near = heard | {"instruction": heard["instruction"] + 0.01}
    assert np.array_equal(again.predict(heard)[0], again.predict(near)[0])
