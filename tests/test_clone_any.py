"""Cloning for any data set and any world model: what is imitated, how data are mixed, where the policy acts."""

import json
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import small_world
import torch
from gymnasium import spaces

from dream_env.agents.clone import kinds, transformer_clone
from dream_env.agents.clone.encoded_frames import encode
from dream_env.agents.clone.transformer_arguments import Arguments
from dream_env.agents.clone.transformer_clone import (
    Batches,
    Cloning,
    clone,
    config_of,
    demonstrations,
    main,
    token_shape,
)
from dream_env.agents.data import behaviors
from dream_env.agents.eval import any_world
from dream_env.agents.fit import kinds as fit_kinds
from dream_env.agents.fit.dynamics.arguments import Arguments as FitArguments
from dream_env.agents.fit.dynamics.command import fit
from dream_env.agents.policies import registry
from dream_env.agents.policies.transformer_vla import TransformerVLA
from dream_env.agents.run.cli import command
from dream_env.agents.run.worlds import make_real
from dream_env.agents.train.arguments import Arguments as TrainArguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import CRITIC_RATE, PRACTISED_RATE, make_env, make_model
from dream_env.data.episodes import EpisodeDataset
from dream_env.language import word_rows
from dream_env.world_models import checkpoint
from dream_env.world_models.dynamics import DynamicsModel

SMALL = {"updates": 4, "batch": 8, "width": 16, "depth": 1, "latents": 2, "chunk": 2}

SIZES = {
    "updates": 2,
    "picture_updates": 2,
    "width": 8,
    "members": 2,
    "batch": 4,
    "latent": 4,
    "picture_size": 8,
    "memory": 4,
}


class Gripper(gym.Env):
    """The world of `small_world`: what is done moves the state, the pictures are noise."""

    observation_space = small_world.SPEC.observation
    action_space = small_world.SPEC.action
    task_description = "go there"

    def __init__(self):
        self.goal_observation = episode(0).goal

    def _seen(self):
        drawn = {name: self.np_random.integers(0, 256, self.observation_space[name].shape, np.uint8)
                 for name in ("top", "wrist")}  # fmt: skip
        return {**drawn, "state": self.place.copy(), "force": np.zeros(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(3, np.float32), 0
        return self._seen(), {}

    def step(self, action):
        self.place[:2] = np.clip(self.place[:2] + 0.1 * action, -1, 1)
        self.steps += 1
        return self._seen(), float(self.place[0]), False, self.steps == 5, {"is_success": bool(self.place[0] > 0.4)}


gym.register("GripperForTests-v0", Gripper)


def episode(seed, steps=6):
    """Goes right where the sentence says so, else left."""
    right = seed % 2 == 0
    rng, one = np.random.default_rng(seed), small_world.episode(seed, steps)
    action = np.tile(np.array([1.0 if right else -1.0, 0.0], np.float32), (steps, 1))
    labels = {"meant": 0.5 * action, "pose": one.labels["pose"]}
    changes = {"kind": "demo" if seed < 8 else "play", "labels": labels, "success": np.full(steps + 1, seed % 4 < 2)}
    place = np.cumsum(np.pad(action, ((1, 0), (0, 1))), 0).astype(np.float32) / 10
    observation = {**one.observation, "state": place + 0.01 * rng.uniform(-1, 1, place.shape).astype(np.float32)}
    changes["goal"] = {name: part[-1] for name, part in one.observation.items() if name != "force"}
    sentence = "move to the right" if right else "move to the left"
    return small_world.episode(seed, steps, action=action, instruction=sentence, observation=observation, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder of the data, and of a world model, hardly fitted, of a world with goals, sentences and two cameras."""
    root = tmp_path_factory.mktemp("any")
    spec = replace(small_world.SPEC, name="GripperForTests-v0", horizon=5)
    small_world.write(root / "data", *(episode(i, 5 + i % 2) for i in range(12)), spec=spec)
    data = EpisodeDataset.load(root / "data")
    fit(FitArguments(data=(root / "data",), out=root / "world", **SIZES), data)
    return root / "data", str(root / "world")


@pytest.fixture
def args(world, tmp_path):
    return Arguments(data=(world[0],), out=tmp_path / "out", world_model=world[1], **SMALL)


@pytest.fixture
def data(world):
    return EpisodeDataset.load(world[0])


def test_the_kind_of_policy_follows_the_data_and_can_be_named(world, written, monkeypatch):
    assert kinds.default(["--data", str(world[0])]) == "transformer"
    assert kinds.default(["--data", str(written)]) == "vla"
    monkeypatch.setenv("HOME", str(world[0].parent))
    for kind in (kinds, fit_kinds):
        assert kind.default(["--data", f"~/{world[0].name}"]) == kind.default(["--data", str(world[0])])
    with pytest.raises(SystemExit, match="policy='best' is not known; accepted: 'vla', 'transformer'"):
        command("clone", ["--policy", "best", "--data", str(world[0]), "--out", "x"])


def test_demonstrations_are_those_of_the_kind_else_those_that_succeeded(args, data):
    assert set(demonstrations(data, args).kind) == {"demo"}
    assert len(demonstrations(data, replace(args, demonstrations=3))) == 3
    assert set(demonstrations(data, args, first=False).seed) == {0, 1, 4, 5, 8, 9}
    data.kind[:] = "unknown"
    assert set(demonstrations(data, args).seed) == {0, 1, 4, 5, 8, 9}
    data.success = None
    assert len(demonstrations(data, args)) == 12
    for wrong in ({"demonstrations": 13}, {"kind": "expert"}, {"tasks": ("fly",)}, {"per_task": 13}):
        with pytest.raises(ValueError, match="accepted"):
            demonstrations(data, replace(args, **wrong))


def test_too_few_demonstrations_are_told_by_what_was_asked_for(args, data):
    for name, told in (
        ("demonstrations", "12 demonstrations; accepted: 1 to"),
        ("per_task", "of a task; accepted: 1 to"),
    ):
        with pytest.raises(ValueError, match=f"{name}=99: the data hold .*{told}"):
            data.kind[:] = "demo"
            demonstrations(data, replace(args, **{name: 99}))
    data.task = np.array(["push"] * 11 + ["lift"])
    data.kind[-1] = "play"  # the only one of its task is no demonstration
    with pytest.raises(ValueError, match="no demonstrations of a task"):
        demonstrations(data, replace(args, tasks=("push", "lift"), per_task=3))


def test_frames_are_seen_as_the_real_environment_shows_them(world, data):
    """The wrapper's memory, goal, sentence and all."""
    from dream_env.wrappers import WorldModelWrapper

    class Recorded(Gripper):
        def reset(self, *, seed=None, options=None):
            self.number = 0
            return {name: part[0] for name, part in one.observation.items()}, {}

        def step(self, action):
            self.number += 1
            return {name: part[self.number] for name, part in one.observation.items()}, 0.0, False, False, {}

    one = data[3]
    env = WorldModelWrapper(Recorded(), world[1], obs_type="words")
    env.unwrapped.task_description, env.unwrapped.goal_observation = one.instruction, one.goal
    frames = encode(checkpoint.load(world[1]), data)
    first = int(data.offsets[3])
    obs, _ = env.reset()
    for step in range(len(one)):
        row = frames.observed(torch.tensor([first + step]))
        for name in obs:
            np.testing.assert_allclose(row[name][0], obs[name], atol=5e-3, err_msg=name)
        obs, *_ = env.step(one.action[step])


def test_instructions_in_another_language_are_cloned(args, data, tmp_path):
    right = np.char.endswith(data.instruction, "right")
    told = replace(data, instruction=np.where(right, "nach rechts bewegen", "nach links bewegen"))
    fit(FitArguments(data=(), out=tmp_path / "world", **SIZES), told)
    model = checkpoint.load(tmp_path / "world")
    seen = encode(model, told).observed(torch.from_numpy(told.offsets[:-1]))["instruction"].numpy()
    assert len(np.unique(seen, axis=0)) == 2 and (seen[right] == seen[right][0]).all()
    clone(replace(args, world_model=str(tmp_path / "world")), [told], model)


def test_chunks_end_with_their_episodes_and_hindsight_shows_a_later_frame(world, data):
    frames = encode(checkpoint.load(world[1]), data)
    end = int(frames.last[0])
    chunk, known = frames.chunks(torch.tensor([end - 2]), 4)
    assert known.tolist() == [[True, True, False, False]]
    np.testing.assert_array_equal(chunk[0, :2], data.action[end - 2 : end])
    rows = torch.tensor([end - 1, end - 3])
    seen = frames.hindsight(rows, torch.Generator().manual_seed(0))
    assert torch.equal(seen["goal"][0], frames.embedding[end].float())
    assert any(torch.equal(seen["goal"][1], frames.embedding[end - i].float()) for i in range(3))
    assert not seen["words"].any() and not seen["instruction"].any()


def test_all_frames_are_encoded_once_for_demonstrations_and_hindsight(args, data, monkeypatch):
    drawn, encoded = {}, []

    def counted(model, episodes, imitates="action"):
        encoded.append(len(episodes))
        return encode(model, episodes, imitates)

    class Looked(Cloning):
        def batches(self, policy, own, more, every):
            drawn.update(own=own, every=every, rows=self.rows, others=self.others)
            return super().batches(policy, own, more, every)

    monkeypatch.setattr(transformer_clone, "encode", counted)
    clone(replace(args, hindsight=0.5, imitates="meant"), [data], checkpoint.load(args.world_model), Looked)
    assert encoded == [len(data)]
    model = checkpoint.load(args.world_model)
    for name, rows, imitates in (("own", "rows", "meant"), ("every", "others", "action")):
        apart = encode(model, data.take(drawn[rows]), imitates)
        assert torch.equal(drawn[name].target, apart.target) and torch.equal(drawn[name].last, apart.last)
        torch.testing.assert_close(drawn[name].embedding, apart.embedding, atol=0.02, rtol=0)


def test_labels_can_be_imitated_instead_of_actions(world, data):
    model = checkpoint.load(world[1])
    assert torch.equal(encode(model, data, "meant").target, 0.5 * encode(model, data).target)
    with pytest.raises(ValueError, match="pose.*of its length: .'meant'.$"):
        encode(model, data, "pose")


def test_data_of_another_world_are_refused(args, world, data):
    smaller = replace(data.spec, action=spaces.Box(-2, 2, (1,), np.float32))
    with pytest.raises(ValueError, match="action"):
        encode(checkpoint.load(world[1]), replace(data, spec=smaller))
    with pytest.raises(ValueError, match="action"):  # before anything is encoded
        clone(args, [replace(data, spec=smaller)], checkpoint.load(world[1]))


def test_the_embedding_is_one_token_unless_the_state_has_it_as_several(world, data, toy_folder):
    from dataset import make_episode

    from dream_env.nicol.spec import SPEC

    assert token_shape(checkpoint.load(world[1]), data) == (1, checkpoint.load(world[1]).embedding_dim)
    nicol = EpisodeDataset.stack([make_episode(0).general()], SPEC)
    assert token_shape(checkpoint.load(toy_folder), nicol) == (64, 16)


def test_sentences_decide_after_cloning(args, data):
    policy, figures = clone(
        replace(args, updates=300, batch=64, rate=3e-3, noise=0.0), [data], checkpoint.load(args.world_model)
    )
    assert figures["train_error"] < 0.02
    obs = encode(checkpoint.load(args.world_model), data).observed(torch.tensor([0, int(data.offsets[1])]))
    seen = {name: part.numpy() for name, part in obs.items()}
    for sentence, way in (("move to the right", 1), ("move to the left", -1)):
        told = seen | {"words": np.tile(word_rows(sentence), (2, 1))}
        assert (way * policy.act(told)[:, 0] > 0.5).all()


def test_shares_of_a_batch_are_those_that_are_asked_for(args, data, world):
    asked = replace(args, data=(world[0], world[0]), share=0.25, hindsight=0.5, goal=True)
    model = checkpoint.load(args.world_model)
    own, counted = encode(model, data), []
    policy = TransformerVLA(config_of(asked, model, data))
    batches = Batches(asked, own, own, own)
    drawn = batches._drawn
    batches._drawn = lambda frames, count, *rest, **how: (counted.append(count), drawn(frames, count, *rest, **how))[1]
    assert batches.loss(policy, torch.Generator().manual_seed(0)).isfinite()
    assert counted == [2, 2, 4]


@pytest.mark.parametrize("head", ["gaussian", "flow"])
def test_a_killed_run_goes_on_and_ends_as_one_without_a_pause(args, data, tmp_path, monkeypatch, head):
    from dream_env.agents.clone import transformer_clone as module

    args = replace(args, head=head)
    model, made = checkpoint.load(args.world_model), module.Run
    whole, _ = clone(args, [data], model)
    monkeypatch.setattr(module, "Run", lambda *a, **k: made(*a, **k, save_seconds=0))
    error, losses = module.Batches.loss, []

    def killed(self, *rest):
        if len(losses) == 2:
            raise KeyboardInterrupt
        losses.append(1)
        return error(self, *rest)

    again = replace(args, out=tmp_path / "again")
    monkeypatch.setattr(module.Batches, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        clone(again, [data], model)
    monkeypatch.setattr(module.Batches, "loss", error)
    resumed, _ = clone(again, [data], model)
    for name, part in whole.state_dict().items():
        assert torch.equal(part, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match="other settings"):
        clone(replace(again, rate=0.5), [data], model)
    with pytest.raises(ValueError, match="data_checksum .*, now"):
        clone(again, [replace(data, action=-data.action)], model)


def test_a_run_does_not_go_on_with_another_encoder(args, data):
    model = checkpoint.load(args.world_model)
    clone(args, [data], model)
    other = DynamicsModel(model.config, model.spec).eval()
    with pytest.raises(ValueError, match="with the encoder that .* had before it was fitted again; accepted: another"):
        clone(args, [data], other)


def evaluated_and_practised(folder, world, out):
    """Evaluates a policy in both worlds and practises it for a moment; what it looks with has to change."""
    played = any_world.evaluate({"clone": str(folder)}, "GripperForTests-v0", world[1], 1, 0)
    rows = any_world.summarize(played)
    assert [row["world"] for row in rows] == ["real", "dream"]
    text = any_world.write(played, 0, {}, out.parent / "evaluated")
    told = json.loads((out.parent / "evaluated" / "results.json").read_text())["table"]
    assert [row["world"] for row in told] == ["real", "dream"] and all(row["return"] in text for row in told)
    asked = TrainArguments(
        out=out,
        init=str(folder),
        world_model=world[1],
        n_envs=4,
        steps=4 * 5 * 2,
        reward="energy",
        critic_warmup=0,
        validation_episodes=0,
    )
    rates = [make_model(each, make_env(each)).lr_schedule(1.0) for each in (asked, replace(asked, rate=1e-3))]
    assert rates == [PRACTISED_RATE * registry.load(folder).config.std, 1e-3], (
        "a first update of the usual rate would undo the clone"
    )
    learner = make_model(asked, make_env(asked)).learn(asked.steps)
    actor, critic = (group["lr"] for group in learner.policy.optimizer.param_groups)
    assert critic == pytest.approx(CRITIC_RATE * actor) and actor > 0
    train(asked, make_env(asked), None, progress=False)
    practised = registry.load(out)
    assert not torch.equal(practised.trunk.latents, registry.load(folder).trunk.latents)
    return practised


@pytest.mark.parametrize("changes", [{}, {"goal": True, "hindsight": 0.5, "head": "flow"}])
def test_the_policy_is_evaluated_and_practised_in_both_worlds(args, world, tmp_path, changes):
    main(replace(args, **changes))
    found = registry.load(args.out)
    assert found.config.obs_type == "words" and found.config.goal == bool(changes)
    practised = evaluated_and_practised(args.out, world, tmp_path / "practised")
    one = EpisodeDataset.load(world[0])[0]
    seen, goal = ({name: part for name, part in parts.items()} for parts in (one.observation, one.goal))
    action = practised.act_on({name: part[0] for name, part in seen.items()}, "move to the left", goal)
    assert action.shape == (2,) and (np.abs(action) <= 2).all()


def test_a_policy_is_recorded_in_a_world_with_goals_and_sentences(args, data, world):
    clone(replace(args, goal=True, hindsight=0.5), [data], checkpoint.load(args.world_model))
    recorded = behaviors.make_env("GripperForTests-v0")
    one = behaviors.record(recorded, behaviors.Job(0, "policy", 3, "", str(args.out), max_steps=5))
    assert len(one) == 5 and one.instruction == "go there" and set(one.observation) == set(data.observation)
    np.testing.assert_array_equal(one.observation["state"][1:, :2], np.cumsum(0.1 * one.action, 0, dtype=np.float32))
    assert set(one.goal) == {"top", "wrist", "state"} and np.abs(one.reward).sum() > 0


def test_in_a_world_with_goals_policies_are_paid_alike_whatever_they_observe(world):
    paid = []
    for form in ("native", "embedding"):
        env = make_real("GripperForTests-v0", world[1], obs_type=form)
        env.reset(seed=0)
        paid.append([env.step(np.ones(2, np.float32))[1] for _ in range(3)])
    assert paid[0] == paid[1] and max(paid[0]) < 0, "minus the distance to the goal"


def test_a_policy_is_evaluated_through_the_encoder_that_it_learned_with_alone(args, data, world, tmp_path):
    clone(args, [data], checkpoint.load(args.world_model))
    sizes = {"updates": 1, "picture_updates": 1, "width": 8, "members": 2, "batch": 4, "latent": 4, "picture_size": 8}
    fit(FitArguments(data=(world[0],), out=tmp_path / "other", memory=4, seed=1, **sizes), data)
    with pytest.raises(ValueError, match="its encoder .* is not the one"):
        any_world.evaluate({"one": str(args.out)}, None, str(tmp_path / "other"), 1, 0)


def test_what_cannot_be_cloned_or_practised_is_refused(args, data, world, tmp_path):
    model = checkpoint.load(args.world_model)
    with pytest.raises(ValueError, match="share"):
        replace(args, share=0.5)
    with pytest.raises(ValueError, match="less than 1"):
        replace(args, data=(world[0], world[0]), share=0.5, hindsight=0.5)
    endless = SimpleNamespace(spec=replace(model.spec, action=gym.spaces.Box(-np.inf, np.inf, (2,))))
    with pytest.raises(ValueError, match=r"Record with agents\.collect --action-low"):
        config_of(args, endless, data)
    clone(args, [data], model)
    with pytest.raises(ValueError, match="accepted: ppo"):
        asked = TrainArguments(out=tmp_path / "x", init=str(args.out), world_model=world[1], algo="sac", steps=9)
        train(asked, None, None)
