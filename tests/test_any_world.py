"""Commands that look ahead, in a world that is no robot's; and numbers that no command accepts."""

import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from dream_env.agents import planners
from dream_env.agents.data.behaviors import Job, World, record
from dream_env.agents.eval import any_world
from dream_env.agents.eval.any_world import mean_interval
from dream_env.agents.evaluate.command import Arguments as Evaluate
from dream_env.agents.evaluate.command import main as evaluate
from dream_env.agents.fit.dynamics.command import Arguments as Fit
from dream_env.agents.fit.dynamics.command import fit
from dream_env.agents.fit.state_grounded.command import check_tasks
from dream_env.agents.foresee.arguments import Arguments as Foresee
from dream_env.agents.foresee.command import main as foresee
from dream_env.agents.plan.arguments import Arguments as Plan
from dream_env.agents.plan.command import main as plan
from dream_env.agents.planners.prior import Prior, varied
from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.policies import registry
from dream_env.agents.policies.sb3 import SB3Policy, ZipPolicy
from dream_env.agents.run.cli import command
from dream_env.agents.run.numbers import check_numbers
from dream_env.agents.run.trust import TRUST
from dream_env.agents.run.worlds import make_real
from dream_env.agents.train.arguments import Arguments as Train
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.spec import WorldSpec
from dream_env.wrappers import WorldModelWrapper


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders of a world model of CartPole-v1, hardly fitted, and of a policy that sees what CartPole shows."""
    root = tmp_path_factory.mktemp("cartpole")
    env = gym.make("CartPole-v1", max_episode_steps=20)
    spec = WorldSpec.of_env(env)
    episodes = [record(World(env, spec), Job(i, "random", i, "")) for i in range(6)]
    sizes = {"updates": 3, "width": 16, "members": 2, "batch": 4}
    fit(Fit(data=(), out=root / "model", **sizes), EpisodeDataset.stack(episodes, spec))
    policy = SB3Policy.of(PPO("MlpPolicy", env, n_steps=8, batch_size=8), "native", str(root / "model"))
    registry.save(policy, root / "policy", "# A policy\n")
    return str(root / "model"), str(root / "policy")


def rows(out):
    found = json.loads((out / "results.json").read_text())["rows"]
    return {(row["policy"], row["world"]): row for row in found}


def test_planning_is_evaluated_in_any_world(world, tmp_path):
    model, policy = world
    small = {"solver": "random", "samples": 4, "iterations": 1, "horizon": 4, "episodes": 2}
    plan(Plan(world_model=model, prior=policy, objective=("reward",), out=tmp_path / "plan", **small))
    found = rows(tmp_path / "plan")
    assert {*found} == {(label, where) for label in ("policy", "planner") for where in ("real", "dream")}
    # CartPole pays one for every step.
    assert found["planner", "real"]["steps"] == found["planner", "real"]["return"]
    assert 1 <= found["planner", "dream"]["steps"] <= 500
    with pytest.raises(ValueError, match="task='push': CartPole-v1 has no tasks"):
        plan(Plan(world_model=model, objective=("reward",), task="push", out=tmp_path / "other", **small))
    assert not (tmp_path / "other").exists()


def test_foresight_of_a_policy_that_sees_what_the_world_shows(world, tmp_path):
    model, policy = world
    small = {"candidates": 3, "draws": 0, "horizon": 4, "episodes": 2, "objective": ("reward",)}
    foresee(Foresee(policy=policy, world_model=model, out=tmp_path / "foresee", **small))
    labels = {label for label, _ in rows(tmp_path / "foresee")}
    assert labels == {"policy", "foresight", "random", "worst"}
    with pytest.raises(ValueError, match="oracle=4"):
        foresee(Foresee(policy=policy, world_model=model, oracle=4, out=tmp_path / "other", **small))


def test_world_model_and_objective_follow_from_the_policy(world, tmp_path, capsys):
    model, policy = world
    few = {"horizon": 4, "episodes": 1}
    foresee(Foresee(policy=policy, candidates=2, draws=0, out=tmp_path / "foresee", **few))
    plan(Plan(solver="random", prior=policy, samples=4, iterations=1, out=tmp_path / "plan", **few))
    for name in ("foresee/foresight", "plan/planner"):
        config = planners.load(tmp_path / f"{name}.json").config
        assert (config.world_model, config.objective) == (model, {"reward": 1.0})
    assert f"world model: {model}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs a goal, .*; accepted: reward, disagreement$"):
        plan(Plan(world_model=model, objective=("energy",), out=tmp_path / "other", **few))
    assert not (tmp_path / "other").exists()


def test_nothing_stays_of_what_is_refused(world, tmp_path, monkeypatch):
    model, policy = world

    def refuse(*args):
        raise ValueError("env cannot be made")

    monkeypatch.setattr(any_world, "evaluate", refuse)
    common = {"world_model": model, "horizon": 4, "out": tmp_path / "out"}
    for run, arguments in ((foresee, Foresee(policy=policy, **common)), (plan, Plan(prior=policy, **common))):
        with pytest.raises(ValueError, match="cannot be made"):
            run(arguments)
        assert not (tmp_path / "out").exists()


def test_choices_are_varied_too():
    box = ActionBox(gym.spaces.Discrete(3, start=2))
    variations = Prior(None, std=0.3).variations(Noise([0, 1]), box, 64, 4)  # (2, 64, 4, 3)
    chosen = box.actions(varied(np.full(2, 3), variations.flatten(1, 2).transpose(0, 1), box))
    chosen = chosen.T.reshape(2, 64, 4)
    assert (chosen[:, 0] == 3).all()  # the policy itself
    assert 0.05 < (chosen[:, 1:] != 3).float().mean() < 0.5 and {*chosen.unique().tolist()} == {2, 3, 4}


def test_policies_of_another_world_are_evaluated_in_their_own(world, tmp_path, capsys):
    model, policy = world
    evaluate(Evaluate(policy=(policy,), episodes=1, workers=1, out=tmp_path))
    assert f"world model: {model}" in capsys.readouterr().out
    assert {*rows(tmp_path)} == {("policy", "real"), ("policy", "dream")}


def test_several_processes_play_the_same_episodes(world, tmp_path):
    args = Evaluate(policy=(world[1], "random"), world_model=world[0], episodes=7, out=tmp_path)
    with pytest.raises(ValueError, match="workers=0; accepted: 1 or more"):
        evaluate(replace(args, workers=0))
    for workers in (1, 2):
        evaluate(replace(args, workers=workers, out=tmp_path / str(workers)))
    one, two = ((tmp_path / name / "episodes.jsonl").read_text() for name in "12")
    assert one == two and len(one.splitlines()) == 2 * 2 * 7


def test_a_named_reward_counts_also_if_the_observations_are_the_environments_own(world):
    env = make_real(None, world[0], obs_type="native", reward="success")
    assert isinstance(env, WorldModelWrapper) and env.reward == "success"
    assert not isinstance(make_real(None, world[0], obs_type="native"), WorldModelWrapper)


def test_a_zip_of_stable_baselines_is_evaluated_looks_ahead_and_is_recorded(world, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    model, zipped = world[0], str(tmp_path / "agent.zip")
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8).save(zipped)
    evaluate(Evaluate(policy=(zipped,), world_model=model, episodes=1, out=tmp_path / "evaluation"))
    assert {*rows(tmp_path / "evaluation")} == {("agent", "real"), ("agent", "dream")}
    small = {"candidates": 2, "draws": 0, "horizon": 4, "episodes": 1, "objective": ("reward",)}
    foresee(Foresee(policy=zipped, world_model=model, out=tmp_path / "foresee", **small))
    assert ("foresight", "dream") in rows(tmp_path / "foresee")
    env = gym.make("CartPole-v1")
    played = World(env, WorldSpec.of_env(env))
    assert len(record(played, Job(0, "policy", 0, "", policy=zipped, max_steps=3)).action) <= 3
    monkeypatch.setattr(ZipPolicy, "inputs", ("embedding",))
    with pytest.raises(ValueError, match="reads .'embedding'., and names no world model"):
        record(played, Job(0, "policy", 0, "", policy=zipped, max_steps=3))


class Reads:
    """A policy that reads some parts of an observation; its config may name their form."""

    def __init__(self, *inputs, **config):
        self.inputs, self.config = inputs, SimpleNamespace(**config)


def test_the_form_of_observations_is_told_by_the_policy_its_config_or_what_it_reads():
    assert registry.obs_type_of(Reads("embedding", "goal")) == "embedding"
    assert registry.obs_type_of(Reads("embedding", "words")) == "words"
    assert registry.obs_type_of(Reads("pixels", "proprio", "instruction")) == "pixels"
    policy = Reads("pixels", obs_type="native")
    assert registry.obs_type_of(policy) == "native"
    goals = registry.env_kwargs_of(Reads("observation", "achieved_goal", "desired_goal"), SPEC)
    assert goals == {"obs_type": "embedding", "goal_env": True}
    assert registry.env_kwargs_of(policy, SPEC) == {"obs_type": "native", "goal_env": False}
    space = spaces.Dict({"embedding": spaces.Box(-1, 1, (2,)), "top": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    assert ZipPolicy(SimpleNamespace(observation_space=space)).obs_type == "pixels"  # whatever the camera is called
    policy.obs_type = "state"
    assert registry.obs_type_of(policy) == "state" == Prior(policy).obs_type


@dataclass
class Sizes:
    widths: tuple[int, ...] = (8, 8)
    painter_width: int = 0


@dataclass
class Numbers:
    updates: int = 3
    batch: int = 2
    rate: float = 0.1
    action_low: tuple[float, ...] = ()
    lasting: bool = False
    model: Sizes = field(default_factory=Sizes)


def test_numbers_that_make_no_sense_are_refused():
    check_numbers(Numbers(updates=0, action_low=(-2.0,), lasting=True))
    check_numbers(Train(Path("out"), last_step=math.inf))
    for given, why in (
        ({"updates": -3}, "updates=-3; accepted: a finite number, at least 0"),
        ({"batch": 0}, "batch=0; accepted: a finite number, at least 1"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"rate": float("inf")}, "rate=inf"),
        ({"model": Sizes(widths=(8, -8))}, "widths=-8"),
        ({"model": Sizes(painter_width=-1)}, "painter_width=-1"),
    ):
        with pytest.raises(ValueError, match=why):
            check_numbers(Numbers(**given))


def test_a_fit_of_less_than_no_updates_ends_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="fit: updates=-3; accepted"):
        command("fit", ["--model", "dynamics", "--data", "data", "--out", str(tmp_path / "out"), "--updates", "-3"])
    assert not (tmp_path / "out").exists()


def test_the_labelled_fit_refuses_tasks_that_the_picture_alone_tells():
    check_tasks(["reach", "stack"])
    with pytest.raises(ValueError, match="of place, whose goals are given only by a picture; .* --model slots"):
        check_tasks(["reach", "place"])


def test_a_policy_of_another_world_is_refused(world):
    with pytest.raises(ValueError, match="is of NicoLReal-v0, and the policy was trained in one of CartPole-v1; acc"):
        any_world.evaluate({"p": world[1]}, None, "default", 1, 0)
    registry.check_encoder(registry.load(world[1]), world[0])


def test_a_policy_in_a_folder_named_as_a_row_of_the_report_keeps_its_row(world, tmp_path):
    shutil.copytree(world[1], tmp_path / "foresight")
    small = {"candidates": 2, "draws": 0, "horizon": 4, "episodes": 1, "objective": ("reward",), "controls": False}
    foresee(Foresee(policy=str(tmp_path / "foresight"), world_model=world[0], out=tmp_path / "out", **small))
    assert {name for name, _ in rows(tmp_path / "out")} == {"foresight, alone", "foresight"}


def test_random_actions_need_bounds():
    with pytest.raises(ValueError, match="policy='random' with actions of .*accepted: actions with bounds"):
        any_world.Actor("random", spaces.Box(-np.inf, np.inf, (2,)), [0])({})


def test_an_interval_takes_two_values():
    assert all(math.isnan(bound) for values in ([], [2.0]) for bound in mean_interval(values))
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)
