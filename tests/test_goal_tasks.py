"""Tasks whose goal is shown: both worlds last as long, the goal can be another scene's, the study counts rightly."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy import ToyWorldModel, initial_states

import dream_env  # noqa: F401  registers the ids
from dream_env.agents.eval.cells import Cell
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.evaluate import command as evaluate
from dream_env.agents.evaluate.command import Settings
from dream_env.agents.nicol import rollouts
from dream_env.agents.nicol.rollouts import Batch
from dream_env.agents.plan import command as plan
from dream_env.agents.policies import registry
from dream_env.agents.run.worlds import tasks_of
from dream_env.agents.studies.goal_tasks import command as study
from dream_env.agents.studies.goal_tasks import policies, report
from dream_env.agents.studies.goal_tasks.arguments import EVERY_SEED, METHODS, Arguments
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.agents.train.learners import make_env, rollout_steps
from dream_env.initial_states import FILE
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD
from dream_env.world_models import checkpoint


@pytest.fixture(scope="module")
def long_world(tmp_path_factory):
    """A world model of episodes of 40 steps, whose dreams begin with `place` and `stack`."""
    folder = tmp_path_factory.mktemp("long_world")
    checkpoint.save(ToyWorldModel(spec=replace(SPEC, horizon=40)), folder, "# Toy\n")
    states = initial_states()
    states = replace(states, task=np.where(np.arange(len(states)) // 2 % 2, "stack", "place"))
    states.save(folder / FILE)
    return str(folder)


def test_a_dream_lasts_as_long_as_its_world(long_world, toy_folder):
    for world, horizon in ((long_world, 40), (toy_folder, 24)):
        env = gym.make("NicoLDream-v0", task="all", world_model=world)
        env.reset(seed=0)
        ends = [env.step(np.zeros(4, np.float32))[3] for _ in range(horizon)]
        assert ends == [False] * (horizon - 1) + [True]
        assert gym.make_vec("NicoLDream-v0", num_envs=2, world_model=world, task="all").max_episode_steps == horizon


def test_practice_and_its_validation_are_of_the_world_s_tasks_and_as_long(long_world, toy_folder, tmp_path):
    assert tasks_of(long_world) == ("place", "stack") and tasks_of(toy_folder) == ("reach", "push", "lift")
    args = Practice(out=tmp_path / "out", init=None, world_model=long_world, n_envs=2)
    assert rollout_steps(args) == 40
    env = make_env(args)
    env.reset()
    assert "temperature" not in args.settings() and replace(args, temperature=2.0).settings()["temperature"] == 2
    assert make_env(replace(args, temperature=2.0)).dreams.dreams.engine.config.temperature == 2
    done = [env.step(np.zeros((2, 4), np.float32))[2].tolist() for _ in range(40)]
    assert done[:-1] == [[False, False]] * 39 and done[-1] == [True, True]


def test_the_commands_evaluate_on_the_tasks_of_the_world_model(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate, "evaluate", lambda settings, workers: asked.append(settings) or [])
    monkeypatch.setattr(evaluate, "record_clips", lambda *_: [])
    monkeypatch.setattr(evaluate, "write_report", lambda *_: "")
    for name, world in (("place_stack", "default"), ("unlabelled", "default"), ("zero", None)):
        evaluate.main(evaluate.Arguments((name,), world_model=world, out=tmp_path))
    assert [one.tasks for one in asked] == [("place", "stack"), STANDARD, STANDARD]
    assert plan.tasks("all", "place_stack") == ("place", "stack") and plan.tasks("lift", "place_stack") == ("lift",)


def test_another_picture_can_be_shown_as_the_goal():
    env, shown = NicoLRealEnv("reach"), np.full((64, 64, 3), 7, np.uint8)
    env.reset(seed=3)
    own = env.goal_image
    env.reset(seed=3, options={"goal_image": shown})
    assert (env.goal_image == 7).all() and not (own == 7).all()
    env.set_state(env.get_state())
    assert (env.goal_image == 7).all()
    for wrong in (shown[:32], shown.astype(float), "red"):
        with pytest.raises(ValueError, match="goal_image is"):
            env.reset(seed=3, options={"goal_image": wrong})
    env.close()


def test_the_goal_of_another_scene_is_of_the_same_sentence_and_success_is_of_the_own(toy_folder):
    batch = Batch("zero", "x", "physics", "reach", (5,), world_model=None)
    env, _, _ = rollouts._reset_physics(batch, 5)
    own, layout, said = env.unwrapped.goal_image, env.unwrapped.layout.positions, env.unwrapped.instruction
    env, _, _ = rollouts._reset_physics(replace(batch, goal="other"), 5)
    assert (env.unwrapped.goal_image != own).any()
    np.testing.assert_array_equal(env.unwrapped.layout.positions, layout)
    assert env.unwrapped.instruction == env.unwrapped.spoken == said
    assert rollouts.shown_physics(scene="standard").instruction == said


def test_another_goal_is_shown_in_dreams_too(toy_folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        rollouts, "make_actor", lambda *_: lambda obs: (seen.append(obs["goal"]), np.zeros((2, 4), np.float32))[1]
    )
    batch = Batch("zero", "x", "dream", "reach", (5, 6), world_model=toy_folder)
    own, other = (rollouts.play(replace(batch, goal=goal)) for goal in ("own", "other"))
    assert np.abs(seen[0] - seen[-1]).max(1).min() > 0.01 and np.array_equal(seen[-1], seen[-2])
    assert [one.distance for one in own] == [one.distance for one in other], "judged by its own"


def test_another_goal_is_a_control_of_both_worlds():
    settings = Settings({"x": "zero"}, ("place",), 2, goal="other")
    assert set(settings.worlds) == {"dream", "physics"} and {one.goal for one in settings.batches()} == {"other"}
    with pytest.raises(ValueError, match="goal='none'"):
        Settings({"x": "zero"}, goal="none")


def episodes(solved, world="physics", task="place"):
    """Episodes of which the first `solved` of 10 succeed; one more was solved at its start."""
    some = [EpisodeResult("x", world, task, i, "words", False, i < solved, 0.0, 0.1) for i in range(10)]
    return [*some, EpisodeResult("x", world, task, 99, "words", True, True, 0.0, 0.0)]


PLAYED = {
    Cell("clone", 25, 0): episodes(4) + episodes(2, task="stack") + episodes(4, "dream"),
    Cell("dream", 25, 0): episodes(7) + episodes(5, task="stack") + episodes(8, "dream"),
    Cell("no goal", 25, 0): episodes(1),
    Cell("clone/table", 25, 0): episodes(3),
    Cell("physics", 25, 0): episodes(5) + episodes(5, task="stack"),
    Cell("clone", 5, 0): episodes(9),
}


def test_cells_and_summary_are_counted_without_what_was_solved_already():
    rows = report.reduce(PLAYED)
    row = next(one for one in rows if (one["method"], one["task"]) == ("clone", "all"))
    assert (row["episodes"], row["physics_success"], row["dream_success"]) == (20, 0.3, 0.4)
    assert row["physics_success_low"] < 0.3 < row["physics_success_high"]
    assert next(one for one in rows if one["method"] == "no goal")["dream_success"] is None
    said = report.table({**PLAYED, Cell("clone", 25, 1): episodes(6)})[0]
    assert said["place, physics"].startswith("50 %") and said["both, dream"].startswith("40 %")
    assert (said["policy"], said["demonstrations"], said["training seeds"]) == ("clone", 25, 2)
    summary = report.summarize(PLAYED, 25)
    assert (summary["gain_points"], summary["dream_gain_points"]) == (30.0, 40.0)
    assert summary["gain_low_points"] > 0 and summary["physics_share_of_dream"] == 0.75
    assert (summary["gain_place_points"], summary["gain_stack_points"]) == (30.0, 30.0)
    assert (summary["place_with_goal"], summary["place_without_goal"], summary["place_other_goal"]) == (0.4, 0.1, None)
    assert (summary["clone_table_points"], summary["dream_table_points"]) == (-10.0, None)
    assert (summary["ahead_of_ppo_physics_points"], summary["clone_lighting_points"]) == (10.0, None)
    assert 0.02 < summary["place_chance"] < 0.08
    controls = {Cell("longer cloning", 25, 0): episodes(6) + episodes(3, task="stack")}
    summary = report.summarize(PLAYED | controls, 25)
    assert (summary["longer_cloning_gain_points"], summary["ahead_of_longer_cloning_points"]) == (15.0, 15.0)
    assert summary["untrained_dream_gain_points"] is None
    assert summary["varied_gain_points"] is None
    varied = {replace(cell, row=f"{cell.row}/varied"): played for cell, played in PLAYED.items()}
    assert report.summarize(varied, 25)["varied_gain_points"] == 30.0


def test_what_was_touched_first_is_counted_where_anything_was():
    some = episodes(3)[:4]
    first = [replace(some[0], named="red", touched="red"), replace(some[1], named="red", touched="blue"), *some[2:]]
    assert report.touched_first(first) == 0.5 and report.touched_first(some) is None
    cells = report.reduce({Cell("clone", 25, 0): first})
    assert cells[0]["named_touched_first"] == 0.5
    assert report.summarize({Cell("clone", 25, 0): first}, 25)["clone_named_touched_first"] == 0.5


def test_everything_is_played_once_and_reported(tmp_path, long_world, monkeypatch):
    done, worlds = [], {}

    def evaluate(settings, workers):
        worlds[next(iter(settings.policies))] = settings.world_model
        under = {settings.goal, settings.shift, settings.scene, settings.instruction}
        under -= {"own", "none", "standard", "normal"}
        done.append((*next(iter(settings.policies.items())), "".join(under)))
        return episodes(5)

    monkeypatch.setattr(policies, "evaluate", evaluate)
    for name in ("imitate", "practise"):
        monkeypatch.setattr(policies, name, lambda cell, args, out: None)
    monkeypatch.setattr(policies, "practised_in", lambda cell, args: "refitted")
    args = Arguments(world_model=long_world, demos=(25, 5), seeds=(0, 1), work=tmp_path / "work", out=tmp_path / "out")
    study.study(args)
    assert worlds == dict.fromkeys(METHODS, long_world) | {"coevolved": "refitted"}
    every = [row for row in METHODS if row in EVERY_SEED]
    rows = [*every * 2, *["clone", "dream"] * 2, *(row for row in METHODS if row not in EVERY_SEED)]
    assert [row for row, *_ in done] == rows and every[:2] == ["clone", "dream"]
    for index, (row, path, under) in enumerate(done):
        policy, _, condition = row.partition("/")
        assert under == {"other goal": "other", "held-out phrasing": "heldout"}.get(condition, condition)
        if condition:
            trained = len(every) if len(every) <= index < 2 * len(every) else 0
            assert path == done[trained + (policy == "dream")][1], "its own policy; controls: the first one"
    folders = {cell.folder(args.work) for cell in policies.cells(args)}
    assert len(folders) == len(done)
    study.study(args)
    assert len(done) == len(folders)
    written = json.loads((tmp_path / "out" / "goal_tasks.json").read_text())
    assert {"method", "demos", "task", "seed", "episodes", "physics_success", "dream_success"} <= set(
        written["cells"][0]
    )
    assert written["summary"]["gain_points"] == 0 and (tmp_path / "out" / "goal_tasks.md").is_file()
    with pytest.raises(FileNotFoundError, match="holds no episodes"):
        study.study(replace(args, work=tmp_path / "none", only_report=True))


def test_the_controls_begin_with_and_take_as_long_as_they_say(tmp_path, monkeypatch):
    args, made = Arguments(work=tmp_path, updates=100), []
    for row, took in (("clone", 2.0), ("dream", 5.0)):
        folder = Cell(row, 25, 0).folder(tmp_path)
        (folder / "policy").mkdir(parents=True)
        (folder / "policy" / "config.json").write_text("{}")
        (folder / "minutes.json").write_text(str(took))
    monkeypatch.setattr(policies, "clone", lambda form, *_: made.append(form.updates))
    monkeypatch.setattr(policies, "_episodes", lambda data: None)
    monkeypatch.setattr(policies.checkpoint, "load", lambda name: None)
    policies.make(Cell("longer cloning", 25, 0), args)
    assert made == [350], "100 as the clone, 250 in the time of practice"
    monkeypatch.setattr(policies, "practised_in", lambda cell, args: f"world of {cell.row}")
    monkeypatch.setattr(policies.train, "make_env", lambda form: None)
    monkeypatch.setattr(policies.train, "train", lambda form, *_: made.append((form.world_model, Path(form.init))))
    for row, first in (("untrained dream", "clone"), ("coevolved", "dream")):
        policies.make(Cell(row, 25, 0), args)
        assert made[-1] == (f"world of {row}", Cell(first, 25, 0).folder(tmp_path) / "policy")


def test_an_untrained_dream_of_slots_sees_as_the_true_one_does_and_does_not_move(tmp_path):
    cell = Cell("untrained dream", 25, 0)
    blank = policies.practised_in(cell, Arguments(world_model="place_stack", work=tmp_path))
    registry.load("place_stack").config.check_encoder(blank)
    env = gym.make("NicoLDream-v0", world_model=blank, task="stack", obs_type="native")
    before, _ = env.reset(seed=0)
    for _ in range(5):
        after, *_ = env.step(np.array([1.0, 0.5, -1.0, 1.0], np.float32))
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("wrong", [{"methods": ("magic",)}, {"tasks": ("fly",)}, {"demos": ()}, {"hindsight": 2}])
def test_what_cannot_be_studied_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Arguments(**wrong)
