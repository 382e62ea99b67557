"""The main job: its stages, their resumption and what it prints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dream_env.agents.demo import command as demo
from dream_env.agents.eval.results import Clip, EpisodeResult
from dream_env.agents.evaluate.command import Settings
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.vla import VLA, VLAConfig
from dream_env.agents.run import hashing as sources
from dream_env.agents.run.cli import one_line


@pytest.fixture
def world(monkeypatch):
    """Doubles for everything slow: physics, dream and RL; counts what is really done."""
    done = []

    def evaluate(settings):
        done.extend(settings.policies)
        solves = 2 if demo.BEFORE in settings.policies else 4
        return [
            EpisodeResult(label, place, task, settings.seed + i, "words", False, i < solves, 1.0, 0.5)
            for label in settings.policies
            for place in ("physics", "dream")
            for task in settings.tasks
            for i in range(settings.episodes)
        ]

    def train(args, env, physics):
        done.append(args)
        torch.manual_seed(0)
        policy.save(VLA(VLAConfig()), args.out, "card")

    frames = np.zeros((25, 64, 64, 3), np.uint8)
    monkeypatch.setattr(demo, "evaluate", evaluate)
    monkeypatch.setattr(demo.train, "train", train)
    monkeypatch.setattr(demo.train, "make_env", lambda args: None)
    monkeypatch.setattr(demo, "record_clips", lambda settings, n: [Clip("reach", "words", True, frames, frames)])
    return done


def test_prints_and_writes_both_worlds_before_and_after(world, tmp_path, capsys):
    demo.main(demo.Arguments(out=tmp_path, episodes=4))
    text = capsys.readouterr().out
    assert "about 3 minutes" in text and str(tmp_path.resolve()) in text
    assert "before RL" in text and "after RL − before RL" in text and "+50 (" in text
    for name in demo.FILES:
        assert (tmp_path / name).exists(), name
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["policy"], row["world"], row["task"]): row for row in results["rows"]}
    assert rows["before RL", "physics", "all"]["successes"] == 6
    assert rows["after RL", "dream", "lift"]["value"] == 1
    assert (world[1].world_model, world[1].init) == ("unlabelled", "unlabelled")
    assert world[1].steps == 600_000 and world[1].temperature == 1.5


def test_trains_in_the_other_world_models(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo.main(demo.Arguments(world_model="state_grounded", episodes=1))
    assert (tmp_path / "nicol_demo_state_grounded" / "results.md").exists()
    assert (world[1].world_model, world[1].init) == ("state_grounded", "bc5")
    assert world[1].steps == 1_500_000 and world[1].temperature == 1
    demo.main(demo.Arguments(world_model="place_stack", episodes=1))
    results = json.loads((tmp_path / "nicol_demo_place_stack" / "results.json").read_text())
    assert {row["task"] for row in results["rows"]} == {"place", "stack", "all"}
    with pytest.raises(ValueError, match="world_model='unlabelled' with from_scratch=True"):
        demo.demo(demo.Arguments(world_model="unlabelled", from_scratch=True, out=tmp_path / "scratch"))
    with pytest.raises(ValueError, match="its encoder .* is not the one"):
        demo.demo(demo.Arguments(init="bc5", out=tmp_path / "other"))
    with pytest.raises(ValueError, match="task='place' is not known; accepted: 'reach', 'push', 'lift', 'all'"):
        demo.demo(demo.Arguments(task="place", out=tmp_path / "another"))


def test_a_second_run_evaluates_only_what_has_changed(world, tmp_path):
    args = demo.Arguments(task="reach", out=tmp_path, episodes=3)
    first = demo.demo(args)
    assert [each for each in world if isinstance(each, str)] == [demo.BEFORE, demo.AFTER]
    world.clear()
    assert demo.demo(args) == first
    assert not [each for each in world if isinstance(each, str)]
    demo.demo(replace(args, episodes=4))
    assert [each for each in world if isinstance(each, str)] == [demo.BEFORE, demo.AFTER]


def test_what_has_changed_is_evaluated_anew(world, tmp_path, monkeypatch):
    real, code, seen = sources.package, tmp_path / "agents" / "policy.py", tmp_path / "model" / "config.json"
    for file in (code, seen):
        file.parent.mkdir()
        file.write_text("1")
    monkeypatch.setattr(sources, "package", lambda name: code.parent if name == "dream_env.agents" else real(name))
    policy.save(VLA(VLAConfig(world_model=str(seen.parent))), tmp_path / "clone", "card")
    settings = Settings({demo.BEFORE: str(tmp_path / "clone")}, ("reach",), 1)
    for changed in (None, code, seen):
        if changed:
            changed.write_text("2")
        world.clear()
        for _ in range(2):
            demo.evaluated(settings, tmp_path / "episodes")
        assert world == [demo.BEFORE], changed


def test_forms_have_folders_of_their_own():
    forms = [demo.Arguments(short=short, from_scratch=scratch) for short in (False, True) for scratch in (False, True)]
    assert [str(form.folder) for form in forms] == [
        "nicol_demo",
        "nicol_demo_from_scratch",
        "nicol_demo_short",
        "nicol_demo_short_from_scratch",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "fly"}, "task='fly' is not known; accepted: 'reach'"),
        ({"episodes": 0}, "episodes=0; accepted: a finite number, at least 1"),
        ({"steps": 0}, "steps=0; accepted"),
        ({"collected": 5}, "collected=5; accepted"),
        ({"demonstrations": 151}, "demonstrations=151; accepted: a finite number, 1 to 150"),
        ({"world_model": "place_stack"}, "world_model='place_stack' with from_scratch=True"),
        ({"task": "lift"}, "holds a run with other settings: task 'reach', now 'lift'"),
        ({"short": True}, "holds a run with other settings: short False, now True"),
    ],
)
def test_what_is_wrong_is_named_before_the_first_stage(world, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(demo, "from_scratch", lambda args: ("default", "few"))
    args = demo.Arguments(task="reach", from_scratch=True, episodes=1, out=tmp_path)
    demo.demo(args)
    monkeypatch.setattr(demo, "from_scratch", None)
    with pytest.raises(ValueError, match=message):
        demo.demo(replace(args, **change))


def test_a_clone_with_other_eyes_does_not_begin(world, tmp_path):
    policy.save(VLA(VLAConfig(encoder_id=(9.0,))), tmp_path / "clone", "card")
    with pytest.raises(ValueError, match="its encoder .* is not the one"):
        demo.demo(demo.Arguments(init=str(tmp_path / "clone"), out=tmp_path / "out"))
    assert not world and not (tmp_path / "out").exists()


def test_short_form_is_small():
    small = demo.Arguments(short=True, task="lift").complete()
    assert small.episodes <= 2 and small.steps < 30_000 and small.task == "lift"
    assert demo.Arguments().complete().episodes == demo.Arguments.episodes
    assert demo.Arguments.episodes >= 50


def test_interruption(world, tmp_path, monkeypatch):
    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "evaluate", interrupt)
    with pytest.raises(SystemExit, match="interrupted; run the same command again to resume"), one_line("demo"):
        demo.main(demo.Arguments(out=tmp_path))
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.slow
def test_everything_from_scratch(tmp_path, capsys):
    demo.main(demo.Arguments(short=True, from_scratch=True, out=tmp_path))
    assert "after RL − before RL" in capsys.readouterr().out
    for name in (*demo.FILES, "data/meta/info.json", "world_model/initial_states.npz", "clone/config.json"):
        assert (tmp_path / name).exists(), name
