"""Co-evolution: record the policy, refit on what it did, compare the dreams with reality; nothing is done twice."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import blocks
import gymnasium as gym
import numpy as np
import pytest
import torch
from recorded import recorded

from dream_env.agents import collect
from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.coevolve import refits
from dream_env.agents.coevolve.arguments import LEAST, Arguments
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.fit.dynamics import command as dynamics_fit
from dream_env.agents.fit.dynamics.arguments import Arguments as DynamicsArguments
from dream_env.agents.fit.slots import command as slots_fit
from dream_env.agents.fit.slots.arguments import Arguments as SlotsArguments
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env
from dream_env.data.episodes import EpisodeDataset as AnyEpisodes
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.world_models import checkpoint


@pytest.fixture
def calls(monkeypatch, toy_folder):
    """What the commands behind it are asked for; each leaves what the real one would."""
    calls = []

    def collected(args):
        calls.append(("collect", args))
        return args.episodes

    def fit(args, episodes):
        assert (args.out / "initial_states.npz").is_file(), "before the figures, which say that all is done"
        calls.append(("fit", args))
        calls.append(("seen", episodes))
        checkpoint.save(checkpoint.load(toy_folder), args.out, "refitted")
        (args.out / "metrics.json").write_text("{}")

    def evaluate(settings, workers, worlds):
        calls.append(("evaluate", (settings, worlds)))
        wins = 1 if worlds == ("physics",) else 2 if "out" in settings.world_model else 3
        return [EpisodeResult("policy", worlds[0], "push", i, "", i == 3, i < wins, 0.0, 0.0) for i in range(4)]

    monkeypatch.setattr(collect, "collect", collected)
    monkeypatch.setattr(refits.state_grounded_fit, "fit", fit)
    monkeypatch.setattr(coevolve, "evaluate", evaluate)
    seeds = {"data": 0, "episodes": 1_000}
    monkeypatch.setattr(EpisodeDataset, "load", lambda folder, *_: recorded(6, first_seed=seeds[Path(folder).name]))
    spec = checkpoint.load(toy_folder).spec
    monkeypatch.setattr(AnyEpisodes, "load", lambda *folders: type("Data", (), {"spec": spec}))
    monkeypatch.setitem(refits.REFITS, "toy", refits.state_grounded)
    return calls


def test_records_refits_and_compares_once(calls, folders, toy_folder, tmp_path):
    world, clone = folders
    args = Arguments(Path(clone), (Path("data"),), tmp_path / "out", world, episodes=7, rehearsed=4, updates=5)
    report = coevolve.coevolve(args)
    new = tmp_path / "out" / "episodes"
    by_name = {name: asked for name, asked in calls}
    assert [name for name, _ in calls] == [*["collect"] * 3, "fit", "seen", *["evaluate"] * 3]
    recordings = [asked for name, asked in calls if name == "collect"]
    assert [(asked.task, asked.episodes) for asked in recordings] == [("reach", 3), ("push", 2), ("lift", 2)]
    asked = recordings[0]
    assert (asked.out, asked.mix) == (new, "policy:0.5,dreamt:0.5")
    assert asked.world_model == str(checkpoint.resolve(world)), "dreams in the model that is to learn"

    fitted = by_name["fit"]
    assert fitted.data == (Path("data"), new) and fitted.init == str(checkpoint.resolve(world))
    assert fitted.autoencoder_updates == fitted.state_estimator_updates == 0  # the policy keeps its eyes
    assert fitted.predictor_updates == fitted.success_updates == fitted.metric_updates == 5
    old, fresh = recorded(6).seed.tolist(), recorded(6, first_seed=1_000).seed.tolist()
    seen = by_name["seen"].seed.tolist()
    assert seen[4:] == fresh and len(set(seen)) == 10 and set(seen[:4]) < set(old), "all that is new, some that is old"
    files = [Path(folder) / "initial_states.npz" for folder in (world, fitted.out)]
    assert files[0].read_bytes() == files[1].read_bytes()

    assert report["figure"] == "success" and report["real"] == {"push": pytest.approx(1 / 3)}, "without solved starts"
    assert (report["before"]["push"], report["after"]["push"]) == (1.0, pytest.approx(2 / 3))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in coevolve.table(report).splitlines()]
    assert rows[-1] == ["push", "33%", "100%", "67%"]
    assert json.loads((tmp_path / "out" / "coevolution.json").read_text()) == report

    assert coevolve.coevolve(args) == report
    assert [name for name, _ in calls[8:]] == ["collect"] * 3  # which find their episodes by themselves


def test_another_run_needs_another_folder(calls, folders, tmp_path):
    world, clone = folders
    args = Arguments(Path(clone), (Path("data"),), tmp_path / "out", world, episodes=7)
    coevolve.coevolve(args)
    with pytest.raises(ValueError, match="out=.*: updates 1500, now 9999; accepted"):
        coevolve.coevolve(replace(args, updates=9999))
    coevolve.record_and_refit(replace(args, workers=1, threads=1))  # which changes nothing
    with pytest.raises(ValueError, match="task='dance' is not known; accepted: 'reach', 'push', 'lift', 'all'"):
        coevolve.coevolve(replace(args, task="dance", out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    coevolve.coevolve(replace(args, task="lift", out=tmp_path / "other"))
    recordings = [asked for name, asked in calls if name == "collect" and asked.out.parent.name == "other"]
    assert [(asked.task, asked.episodes) for asked in recordings] == [("lift", 7)]


def test_a_slip_leaves_the_folder_free(calls, folders, tmp_path):
    world, clone = folders
    args = Arguments(Path("polcy"), (Path("data"),), tmp_path / "out", world)
    with pytest.raises(FileNotFoundError, match="polcy"):
        coevolve.coevolve(args)
    coevolve.coevolve(replace(args, policy=Path(clone)))


@pytest.mark.parametrize("name", LEAST)
def test_bad_numbers_are_named(name):
    least = LEAST[name]
    with pytest.raises(ValueError, match=f"{name}={least - 1}; accepted: a finite number, at least {least}"):
        Arguments(Path("policy"), (Path("data"),), Path("out"), **{name: least - 1})


def test_no_data_are_named():
    with pytest.raises(ValueError, match=r"data=\(\); accepted: one folder or more"):
        Arguments(Path("policy"), (), Path("out"))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """Recorded pendulums, a world model of them, and a policy that was trained in it."""
    root = tmp_path_factory.mktemp("pendulum")
    collect.collect(collect.Arguments(root / "data", 8, "Pendulum-v1", max_steps=30, skip=2, env_options="g=9.0"))
    small = {"updates": 3, "width": 16, "members": 2, "batch": 4}
    dynamics_fit.fit(DynamicsArguments((root / "data",), root / "world", **small), AnyEpisodes.load(root / "data"))
    practice = Practice(
        out=root / "policy", world_model=str(root / "world"), init="none", algo="ppo", steps=64, validation_episodes=0
    )
    train(practice, make_env(practice), None, progress=False)
    return root


def test_any_environment_and_its_return(pendulum, tmp_path):
    small = {"episodes": 3, "rehearsed": 6, "updates": 2, "measured": 2}
    args = Arguments(pendulum / "policy", (pendulum / "data",), tmp_path, str(pendulum / "world"), **small)
    report = coevolve.coevolve(args)
    assert report["figure"] == "return" and [*report["real"]] == ["all"]
    assert "return, real" in coevolve.table(report)
    new = AnyEpisodes.load(tmp_path / "episodes")
    assert len(new) == 3 and set(new.kind) == {"policy"} and new.spec == AnyEpisodes.load(pendulum / "data").spec
    before, after = (checkpoint.load(folder).state_dict() for folder in (pendulum / "world", tmp_path / "world_model"))
    assert torch.equal(before["vector_mean"], after["vector_mean"]), "the policy sees what it saw"
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])
    written = (tmp_path / "world_model" / "model.safetensors").stat().st_mtime_ns
    assert coevolve.coevolve(args) == report
    assert coevolve.coevolve(replace(args, measured=3))["measured"] == 3, "measured anew, not recorded"
    assert (tmp_path / "world_model" / "model.safetensors").stat().st_mtime_ns == written
    known = Path.cwd()
    try:  # another spelling of the same paths
        os.chdir(pendulum)
        coevolve.check(replace(args, policy=Path("policy"), data=(Path("data"),), world_model="world"))
    finally:
        os.chdir(known)


def test_any_environment_is_measured_by_all_workers(pendulum, tmp_path, monkeypatch):
    args = Arguments(
        pendulum / "policy", (pendulum / "data",), tmp_path, str(pendulum / "world"), measured=6, workers=7
    )
    units = []

    def imap(function, items, workers, **_):
        units.append((workers, [(item.world, item.episodes) for item in items]))
        return map(function, items)

    monkeypatch.setattr("dream_env.agents.eval.any_world.pool.imap", imap)
    for world in ("physics", "dream"):
        assert coevolve.outcomes(args, args.world_model, world)["return"]["all"] < 0
    assert units == [(7, [("real", 5), ("real", 1)]), (7, [("dream", 6)])]


def test_what_does_not_fit_is_refused_before_anything_is_recorded(pendulum, tmp_path):
    args = Arguments(pendulum / "policy", (pendulum / "data",), tmp_path / "out", str(pendulum / "world"))
    for name, env, more in (
        ("far", "MountainCarContinuous-v0", {}),
        ("heavy", "Pendulum-v1", {"skip": 2, "env_options": "g=5.0"}),
    ):
        collect.collect(collect.Arguments(tmp_path / name, 2, env, max_steps=5, **more))
    for change, message in (
        ({"data": (tmp_path / "far",)}, "name MountainCarContinuous-v0; accepted: episodes of Pendulum-v1"),
        ({"data": (tmp_path / "heavy",)}, "preparation .*5.0.*; accepted: episodes of Pendulum-v1"),
        (
            {"policy": Path("bc5")},
            "policy='bc5' was trained in a world model of NicoLReal-v0; accepted: one of Pendulum",
        ),
        ({"scene": "varied"}, "scene='varied'; accepted: none"),
        ({"task": "lift"}, "task='lift' is not known; accepted: 'all'"),
        ({"out": pendulum / "world"}, "is what the run reads"),
    ):
        with pytest.raises(ValueError, match=message):
            coevolve.coevolve(replace(args, **change))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / "episodes").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds episodes/ of another command"):
        coevolve.coevolve(args)


def test_success_is_compared_only_where_every_world_tells_it(pendulum, tmp_path, monkeypatch):
    told = iter([{"return": {"all": 1.0}, "success": {"all": 1.0}}, {"return": {"all": 2.0}}, {"return": {"all": 3.0}}])
    monkeypatch.setattr(coevolve, "outcomes", lambda *args: next(told))
    monkeypatch.setattr(coevolve, "record_and_refit", lambda args: tmp_path)
    args = Arguments(pendulum / "policy", (pendulum / "data",), tmp_path, str(pendulum / "world"))
    report = coevolve.coevolve(args)
    assert [report[name] for name in ("figure", "real", "before", "after")] == [
        "return",
        *({"all": value} for value in (1.0, 2.0, 3.0)),
    ]


def test_a_fit_that_goes_on_keeps_sizes_and_ends(pendulum, tmp_path):
    args = DynamicsArguments((pendulum / "data",), tmp_path / "fit", init=str(pendulum / "world"), updates=1)
    data = AnyEpisodes.load(pendulum / "data")
    with pytest.raises(ValueError, match="width=64 with init=.*; accepted: its own, 16"):
        dynamics_fit.fit(replace(args, width=64), data)
    base = checkpoint.load(pendulum / "world")
    base.config = replace(base.config, terminates=True)
    checkpoint.save(base, tmp_path / "base", "card")
    fitted = dynamics_fit.fit(replace(args, init=str(tmp_path / "base")), data)
    assert fitted.model.config.terminates and fitted.model.config.width == 16
    first, again = (tmp_path / name for name in ("first", "again"))
    held = dynamics_fit.fit(replace(args, out=first), data).figures["held_out_seeds"]
    onward = dynamics_fit.fit(replace(args, out=again, init=str(first), seed=3, held_out=0.5), data)
    assert onward.figures["held_out_seeds"] == held, "what the base has not seen"
    with pytest.raises(ValueError, match="updates=0 leaves the weights random"):
        replace(args, init=None, updates=0)


def test_slots_keep_what_they_see(tmp_path, monkeypatch):
    data = {"data": blocks.dataset(10), "episodes": blocks.dataset(4)}
    monkeypatch.setattr(AnyEpisodes, "load", lambda *folders: data[Path(folders[0]).name])
    short = {"updates": 2, "distance_updates": 2, "own_updates": 2, "width": 16, "batch": 4}
    slots_fit.fit(SlotsArguments((Path("data"),), tmp_path / "base", **short), data["data"])
    args = Arguments(Path("policy"), (Path("data"),), tmp_path, str(tmp_path / "base"), rehearsed=6, updates=2)
    refits.slots(args, tmp_path / "episodes", tmp_path / "world_model")
    base, again = (checkpoint.load(tmp_path / name) for name in ("base", "world_model"))
    before, after = base.state_dict(), again.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "dynamics" in changed and not changed & {"reader", "phi", "painter"}, changed
    episodes = json.loads((tmp_path / "world_model" / "metrics.json").read_text())["episodes"]
    assert sum(episodes.values()) == 10, "six old ones, four new ones"


def test_a_preparation_is_recorded_again():
    env = gym.make("Pendulum-v1")
    how: dict = {"skip": 2, "skip_divided": (0,), "action_high": (1.0,)}
    given = collect.Arguments(Path("out"), 1, "Pendulum-v1", env_options='g=9.0,a=["b,c"]', **how)
    job = given.jobs()[0]
    again = collect.Arguments(Path("out"), 1, "Pendulum-v1", **collect.prepared(job.preparation))
    assert again.jobs()[0].preparation == job.preparation and np.isfinite(env.action_space.high).all()


def test_small_matrices_are_refitted_on_one_thread(cartpole, tmp_path, monkeypatch):
    used, data = [], SimpleNamespace(spec=checkpoint.load(cartpole).spec, goal={})
    monkeypatch.setattr(refits, "_joined", lambda *_: data)
    monkeypatch.setattr(refits.dynamics_fit, "fit", lambda settings, _: used.append(settings.threads))
    refits.dynamics(Arguments(tmp_path, (tmp_path,), out=tmp_path, world_model=cartpole), tmp_path, tmp_path)
    assert used == [1]
