"""The study of rewards: what it trains, what it counts, what it refuses."""

import json
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from dream_env.agents.eval.cells import Cell
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.eval.untrained import untrained_dynamics
from dream_env.agents.studies.practice_rewards import command as study
from dream_env.agents.studies.practice_rewards import report, rows
from dream_env.agents.studies.practice_rewards.arguments import CLONE, CONTROLS, REWARDS, SHIPPED, Arguments
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.world_models import checkpoint


def episodes(solved, world="physics", distance=0.2, task="push"):
    """Episodes of which the first `solved` of 10 succeed; one more was solved at its start."""
    some = [EpisodeResult("x", world, task, i, "words", False, i < solved, 0.0, distance) for i in range(10)]
    return [*some, EpisodeResult("x", world, task, 99, "words", True, True, 0.0, 0.0)]


PLAYED = {
    Cell(CLONE, 5, 0): episodes(4, distance=0.3) + episodes(4, "dream"),
    Cell("energy", 5, 0): episodes(7, distance=0.2) + episodes(8, "dream"),
    Cell("energy", 5, 1): episodes(7, distance=0.1),
    Cell("bounded", 5, 0): episodes(9),
    Cell("bounded", 5, 1): episodes(8),
    Cell("success", 5, 0): episodes(10),
}


def test_cells_are_counted_without_what_was_solved_already():
    found = report.reduce(PLAYED)
    row = next(one for one in found if one["reward"] == "energy" and one["seed"] == 0 and one["task"] == "push")
    assert (row["episodes"], row["physics_success"], row["dream_success"]) == (10, 0.7, 0.8)
    assert row["final_distance"] == pytest.approx(0.2) and row["demos"] == 5
    assert next(one for one in found if one["seed"] == 1)["dream_success"] is None
    assert sum(one["task"] == "all" for one in found) == len(PLAYED)


def test_energy_is_compared_with_the_best_where_both_have_played():
    summary = report.summarize(PLAYED)
    assert summary["best_other"] == "success" and summary["energy_points_behind_best"] == 30.0
    assert summary["energy_points_behind"] == {"bounded": 15.0, "success": 30.0} and summary["best_other_seeds"] == 1
    assert summary["energy_points_behind_best_low"] < 30 < summary["energy_points_behind_best_high"]
    assert summary["energy_gain_points"] == 30.0 and summary["energy_gain_low_points"] > 0
    assert summary["clone_final_distance"] == pytest.approx(0.3)
    assert summary["energy_final_distance"] == pytest.approx(0.15)


def test_practice_is_compared_with_that_in_an_untrained_dream():
    blank = {Cell("untrained dream", 5, seed): episodes(5) for seed in (0, 1)}
    summary = report.summarize(PLAYED | blank)
    assert (summary["untrained_gain_points"], summary["energy_ahead_of_untrained_points"]) == (10.0, 20.0)
    assert "untrained_gain_points" not in report.summarize(PLAYED)


def test_the_untrained_dream_is_run_for_every_seed_and_the_model_has_clones_of_its_own():
    args = Arguments(world_model="unlabelled", rewards=("energy",), controls=("untrained dream",), seeds=(0, 1))
    every = [(cell.row, cell.seed) for cell in rows.cells(args)]
    assert every == [(CLONE, 0), ("energy", 0), ("energy", 1), ("untrained dream", 0), ("untrained dream", 1)]
    assert rows.base(5, args) == "unlabelled" and rows.base(100, args) == "default"


def test_the_page_has_a_row_for_everything_that_was_played(tmp_path, monkeypatch):
    monkeypatch.setattr(Cell, "played", lambda cell, work: PLAYED.get(cell, []))
    args = Arguments(work=tmp_path / "work", out=tmp_path / "out", seeds=(0, 1), only_report=True)
    text = study.study(args)
    assert all(f"| {row}" in text for row in ("clone", "energy", "bounded", "success"))
    assert "+30 (" in text and "`--reward energy --discount 0.97 --last-step 1.0`" in text
    written = json.loads((tmp_path / "out" / "practice_rewards.json").read_text())
    assert {"reward", "demos", "task", "seed", "episodes", "physics_success", "dream_success", "final_distance"} <= set(
        written["cells"][0]
    )
    assert written["summary"]["energy_points_behind_best"] == 30.0
    monkeypatch.setattr(Cell, "played", lambda cell, work: [])
    with pytest.raises(FileNotFoundError, match="holds no episodes"):
        study.study(args)


def test_other_numbers_of_demonstrations_stay_in_the_report(tmp_path, monkeypatch):
    """Each is played by a command of its own, of as many steps on the same starts."""
    later = {replace(cell, demos=25): episodes for cell, episodes in PLAYED.items()}
    monkeypatch.setattr(Cell, "played", lambda cell, work: (PLAYED | later).get(cell, []))
    args = Arguments(work=tmp_path / "work", out=tmp_path / "out", seeds=(0, 1), only_report=True, data=tmp_path)
    study.study(args)
    summary = json.loads((tmp_path / "out" / "practice_rewards.json").read_text())["summary"]
    text = study.study(replace(args, demos=(25,)))
    assert "## From 5 demonstrations" in text and "## From 25 demonstrations" in text
    written = json.loads((tmp_path / "out" / "practice_rewards.json").read_text())
    assert list(written["commands"]) == ["5", "25"] and "--demos 25" in written["commands"]["25"]
    assert {cell["demos"] for cell in written["cells"]} == {5, 25} and written["summary"] == summary
    assert study.study(replace(args, demos=(25,))) == text, "and are not there twice"
    with pytest.raises(ValueError, match="steps=10, and the file in --out has 500000"):
        study.study(replace(args, demos=(25,), steps=10))


def test_every_cell_is_played_once_and_the_clone_first(tmp_path, monkeypatch):
    done = []

    def evaluate(settings, workers):
        done.append(settings)
        return episodes(5)

    monkeypatch.setattr(rows, "evaluate", evaluate)
    monkeypatch.setattr(rows, "practise", lambda cell, args: cell.folder(args.work) / "policy")
    args = Arguments(rewards=("energy,bounded",), seeds=(0,), work=tmp_path / "work", out=tmp_path / "out")
    study.study(args)
    assert [list(each.policies) for each in done] == [[CLONE], ["energy"], ["bounded"]]
    assert done[0].policies[CLONE] == "bc5" and done[0].seed == 100_000
    study.study(args)
    assert len(done) == 3
    study.study(replace(args, seeds=(0, 1)))
    assert len(done) == 5


def test_every_row_is_a_run_of_agents_train(tmp_path):
    for form in REWARDS.values():
        Practice(out=tmp_path, init="bc5", **form)
    assert REWARDS["energy"] == {"reward": Practice(out=tmp_path).reward_in(True)}, "the default, as it is"


def test_a_cell_is_trained_in_the_dream(folders, tmp_path, monkeypatch):
    world, clone = folders
    monkeypatch.setitem(SHIPPED, world, {5: clone})
    args = Arguments(world_model=world, steps=1, work=tmp_path)
    folder = rows.make(Cell("bounded", 5, 1), args)
    assert (folder / "model.safetensors").is_file()
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["reward"] == "bounded" and settings["seed"] == 1


def test_an_untrained_dream_sees_as_the_true_one_does(tmp_path, monkeypatch):
    worlds = []
    monkeypatch.setattr(rows, "practise", lambda cell, args, world: worlds.append(world))
    rows.untrained_dream(Cell("untrained dream", 5, 0), Arguments(work=tmp_path))
    true, blank = checkpoint.load("state_grounded").state_dict(), checkpoint.load(worlds[0]).state_dict()
    changed = {name.split(".")[0] for name in true if not np.array_equal(true[name], blank[name])}
    assert changed == {"predictor", "object_dynamics"}


def test_an_untrained_dream_hardly_moves(tmp_path):
    def change(world):
        env = gym.make("NicoLDream-v0", world_model=str(world), task="reach", obs_type="native", temperature=0.0)
        before, _ = env.reset(seed=0)
        for _ in range(6):
            after, *_ = env.step(np.array([1.0, 0.5, -1.0, 1.0], np.float32))
        return np.abs(after["pixels"].astype(float) - before["pixels"]).mean()

    assert change(untrained_dynamics("state_grounded", 0, tmp_path / "blank")) < 0.25 * change("state_grounded")


def test_only_kinds_whose_dynamics_are_known_can_be_untrained(tmp_path, monkeypatch):
    monkeypatch.setattr("dream_env.agents.eval.untrained.DYNAMICS", {"other": ()})
    with pytest.raises(ValueError, match="world_model's kind='state_grounded' .*; accepted: 'other'"):
        untrained_dynamics("state_grounded", 0, tmp_path / "blank")


def test_practice_in_physics_takes_as_many_steps_as_the_data_hold(tmp_path, monkeypatch):
    asked = []
    data = SimpleNamespace(action=np.zeros((3, 24, 4), np.float32))
    monkeypatch.setattr(rows, "_episodes", lambda folder: data)
    monkeypatch.setattr(rows.train, "train", lambda practice, env, _: asked.append(practice))
    monkeypatch.setattr(rows.train, "make_env", lambda practice: None)
    cell = Cell("practice in physics", 5, 2)
    args = Arguments(data=tmp_path, steps=10, work=tmp_path / "work")
    assert rows.make(cell, args) == cell.folder(args.work) / "policy"
    assert (asked[0].world, asked[0].steps, asked[0].seed, asked[0].reward) == ("real", 72, 2, "energy")
    assert json.loads((cell.folder(args.work) / "steps.json").read_text()) == 72


def test_what_needs_episodes_says_so():
    for given in ({"demos": (25,)}, {"controls": ("longer cloning",)}):
        with pytest.raises(ValueError, match="accepted: --data FOLDER"):
            Arguments(**given)
    with pytest.raises(ValueError, match="rewards='hope'"):
        Arguments(rewards=("hope",))
    assert set(CONTROLS) == set(rows.CONTROL_MAKERS)
