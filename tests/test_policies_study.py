"""The study of policies with a world model inside: what it makes, what it counts, what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
from dataset import make_episode, write

from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.policies import registry
from dream_env.agents.studies.policies import command as study
from dream_env.agents.studies.policies import report, rows
from dream_env.agents.studies.policies.arguments import Arguments
from dream_env.agents.studies.policies.rows import FIGURES, ROWS, Row
from dream_env.files import write_json


def episodes(solved, tasks=("push", "stack")):
    """Ten episodes of each task, of which the first `solved` succeed, and one that was solved at its start."""
    return [
        EpisodeResult("x", "physics", task, seed, "words", seed == 10, seed < solved or seed == 10, 0.0, 0.2)
        for task in tasks
        for seed in range(11)
    ]


@pytest.fixture
def args(tmp_path, toy_folder):
    return Arguments(
        data=(tmp_path / "data",),
        world_model=toy_folder,
        tasks=("push",),
        demos=(2,),
        others=2,
        updates=2,
        episodes=2,
        work=tmp_path / "work",
        out=tmp_path / "out",
    )


@pytest.fixture
def played(tmp_path):
    """A study of two groups with cells of plain, latent and video."""
    work = tmp_path / "work"
    for group, tasks in (("push", ("push",)), ("stack", ("stack",))):
        write_json(work / group / "group.json", {"tasks": list(tasks), "commands": ["python -m x", "python -m y"]})
        for row, seed, solved in (
            ("plain", 0, 4),
            ("plain", 1, 4),
            ("latent", 0, 7),
            ("latent", 1, 8),
            ("video", 0, 9),
        ):
            folder = Cell(row, 25, seed).folder(work / group)
            folder.mkdir(parents=True)
            save_results(episodes(solved, tasks), folder / EPISODES)
            write_json(folder / FIGURES, {"parameters": 1000, "train_cpu_minutes": 2.0, "ms_per_action": 1.5})
    return work


def test_cells_are_counted_without_what_was_solved_already(played):
    found, text = report.report(played, played.parent / "out")
    assert len(found["cells"]) == 10
    cell = next(one for one in found["cells"] if (one["policy"], one["task"], one["seed"]) == ("latent", "stack", 1))
    assert (cell["episodes"], cell["physics_success"], cell["demos"], cell["parameters"]) == (10, 0.8, 25, 1000)
    assert {"train_cpu_minutes", "ms_per_action"} <= set(cell)
    assert text.count("- `python -m y`") == 2
    assert text.count("| latent ") == 3 and "75 % (" in text and "+35 (" in text
    record = next(one for one in found["tables"]["stack"] if one["policy"] == "latent")
    assert (record["demos"], record["seeds"], record["over its control"][:5]) == (25, 2, "+35 (")
    assert record["stack"] == record["all"] and record["stack"].startswith("75 %")


def test_gains_are_over_the_control_on_tasks_that_leave_room(played):
    summary = report.report(played, played.parent / "out")[0]["summary"]
    assert summary["tasks_with_room"] == "stack" and summary["best_gain_all_tasks_tasks"] == "push, stack"
    assert summary["best_gain_policy"] == "latent", "the control of video was not played"
    assert summary["best_gain_by_seed"] == [30.0, 40.0]
    assert summary["best_gain_points"] == 35.0 and 0 < summary["best_gain_low_points"] < 35
    gains = report.report(played, played.parent / "out")[0]["gains"]
    assert all(one["episodes"] == 10 * one["seeds"] * len(one["tasks"].split(", ")) for one in gains)
    assert any(one["policy"] == "video" and one["over"] == "plain" and one["value"] == 50.0 for one in gains)


def test_a_gain_of_one_seed_does_not_stand_before_one_of_three(played):
    for seed, solved in ((2, 5), (3, 5)):
        for row, more in (("plain", 0), ("latent", 1)):
            folder = Cell(row, 25, seed).folder(played / "stack")
            folder.mkdir(parents=True)
            save_results(episodes(solved + more, ("stack",)), folder / EPISODES)
            write_json(folder / FIGURES, {"parameters": 1, "train_cpu_minutes": 2.0, "ms_per_action": 1.5})
    for row, solved in (("plain, hindsight", 0), ("video", 10)):
        folder = Cell(row, 25, 0).folder(played / "stack")
        folder.mkdir(parents=True, exist_ok=True)
        save_results(episodes(solved, ("stack",)), folder / EPISODES)
        write_json(folder / FIGURES, {"parameters": 1, "train_cpu_minutes": 2.0, "ms_per_action": 1.5})
    summary = report.report(played, played.parent / "out")[0]["summary"]
    assert (summary["best_gain_policy"], summary["best_gain_seeds"]) == ("latent", 4)
    assert summary["best_gain_by_seed"] == [30.0, 40.0, 10.0, 10.0]


def test_figures_that_other_commands_measure_stand_in_the_summary(played):
    write_json(played.parent / "out" / "fused.json", {"fused_parameters_share": 0.5, "command": "x"})
    assert report.report(played, played.parent / "out")[0]["summary"]["fused_parameters_share"] == 0.5


def test_nothing_played_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no episodes"):
        report.report(tmp_path, tmp_path)


def test_every_row_is_a_run_of_agents_clone(tmp_path):
    from importlib import import_module

    for row in ROWS.values():
        folders = (tmp_path,) * (2 if "share" in row.options else 1)
        import_module(rows.KINDS[row.kind][0]).Arguments(data=folders, out=tmp_path, **row.options)
        assert row.control is None or row.control in ROWS
        assert row.begins in ROWS


def test_no_row_has_more_demonstrations_than_another(args, tmp_path):
    kinds = ["demo"] * 4 + ["play"] * 4
    write(tmp_path / "data", *(make_episode(i, kind, "push") for i, kind in enumerate(kinds)))
    few = rows.recorded(args.data, ("push",), 2, 3)
    assert few.kind.tolist() == ["demo"] * 2 + ["play"] * 3
    assert len(rows.recorded(args.data, ("push",), 4, 0)) == 4
    with pytest.raises(ValueError, match="demos=5"):
        rows.recorded(args.data, ("push",), 5, 0)


def test_cells_are_cloned_and_played_once(args, tmp_path, monkeypatch):
    kinds = ["demo"] * 3 + ["play"] * 3
    for name, first in (("data", 0), ("more", 10)):
        write(tmp_path / name, *(make_episode(i, kind, "push") for i, kind in enumerate(kinds, first)))
    done = []
    monkeypatch.setattr(rows, "play", lambda batch: (done.append(batch), [episodes(1, ("push",))[0]])[1])
    monkeypatch.setattr(rows, "SIZES", {**rows.SIZES, "width": 8, "latents": 2, "batch": 4})
    monkeypatch.setitem(rows.ROWS, "own", Row("made elsewhere", make=lambda cell, args: copied(cell, args)))

    def copied(cell, args):
        source = Cell("plain", cell.demos, cell.seed).folder(args.group) / "policy"
        registry.save(registry.load(source), cell.folder(args.group) / "policy", "")
        return 0.5

    given = replace(args, policies=("plain", "latent", "plain, successes", "own"), data=(*args.data, tmp_path / "more"))
    study.main(given)
    assert len(done) == 4 * 2 and {batch.seeds for batch in done} == {(100_000,), (100_001,)}
    assert {batch.world for batch in done} == {"physics"}
    kept = {row: registry.load(Cell(row, 2, 0).folder(args.group) / "policy") for row in given.policies}
    assert kept["latent"].kind == "latent" and kept["plain"].config.world_model == args.world_model
    study.main(given)
    study.main(replace(given, policies=("plain",)))
    assert len(done) == 8
    commands = json.loads((args.group / "group.json").read_text())["commands"]
    assert len(commands) == 2 and "'plain, successes'" in commands[0] and "--policies plain " in commands[1]
    found = json.loads((args.out / "policies.json").read_text())
    assert [cell["policy"] for cell in found["cells"]] == ["plain", "latent", "plain, successes", "own"]
    assert found["cells"][3]["train_cpu_minutes"] == 0.5
    assert str(tmp_path) not in (args.out / "policies.json").read_text()
    with pytest.raises(ValueError, match="updates"):
        study.main(replace(given, updates=3))


def test_the_control_of_latent_has_the_weights_of_plain(args, tmp_path, monkeypatch):
    write(tmp_path / "data", *(make_episode(i, "demo" if i < 3 else "play", "push") for i in range(6)))
    monkeypatch.setattr(rows, "SIZES", {**rows.SIZES, "width": 8, "latents": 2, "batch": 4})
    weights = []
    for row in ("plain", "latent, no world loss"):
        rows.made(Cell(row, 2, 0), args)
        weights.append(registry.load(Cell(row, 2, 0).folder(args.group) / "policy").state_dict())
    assert all(np.array_equal(part, weights[1][name]) for name, part in weights[0].items())


def test_what_it_cannot_do_is_refused(args):
    with pytest.raises(ValueError, match="only-report"):
        Arguments()
    with pytest.raises(ValueError, match="policies='best'"):
        study.main(replace(args, policies=("best",)))


def test_nothing_is_noted_of_a_study_whose_data_are_missing(tmp_path):
    asked = Arguments(data=(tmp_path / "nowhere",), work=tmp_path / "work", out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        study.main(asked)
    assert not (tmp_path / "work").exists()
