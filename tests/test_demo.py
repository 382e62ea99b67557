"""The main job: its stages, their resumption and what it prints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dream_env.agents import demo, policy
from dream_env.agents.outcomes import Outcome
from dream_env.agents.pictures import Clip
from dream_env.agents.policy import VLA, VLAConfig


@pytest.fixture
def world(monkeypatch):
    """Doubles for everything slow: physics, dream and RL; counts what is really done."""
    done = []

    def evaluate(settings):
        done.extend(settings.policies)
        solves = 2 if demo.BEFORE in settings.policies else 4
        return [
            Outcome(label, place, task, settings.seed + i, "words", False, i < solves, 1.0, 0.5)
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
    assert "about 7 minutes" in text and str(tmp_path.resolve()) in text
    assert "before RL" in text and "after RL − before RL" in text and "+50 (" in text
    for name in demo.FILES:
        assert (tmp_path / name).exists(), name
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["policy"], row["world"], row["task"]): row for row in results["rows"]}
    assert rows["before RL", "physics", "all"]["successes"] == 6
    assert rows["after RL", "dream", "lift"]["value"] == 1
    assert world[1].steps == demo.Arguments.steps and world[1].init == "few"


def test_a_second_run_evaluates_only_what_has_changed(world, tmp_path):
    args = demo.Arguments(task="reach", out=tmp_path, episodes=3)
    first = demo.demo(args)
    assert [each for each in world if isinstance(each, str)] == [demo.BEFORE, demo.AFTER]
    world.clear()
    assert demo.demo(args) == first
    assert not [each for each in world if isinstance(each, str)]
    demo.demo(replace(args, episodes=4))
    assert [each for each in world if isinstance(each, str)] == [demo.BEFORE, demo.AFTER]


def test_short_form_is_small():
    size = demo.Arguments(short=True, task="lift").size()
    assert size.episodes <= 2 and size.steps < 10_000 and size.task == "lift"
    assert demo.Arguments().size() == demo.Arguments()
    assert demo.Arguments.episodes >= 50


def test_unknown_task_and_interruption(world, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="task='fly' is not known; accepted: 'reach'"):
        demo.main(demo.Arguments(task="fly", out=tmp_path))

    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "evaluate", interrupt)
    with pytest.raises(SystemExit, match="the same command goes on from here"):
        demo.main(demo.Arguments(out=tmp_path))
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.slow
def test_everything_from_scratch(tmp_path, capsys):
    demo.main(demo.Arguments(short=True, from_scratch=True, out=tmp_path))
    assert "after RL − before RL" in capsys.readouterr().out
    for name in (*demo.FILES, "data/meta/info.json", "world_model/bank.npz", "clone/config.json"):
        assert (tmp_path / name).exists(), name
