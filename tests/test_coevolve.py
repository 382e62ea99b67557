"""Co-evolution: record the policy, refit on what it did, and say what changed; nothing is done twice."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import recorded

from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.coevolve.arguments import LEAST
from dream_env.agents.fidelity.ranking import check_policies
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.tasks import STANDARD
from dream_env.world_models import checkpoint


@pytest.fixture
def calls(monkeypatch, toy_folder):
    """What the commands behind it are asked for; each leaves what the real one would."""
    calls = []

    def collect(args):
        calls.append(("collect", args))
        return args.episodes

    def fit(args, episodes):
        assert (args.out / "initial_states.npz").is_file(), "before the figures, which say that all is done"
        calls.append(("fit", args))
        calls.append(("seen", episodes))
        checkpoint.save(checkpoint.load(toy_folder), args.out, "refitted")
        (args.out / "metrics.json").write_text("{}")

    def fidelity(args):
        calls.append(("fidelity", args))
        after = Path(args.world_model).name == "world_model"
        tasks = {task: {key: 1.0 if after else 2.0 for key in coevolve.SHOWN} for task in STANDARD}
        args.out.mkdir(parents=True)
        report = {"tasks": tasks, "policy_mae_points": None if after else 15.0}
        (args.out / "fidelity.json").write_text(json.dumps(report))

    monkeypatch.setattr(coevolve.collect, "collect", collect)
    monkeypatch.setattr(coevolve.fit, "fit", fit)
    monkeypatch.setattr(coevolve.fidelity, "main", fidelity)
    monkeypatch.setattr(coevolve.ranking, "check_policies", lambda policies, world_model: None)
    seeds = {"data": 0, "episodes": 1_000}
    monkeypatch.setattr(EpisodeDataset, "load", lambda folder, *_: recorded(6, first_seed=seeds[Path(folder).name]))
    return calls


def test_records_refits_and_reports_once(calls, toy_folder, tmp_path):
    args = coevolve.Arguments(
        Path("policy"), (Path("data"),), tmp_path / "out", str(toy_folder), episodes=7, rehearsed=4, updates=5
    )
    report = coevolve.coevolve(args)
    new = tmp_path / "out" / "episodes"
    by_name = {name: asked for name, asked in calls}
    assert [name for name, _ in calls] == ["collect", "fit", "seen", "fidelity", "fidelity"]
    asked = by_name["collect"]
    assert (asked.out, asked.episodes, asked.mix) == (new, 7, "policy:0.5,dreamt:0.5")
    assert asked.world_model == str(checkpoint.resolve(str(toy_folder))), "dreams in the model that is to learn"

    fitted = by_name["fit"]
    assert fitted.data == (Path("data"), new) and fitted.init == str(checkpoint.resolve(str(toy_folder)))
    assert fitted.autoencoder_updates == fitted.state_estimator_updates == 0  # the policy keeps its eyes
    assert fitted.predictor_updates == fitted.success_updates == fitted.metric_updates == 5
    old, fresh = recorded(6).seed.tolist(), recorded(6, first_seed=1_000).seed.tolist()
    seen = by_name["seen"].seed.tolist()
    assert seen[4:] == fresh and len(set(seen)) == 10 and set(seen[:4]) < set(old), "all that is new, some that is old"
    banks = [Path(folder) / "initial_states.npz" for folder in (toy_folder, fitted.out)]
    assert banks[0].read_bytes() == banks[1].read_bytes()

    assert report["before"]["tasks"]["push"]["hand_cm_24"] == 2.0 and report["after"]["success_apart_points"] is None
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in coevolve.table(report).splitlines()]
    assert ["lift", "moved cubes (cm)", "2", "1"] in rows and rows[-1][-2:] == ["15", "–"]
    assert json.loads((tmp_path / "out" / "coevolution.json").read_text()) == report

    assert coevolve.coevolve(args) == report
    assert [name for name, _ in calls[5:]] == ["collect"]  # which finds its episodes by itself


def test_another_run_needs_another_folder(calls, toy_folder, tmp_path):
    args = coevolve.Arguments(Path("policy"), (Path("data"),), tmp_path / "out", str(toy_folder), episodes=7)
    coevolve.coevolve(args)
    with pytest.raises(ValueError, match="out=.*: policy 'policy', now 'other', updates 1500, now 9999; accepted"):
        coevolve.coevolve(replace(args, policy=Path("other"), updates=9999))
    coevolve.record_and_refit(replace(args, workers=1, threads=1))  # which changes nothing


def test_a_slip_leaves_the_folder_free(calls, toy_folder, tmp_path, monkeypatch):
    args = coevolve.Arguments(Path("polcy"), (Path("data"),), tmp_path / "out", str(toy_folder))
    with monkeypatch.context() as patch, pytest.raises(FileNotFoundError, match="polcy"):
        patch.setattr(coevolve.ranking, "check_policies", check_policies)
        coevolve.coevolve(args)
    coevolve.coevolve(replace(args, policy=Path("policy")))


@pytest.mark.parametrize("name", LEAST)
def test_bad_numbers_are_named(name):
    least = LEAST[name]
    with pytest.raises(ValueError, match=f"{name}={least - 1}; accepted: a finite number, at least {least}"):
        coevolve.Arguments(Path("policy"), (Path("data"),), Path("out"), **{name: least - 1})


def test_fidelity_takes_the_least_that_is_accepted():
    for episodes, accepted in ((LEAST["measured"], True), (LEAST["measured"] - 1, False)):
        given = coevolve.fidelity.Arguments(Path("data"), episodes=episodes)
        with nullcontext() if accepted else pytest.raises(ValueError, match="episodes="):
            given.task_names()


def test_no_data_are_named():
    with pytest.raises(ValueError, match=r"data=\(\); accepted: one folder or more"):
        coevolve.Arguments(Path("policy"), (), Path("out"))
