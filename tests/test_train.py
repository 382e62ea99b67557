"""Reinforcement learning of the VLA: the anchor, validation, going on after a kill."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from stable_baselines3.common.vec_env import VecEnv

from dream_env.adapters.sb3 import RewardWeighting
from dream_env.agents.nicol import vla as policy
from dream_env.agents.policies import registry
from dream_env.agents.policies.ppo import ClonePPO
from dream_env.agents.policies.sb3 import SB3Policy
from dream_env.agents.run.cli import command, parse
from dream_env.agents.train.arguments import Arguments, Terms
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import LEARNERS, make_env, make_model, prepare, terms_of
from dream_env.agents.train.validation import validate
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD
from dream_env.observations import observation_space
from dream_env.rewards import OUTCOME

TESTS = Path(__file__).parent


class Rewarding(VecEnv):
    """Random observations in episodes of one step; the reward is the first action."""

    def __init__(self, num_envs=64):
        super().__init__(num_envs, observation_space(SPEC, 1024, ("proprio",)), SPEC.action)
        self.rng = np.random.default_rng(0)

    def reset(self):
        spaces = self.observation_space.spaces.items()
        draw = {k: self.rng.uniform(-1, 1, (self.num_envs, *s.shape)) for k, s in spaces}
        return {key: value.astype(np.float32) for key, value in draw.items()}

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        done = np.ones(self.num_envs, bool)
        return self.reset(), self.actions[:, 0].copy(), done, [{} for _ in done]

    def close(self): ...
    def get_attr(self, attr_name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, attr_name, value, indices=None): ...
    def env_method(self, method_name, *args, indices=None, **kwargs): ...
    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


def change(folders, kl_coef, critic_warmup=0, rollouts=12):
    """Change of the mean first action by some rollouts of PPO."""
    env = Rewarding()
    model = ClonePPO(
        env=env,
        kl_coef=kl_coef,
        critic_warmup=critic_warmup,
        n_steps=4,
        batch_size=128,
        n_epochs=4,
        learning_rate=1e-3,
        policy_kwargs={"clone": folders[1]},
        seed=0,
    )
    obs = env.reset()
    model.learn(rollouts * 4 * env.num_envs)
    before, after = policy.load(folders[1]).predict(obs)[0], model.policy.vla().predict(obs)[0]
    return (after - before)[:, 0].mean()


def test_ppo_finds_the_reward_and_stays_near_the_clone_if_asked_to(folders):
    free, held = change(folders, kl_coef=0.0), change(folders, kl_coef=10.0)
    assert free > 0.15
    assert abs(held) < 0.05


@pytest.mark.parametrize(("other_steps", "last_step", "bootstrap"), [OUTCOME, (1.0, 24.0, False), (1.0, 3.0, True)])
def test_steps_are_paid_as_they_weigh(other_steps, last_step, bootstrap):
    rng = np.random.default_rng(0)

    class Told(Rewarding):
        """Pays at random; every second step ends the episodes."""

        steps = 0

        def step_wait(self):
            obs, rewards, dones, infos = super().step_wait()
            self.steps += 1
            dones[:] = self.steps % 2 == 0
            self.told = rng.random(self.num_envs).astype(np.float32)
            return obs, self.told, dones, [{"TimeLimit.truncated": bool(dones[0])} for _ in dones]

    world = Told(8)
    env = RewardWeighting(world, other_steps, last_step, bootstrap)
    assert set(env.reset()) == set(env.observation_space.spaces)
    for step in range(1, 5):
        _, rewards, dones, infos = env.step(np.ones((8, 4), np.float32))
        assert rewards.dtype == np.float32 and dones.all() == (step % 2 == 0)
        np.testing.assert_allclose(rewards, world.told * (last_step if step % 2 == 0 else other_steps))
        assert all(info["TimeLimit.truncated"] == (bootstrap and step % 2 == 0) for info in infos)


def test_who_starts_from_a_clone_is_paid_the_distance_to_the_goal(args):
    assert args.reward_in(goals=True) == "energy"
    assert args.terms(200, goals=False) == Terms(0.97), "the environment's own reward is discounted"
    assert args.settings(goals=False)["reward"] == "environment" == replace(args, init=None).reward_in(goals=False)
    for reward, discount, reward_weights in (
        ("energy", 1.0, (1.0, 24.0, False)),
        ("progress", 1.0, (1.0, 1.0, False)),
        ("success", 0.99, (0.0, 1.0, False)),
    ):
        chosen = replace(args, reward=reward)
        env = make_env(chosen)
        assert make_model(chosen, env).gamma == discount and env.reward_weights == reward_weights, reward
        assert env.dreams.engine.reward == reward
    assert terms_of(replace(args, algo="sac")).reward_weights == (1.0, 1.0, True)
    assert terms_of(replace(args, discount=0.9, last_step=1.0)).reward_weights == (1.0, 1.0, True)
    for given in ({"discount": 1.1}, {"last_step": -1.0}, {"init": None, "discount": 0.9}):
        with pytest.raises(ValueError, match="accepted: None, "):
            replace(args, **given)


@pytest.mark.parametrize(("reward", "last"), [("energy", 24.0), ("energy", 1.0), ("progress", 1.0), ("success", 1.0)])
def test_dreams_of_tensors_are_paid_as_those_of_arrays(args, reward, last):
    """The sum of an episode is what it is meant to be: the fall of the distance, the last step's share, the outcome."""
    args = replace(args, reward=reward, starts="episode", **({} if reward == "success" else {"last_step": last}))
    env = make_env(args)
    env.start()
    begun = env.dreams._carry["_distance"].clone()
    paid, way = torch.zeros(8), torch.zeros(8)
    for _ in range(EPISODE_STEPS - 1):
        now = env.move(torch.zeros(8, 4))
        paid, way = paid + now.reward, way + env.dreams._carry["_distance"]
    ends = env.dreams._carry["_distance"].clone()
    expected = {"energy": -way, "progress": begun - ends, "success": torch.zeros(8)}
    assert torch.allclose(paid, expected[reward], atol=1e-5)
    step = env.move(torch.zeros(8, 4))
    assert step.done.all() and step.cut is None, "an episode is all there is"
    if reward == "energy":
        told = torch.tensor([each["episode"]["r"] for each in env.take_episodes()])
        assert torch.allclose(told, -way - ends, rtol=0.1), "logs say what dreams pay, whatever weights steps have"
    if reward == "energy":
        assert (step.reward < 0).all() and (step.reward < -0.5 * last * ends).all()


def test_practice_takes_starts_of_ones_own(args, tmp_path):
    bank = toy.initial_states(rows=8, seed=5)
    only = np.flatnonzero((bank.task == "push") & (bank.step == 0))[:1]
    bank.select(only).save(tmp_path / "own.npz")
    own = replace(args, task="push", initial_states=tmp_path / "own.npz", starts="episode")
    assert len(make_env(own).dreams.engine.initial_states) == 1
    train(own, make_env(own), None)
    with pytest.raises(ValueError, match="other settings: initial_states"):
        train(replace(own, initial_states=None), make_env(args), None)
    with pytest.raises(ValueError, match="which draws its own starts"):
        replace(own, world="real")


@pytest.mark.parametrize(("dreams", "batch"), [(16, 384), (256, 512), (1024, 2048)])
def test_more_dreams_make_larger_minibatches(tmp_path, folders, dreams, batch):
    args = Arguments(tmp_path, world_model=folders[0], init=folders[1], n_envs=dreams)
    assert make_model(args, make_env(args)).batch_size == batch


def test_the_actor_rests_while_the_critic_warms_up(folders):
    assert change(folders, kl_coef=0.0, critic_warmup=3, rollouts=3) == 0
    assert change(folders, kl_coef=0.0, critic_warmup=3, rollouts=5) != 0


def test_trains_validates_and_keeps_the_policy(args):
    vla = train(args, make_env(args), NicoLDreamEnv("all", world_model=args.world_model))
    history = json.loads((args.out / "validation.json").read_text())
    period = args.validate_every
    assert [entry["steps"] for entry in history] == [0, period, 2 * period, 3 * period, 4 * period]
    assert {"success", "success_reach", "distance", "return"} <= set(history[0])
    obs = NicoLDreamEnv(world_model=args.world_model).reset(seed=0)[0]
    saved = policy.load(args.out)
    np.testing.assert_array_equal(saved.predict(obs)[0], vla.predict(obs)[0])
    assert np.abs(saved.predict(obs)[0] - policy.load(args.init).predict(obs)[0]).max() > 1e-5
    assert list((args.out / "tensorboard").iterdir())


def test_keeps_the_policy_along_the_way(args):
    args = replace(args, snapshots=True, validation_episodes=0, validate_every=2 * args.validate_every)
    vla = train(args, make_env(args), None)
    kept = sorted((args.out / "snapshots").iterdir())
    assert [int(folder.name) for folder in kept] == [0, args.steps // 2, args.steps]
    assert torch.equal(policy.load(kept[-1]).action.weight, vla.action.weight)
    assert torch.equal(policy.load(kept[0]).action.weight, policy.load(args.init).action.weight)


def test_physics_can_select_the_policy(args):
    class Physics(NicoLDreamEnv):
        """Only the second validation succeeds."""

        resets = 0

        def reset(self, **kwargs):
            Physics.resets += 1
            return super().reset(**kwargs)

        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"is_success": 3 < Physics.resets <= 6}

    args = replace(args, select="physics")
    train(args, make_env(args), Physics("all", world_model=args.world_model))
    kept, best = ((args.out / d / "model.safetensors").read_bytes() for d in (".", "best"))
    assert kept == best
    card = (args.out / "best" / "README.md").read_text()
    assert f"| {args.validate_every} | 1 |" in card


def test_a_run_goes_on_with_validation_and_selection_switched_on(args):
    blind = replace(args, validation_episodes=0, steps=args.steps // 4)
    train(blind, make_env(args), None)
    history = args.out / "validation.json"
    assert not any("success" in entry for entry in json.loads(history.read_text()))
    physics = NicoLDreamEnv("all", world_model=args.world_model)
    finished = replace(args, steps=blind.steps, select="physics", validation_episodes=1)
    train(finished, make_env(args), physics)  # nothing left to learn, but to measure
    entries = json.loads(history.read_text())
    assert [entry["steps"] for entry in entries] == [0, blind.steps] and "success" in entries[-1]
    assert (args.out / "model.safetensors").read_bytes() == (args.out / "best" / "model.safetensors").read_bytes()
    train(replace(finished, steps=args.steps), make_env(args), physics)
    assert json.loads(history.read_text())[:2] == entries


def test_the_card_states_the_episodes_of_every_validation(args):
    physics = NicoLDreamEnv("all", world_model=args.world_model)
    for rollouts, episodes in ((1, 3), (2, 2)):
        changed = replace(args, steps=rollouts * args.validate_every, validation_episodes=episodes)
        train(changed, make_env(args), physics)
    rows = [line.split("|")[1:-1] for line in (args.out / "README.md").read_text().splitlines() if line[:1] == "|"]
    names, _, *rows = [[cell.strip() for cell in row] for row in rows]
    assert [row[names.index("episodes")] for row in rows] == ["3", "3", "2"]


def test_what_the_run_reads_is_never_written_over(args):
    before = {file: file.read_bytes() for name in (args.init, args.world_model) for file in Path(name).iterdir()}
    for name in (args.init, args.world_model):
        with pytest.raises(ValueError, match="is what the run reads; accepted: a new folder"):
            train(replace(args, out=Path(name)), make_env(args), None)
    assert before == {
        file: file.read_bytes() for name in (args.init, args.world_model) for file in Path(name).iterdir()
    }


def test_a_path_is_the_same_however_it_is_spelled(args, monkeypatch):
    args = replace(args, validation_episodes=0, steps=args.steps // 4)
    monkeypatch.chdir(Path(args.init).parent)
    near = replace(args, init=Path(args.init).name)
    train(near, make_env(near), None)
    file = args.out / "settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "init": near.init}))  # as older versions wrote it
    train(args, make_env(args), None)
    elsewhere = Arguments(args.out, init="default").settings(), Arguments(args.out, init=None).settings()
    assert [each["init"] for each in elsewhere] == ["default", None]


def test_the_card_holds_the_command_that_makes_the_policy(args):
    args = replace(args, validation_episodes=0, steps=args.steps // 4)
    train(args, make_env(args), None)
    card = (args.out / "README.md").read_text()
    words = re.search(r"`python -m agents.train (.*)`", card)[1].split()
    assert {"--out", "--world-model", "--init", "--n-envs", "8", "--steps", str(args.steps)} < set(words)
    again = parse("train", words)
    assert {Path(again.out).resolve(), Path(again.init).resolve()} == {args.out.resolve(), Path(args.init).resolve()}


def test_a_missing_gpu_ends_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="device='cuda': torch finds no GPU on this machine; accepted here: 'cpu'"):
        command("train", ["--out", str(tmp_path / "run"), "--device", "cuda"])


def test_validation_repeats_itself(args):
    vla = policy.load(args.init)
    env = NicoLDreamEnv("all", world_model=args.world_model)
    first = validate(vla, env, [*STANDARD], 6, EPISODE_STEPS)
    assert set(first) == {"return", "success", "success_reach", "success_push", "success_lift", "distance"}
    assert validate(vla, env, [*STANDARD], 6, EPISODE_STEPS) == first


@pytest.mark.parametrize("algo", sorted({*LEARNERS} - {"dqn"}))  # whose actions are choices: test_train_any_world.py
def test_any_algorithm_learns_without_a_clone(folders, tmp_path, algo):
    args = Arguments(tmp_path / "run", algo=algo, init="none", world_model=folders[0], n_envs=4, steps=300)
    args = replace(args, validation_episodes=3, validate_every=200)
    policy_ = train(args, make_env(args), NicoLDreamEnv("all", world_model=folders[0]), progress=False)
    assert isinstance(policy_, SB3Policy) and policy_.config.algorithm == algo.upper()
    saved, obs = registry.load(args.out), NicoLDreamEnv(world_model=folders[0]).reset(seed=0)[0]
    obs = {name: part[None] for name, part in obs.items()}
    np.testing.assert_allclose(saved.act(obs), policy_.act(obs), atol=1e-6)


def test_sac_starts_from_a_clone(args):
    args = replace(args, algo="sac", steps=128, validation_episodes=0)
    model = make_model(args, prepare(args, make_env(args)))
    model.batch_size = 16
    model.learn(args.steps)
    assert model.num_timesteps >= args.steps and model._n_updates > 0


@pytest.mark.parametrize("steps, warmup", [(1, 0), (2, 1), (8, 1), (16, 2), (1000, 6)])
def test_the_critic_warms_up_for_a_share_of_the_run(args, steps, warmup):
    assert replace(args, critic_warmup=None).warmup(steps) == warmup


def test_a_run_too_short_to_change_the_policy_says_so(args, capsys):
    rollout = 8 * EPISODE_STEPS
    short = replace(args, steps=2 * rollout, critic_warmup=2, validation_episodes=0)
    train(short, make_env(short), None)
    assert "the policy will stay as it is" in capsys.readouterr().err
    assert torch.equal(policy.load(args.out).action.weight, policy.load(args.init).action.weight)
    changed = replace(short, out=args.out.with_name("other"), steps=rollout, critic_warmup=None)
    train(changed, make_env(changed), None)
    assert "stay as it is" not in capsys.readouterr().err
    assert not torch.equal(policy.load(changed.out).action.weight, policy.load(args.init).action.weight)


def test_the_bar_shows_reward_and_success(args, capsys, monkeypatch):
    monkeypatch.setattr("dream_env.progress.SECONDS", 0.0)
    args = replace(args, steps=args.steps // 4, validation_episodes=0)
    train(args, make_env(args), None)
    shown = capsys.readouterr().err
    assert "train in the dream" in shown and "reward" in shown and "success" in shown


def test_options_of_before_have_their_names_of_now(capsys):
    words = ["--out", "x", "--anchor", "0.1", "--warmup=3", "--init", "none", "--algo", "td3"]
    args = parse("train", words)
    assert (args.kl_coef, args.critic_warmup, args.init) == (0.1, 3, None)
    assert "--anchor is called --kl-coef now" in capsys.readouterr().err


def test_a_killed_run_goes_on(args):
    code = "import toy; from dream_env.agents.run.cli import command; command('train')"
    words = [sys.executable, "-c", code, "--out", args.out, "--init", args.init]
    words += ["--world-model", args.world_model, "--n-envs", "8", "--steps", "1000000"]
    words += ["--validate-every", str(args.validate_every), "--critic-warmup", "0"]
    words += ["--validation-episodes", "0"]
    run = subprocess.Popen(map(str, words), cwd=TESTS, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    history = args.out / "validation.json"
    while not (history.exists() and len(json.loads(history.read_text())) > 3):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (args.out / "model.safetensors").exists()
    done = json.loads(history.read_text())[-1]["steps"]
    args = replace(args, steps=done + 2 * args.validate_every)
    train(args, make_env(args), None)
    steps = [entry["steps"] for entry in json.loads(history.read_text())]
    assert steps[-1] == args.steps and steps == sorted(set(steps))
    policy.load(args.out)
    with pytest.raises(ValueError, match="other settings"):
        train(replace(args, kl_coef=0.5), make_env(args), None)


@pytest.mark.parametrize(
    "change",
    [
        {"algo": "dqn"},
        {"algo": "trpo", "init": None},
        {"select": "physics"},
        *({name: 0} for name in ("steps", "n_envs", "validate_every")),
        *({name: -1} for name in ("kl_coef", "critic_warmup", "rate", "validation_episodes", "seed")),
        {"rate": float("nan")},
    ],
)
def test_refuses_what_it_does_not_know(args, change):
    with pytest.raises(ValueError, match="accepted|needs"):
        train(replace(args, **change), make_env(args), None)
    assert not args.out.exists()
