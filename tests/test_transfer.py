"""The transfer experiment on disk: every method in miniature, and that it goes on where it was stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import recorded
import torch
import toy
from safetensors.torch import load_file

from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.eval.results import EpisodeResult, load_results, save_results
from dream_env.agents.nicol import regressor
from dream_env.agents.policies import registry
from dream_env.agents.studies.transfer import command as experiment
from dream_env.agents.studies.transfer import methods
from dream_env.agents.studies.transfer import report as experiment_report
from dream_env.agents.studies.transfer.arguments import QUICK
from dream_env.agents.studies.transfer.plan import METHODS, MODEL_FREE, WALL, Spec, Trial
from dream_env.agents.studies.transfer.policies import (
    ENCODER,
    Setup,
    Stopwatch,
    TrainedPolicy,
    digest,
    folder,
    needs,
    trained,
)
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset, EpisodeWriter
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint

TASKS = ("reach", "push", "lift")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Checkpoint of a small untrained world model."""
    out = tmp_path_factory.mktemp("world")
    torch.manual_seed(77)
    checkpoint.save(StateGroundedModel(StateGroundedConfig(width=16, blocks=1, ensemble=1)), out, "card")
    toy.initial_states().save(out / "initial_states.npz")
    return str(out)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five demonstrations of each task."""
    out = tmp_path_factory.mktemp("data")
    with EpisodeWriter(out) as writer:
        for episode in map(recorded.recorded(15).__getitem__, range(15)):
            writer.add(replace(episode, kind="demo"))
    return out


@pytest.fixture
def setup(world, data, tmp_path):
    return replace(Setup((data,), tmp_path / "runs", world), **QUICK)


@pytest.fixture
def args(world, data, tmp_path):
    kwargs = {"demos": "3", "seeds": "0", "episodes": 1, "workers": 1, "quick": True, "world_model": world}
    return experiment.Arguments((data,), tmp_path / "runs", out=tmp_path / "out", **kwargs)


def test_demonstrations_are_taken_per_task(data):
    episodes = EpisodeDataset.load(data)
    few = episodes.take(np.r_[0:9, 9, 12])  # four of the first task, fewer of some other
    args = clone.Arguments((data,), data, per_task=3)
    for source in (episodes, few):
        taken = clone.demonstrations(args, source)
        assert {task: (taken.task == task).sum() for task in TASKS} == dict.fromkeys(TASKS, 3)
        for task in TASKS:
            assert taken.seed[taken.task == task].tolist() == source.seed[source.task == task][:3].tolist()
    with pytest.raises(ValueError, match="5 demonstrations of some task; accepted: per_task=6"):
        clone.demonstrations(replace(args, per_task=6), episodes)


def test_every_method_in_miniature(setup, monkeypatch):
    def refit(args, recorded_, out):
        assert len(EpisodeDataset.load(recorded_)) == setup.coevolution_episodes and args.threads == 1
        shutil.copytree(setup.world_model, out)
        (out / "metrics.json").write_text("{}")

    monkeypatch.setitem(coevolve.REFITS, "toy", refit)
    found = {}
    for method in METHODS:
        budget = "96" if method in MODEL_FREE else ""
        trial, error = experiment.run(Trial(Spec(method, 3, 0), 1, budget=budget), setup)
        assert error is None, error
        outcomes = experiment.episodes_of(trial, setup)
        assert [(o.world, o.task) for o in outcomes] == [(w, t) for w in ("physics", "dream") for t in TASKS]
        found[method] = trained(trial.spec, setup)[budget]
    steps = {method: made.practice_steps for method, made in found.items() if made.practice_steps}
    assert steps == {"dream_coevolved": 4 * EPISODE_STEPS, "ppo_physics": 96, "sac_her_physics": 96}
    assert found["dream_coevolved"].practice_cpu_s > found["dream"].practice_cpu_s > 0 == found["clone"].practice_cpu_s
    assert found["clone_equal_compute"].cpu_s > 0 and found["clone_equal_compute"].path != found["clone"].path
    assert found["dream_coevolved"].world_model and not found["untrained_dream"].world_model, "its own; the setup's"
    assert isinstance(registry.load(found["regressor"].path), regressor.Regressor)

    random = load_file(folder(Spec("untrained_dream", 3, 0), setup) / "world_model" / "model.safetensors")
    weights = checkpoint.load(setup.world_model).state_dict()
    changed = {name.split(".")[0] for name in weights if not torch.equal(weights[name], random[name])}
    assert changed == {"predictor", "object_dynamics"}, "the control sees as the dream does"

    shutil.rmtree(found["dream_coevolved"].world_model)
    digest.cache_clear()
    assert experiment.is_done(Trial(Spec("dream_coevolved", 3, 0), 1), setup), "the archive keeps no weights"

    wall = replace(setup, equal_time=True)  # ends after the CPU time of the dream RL, whatever steps that takes
    looks = methods.make(Spec("sac_her_physics", 3, 0), wall)
    assert set(looks) == {"96", WALL} and looks[WALL].practice_cpu_s >= found["dream"].practice_cpu_s


@pytest.mark.parametrize(("dream_s", "steps"), [(120.0, 240), (48.0, 96), (20.0, 48)])
def test_ppo_in_physics_begins_anew_for_every_budget(setup, tmp_path, monkeypatch, dream_s, steps):
    class Clock:
        """Half a second per step of the run that it times."""

        after = Stopwatch.after

        def __init__(self, file):
            self.cpu_s = self.wall_s = 0.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.cpu_s = runs[-1].steps / 2

    runs = []

    def train_(args, envs, physics, progress):
        runs.append(args)
        args.out.mkdir(parents=True)
        (args.out / "validation.json").write_text(json.dumps([{"steps": args.steps}]))

    needed = {
        "clone": TrainedPolicy("clone", None, 0, 0.0, 0.0, 9.0, 9.0),
        "dream": TrainedPolicy("x", None, 0, dream_s, 0.0, 0.0, 0.0),
    }
    monkeypatch.setattr(methods, "need", lambda spec, setup, method: needed[method])
    monkeypatch.setattr(methods, "Stopwatch", Clock)
    monkeypatch.setattr(methods, "_physics_envs", lambda *_, **__: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(methods.train, "train", train_)
    made = methods.ppo_physics(
        Spec("ppo_physics", 3, 0), replace(setup, physics_steps=(48, 96), equal_time=True), tmp_path, None
    )
    assert {budget: one.practice_steps for budget, one in made.items()} == {"48": 48, "96": 96, WALL: steps}
    assert [run.steps for run in runs] == [48, 96, *([240] if steps == 240 else [])], "what took as long does"
    assert {run.init for run in runs} == {"clone"} and len({run.out for run in runs}) == len(runs)


def test_policies_are_made_anew_exactly_if_what_they_depend_on_has_changed(setup):
    def folders(setup):
        return {method: folder(Spec(method, 3, 0), setup) for method in METHODS}

    before = folders(setup)
    changes = {
        "recipe": {"recipe": {"steps": 1}},
        "refit": {"refit_updates": 3},
        "clone": {"clone_updates": 21},
        "physics": {"physics_steps": (48,)},
    }
    moved = {
        name: {method for method, where in folders(replace(setup, **change)).items() if where != before[method]}
        for name, change in changes.items()
    }
    assert moved["recipe"] == {"dream", "dream_coevolved", "untrained_dream", "clone_equal_compute"}
    assert moved["refit"] == {"dream_coevolved"} and moved["physics"] == set(MODEL_FREE)
    assert moved["clone"] == set(METHODS) - {"sac_her_physics"}
    # Another default of agents.train is another practice, one that is only spelled out is not.
    spelled = {**setup.recipe, "kl_coef": Practice.kl_coef}
    assert folders(replace(setup, recipe=spelled)) == before
    assert folders(replace(setup, recipe={**spelled, "kl_coef": 0.5}))["dream"] != before["dream"]
    assert folders(replace(setup, data=(Path("elsewhere"),))) == before, "where episodes lie does not count"
    for method in METHODS:
        assert all(each.seed == 0 and each.demos == 3 for each in needs(Spec(method, 3, 0), setup))


def changed(world, out, prefix):
    """Copies a world model, with other weights where names begin with a prefix."""
    model = StateGroundedModel(checkpoint.load(world).config)
    model.load_state_dict(checkpoint.load(world).state_dict())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(prefix):
                weight += 1
    checkpoint.save(model, out, "card")
    toy.initial_states().save(out / "initial_states.npz")
    return str(out)


def test_policies_that_never_dream_outlive_another_predictor(setup, tmp_path):
    def folders(world):
        return {method: folder(Spec(method, 3, 0), replace(setup, world_model=world)) for method in METHODS}

    before, dreams = folders(setup.world_model), {"dream", "dream_coevolved", "untrained_dream", "clone_equal_compute"}
    seen = dict.fromkeys(ENCODER, set(METHODS))
    for prefix, others in {"predictor.": dreams, "metric_head.": dreams, **seen}.items():
        after = folders(changed(setup.world_model, tmp_path / prefix, prefix))
        assert {method for method in METHODS if after[method] != before[method]} == others, prefix


def test_weights_that_are_not_there_have_no_digest(world):
    with pytest.raises(ValueError, match=r"parts: 'reader.' begins no weight of"):
        digest(world, ("autoencoder.", "reader."))


def test_another_dream_is_played_anew_and_physics_is_not(args, tmp_path, monkeypatch):
    doubles = Doubles(monkeypatch)
    experiment.experiment(replace(args, only="clone"))
    count = len(doubles.played)
    other = replace(args, only="clone", world_model=changed(args.world_model, tmp_path / "other", "predictor."))
    experiment.experiment(replace(other, workers=0))
    cells = json.loads((args.out / "transfer.json").read_text())["cells"]
    assert cells and not [c for c in cells if (c["instruction"], c["shift"]) == ("normal", "none")], "not dreamt yet"
    experiment.experiment(other)
    assert doubles.made == ["clone"]
    assert [(b.world, b.task, b.world_model) for b in doubles.played[count:]] == [
        ("dream", task, other.world_model) for task in TASKS
    ]


class Doubles:
    """Policies and episodes that take no time, and a count of them."""

    def __init__(self, monkeypatch, broken=()):
        self.made, self.played, self.broken = [], [], set(broken)
        monkeypatch.setattr(methods, "MAKERS", dict.fromkeys(METHODS, self.make))
        monkeypatch.setattr(experiment, "play", self.play)
        monkeypatch.setattr(experiment_report, "draw", lambda results, path: None)

    def make(self, spec, setup, out, meter):
        self.made.append(spec.method)
        (out / "policy").mkdir(exist_ok=True)
        budgets = [*map(str, setup.physics_steps)] if spec.method in MODEL_FREE else [""]
        return {budget: TrainedPolicy(str(out / "policy"), None, 0, 0.0, 0.0, 1.0, 1.0) for budget in budgets}

    def play(self, batch):
        if batch.label in self.broken:
            raise OSError("the cable is loose")
        self.played.append(batch)
        return [
            EpisodeResult(batch.label, batch.world, batch.task, s, "x", False, True, 0.0, None) for s in batch.seeds
        ]


def test_goes_on_where_it_was_stopped(args, monkeypatch):
    doubles = Doubles(monkeypatch)
    experiment.experiment(replace(args, only="clone,dream"))
    report = json.loads((args.out / "transfer.json").read_text())
    assert {c["method"] for c in report["cells"]} == {"clone", "dream"} and doubles.made == ["clone", "dream"]
    usual = [b for b in doubles.played if (b.instruction, b.shift, b.label) == ("normal", "none", "clone")]
    assert [(b.world, b.task, b.seeds) for b in usual] == [
        (world, task, (100_000,)) for world in ("physics", "dream") for task in TASKS
    ]
    count = len(doubles.played)
    experiment.experiment(args)
    again = {b.label for b in doubles.played[count:]}
    assert again == set(METHODS) - {"clone", "dream"} and sorted(doubles.made) == sorted(METHODS)
    count = len(doubles.played)
    experiment.experiment(replace(args, only="clone", workers=0))
    assert len(doubles.played) == count, "what is done is not played again"
    report = json.loads((args.out / "transfer.json").read_text())
    assert {c["method"] for c in report["cells"]} == set(METHODS), "the report shows all that is done"


def test_an_archive_goes_on_where_the_machine_is_gone(args, tmp_path, monkeypatch):
    doubles, kept = Doubles(monkeypatch), replace(args, archive=tmp_path / "kept" / "runs.tar.xz", only="clone")
    experiment.experiment(kept)
    report, count, first = (args.out / "transfer.json").read_text(), len(doubles.played), kept.archive.read_bytes()
    shutil.rmtree(args.runs)
    experiment.experiment(kept)
    assert len(doubles.played) == count and (args.out / "transfer.json").read_text() == report
    assert kept.archive.read_bytes() == first, "byte for byte"
    experiment.experiment(replace(kept, only="dream"))
    assert doubles.made == ["clone", "clone", "dream"], "weights are made anew for whoever begins with them"


def test_the_shipped_archive_is_reported_without_the_world_model_of_then(tmp_path, monkeypatch):
    results = Path(__file__).parents[1] / "results"
    monkeypatch.setattr(experiment_report, "draw", lambda results, path: None)
    archive = shutil.copy(results / "transfer_runs.tar.xz", tmp_path / "kept.tar.xz")
    report = experiment.Arguments(runs=tmp_path, out=tmp_path, archive=Path(archive), workers=0, side_episodes=34)
    with pytest.warns(UserWarning, match="policies of the archive are of another world model"):
        experiment.experiment(report)
    old, new = (json.loads((folder / "transfer.json").read_text()) for folder in (results, tmp_path))
    assert new["cells"] == old["cells"] and new["summary"] == old["summary"]


def test_a_failure_does_not_end_the_other_trials(args, monkeypatch):
    doubles = Doubles(monkeypatch, broken=["dream"])
    with pytest.raises(RuntimeError, match="9 trials failed.*(?s:.*)the cable is loose"):
        experiment.experiment(args)
    assert {b.label for b in doubles.played} == set(METHODS) - {"dream"}
    with pytest.raises(ValueError, match="only='magic' is not known; accepted: 'clone'"):
        experiment.experiment(replace(args, only="clone,magic"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        experiment.experiment(replace(args, world_model="nowhere"))


def test_time_is_counted_over_all_attempts(tmp_path):
    file = tmp_path / "time.json"
    with pytest.raises(KeyboardInterrupt), Stopwatch(file) as meter:
        np.linalg.svd(np.random.default_rng(0).random((300, 300)))
        raise KeyboardInterrupt
    first = json.loads(file.read_text())
    assert first["cpu_s"] > 0 and first["wall_s"] > 0
    with Stopwatch(file) as meter:
        assert meter.cpu_s >= first["cpu_s"] and meter.wall_s >= first["wall_s"]
        meter.restart()
        assert meter.wall_s < first["wall_s"]


def test_old_episode_files_are_read(tmp_path):
    save_results(
        [EpisodeResult("a", "physics", "push", 0, "please", False, True, 0.0, None, "red", "red")], tmp_path / "x"
    )
    new = load_results(tmp_path / "x")[0]
    values = json.loads((tmp_path / "x").read_text())
    (tmp_path / "x").write_text(json.dumps({k: v for k, v in values.items() if k not in ("named", "touched")}) + "\n")
    old = load_results(tmp_path / "x")[0]
    assert old == replace(new, named=None, touched=None) and new.told is None
