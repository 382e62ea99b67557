"""Somebody else's robot: the page's blocks run as they stand, the wrapper shows what it says, the study runs."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import blocks as toy_blocks
import gymnasium as gym
import numpy as np
import pytest
import small_world

from dream_env.agents.data import behaviors
from dream_env.agents.fit.dynamics.command import with_ends_as_goals
from dream_env.agents.run.cli import command
from dream_env.agents.studies.your_robot import command as study
from dream_env.agents.studies.your_robot import scripted
from dream_env.agents.studies.your_robot.arguments import Arguments
from dream_env.data.episodes import EpisodeDataset

PAGE = (Path(__file__).parents[1] / "docs" / "your_robot.md").read_text()
SMALL = {
    "collect": "--episodes 3 --max-steps 4 --workers 1",
    "subsample": "--frame-skip 2",
    "fit": "--updates 2 --width 8 --members 2 --batch 4 --picture-size 16",
    "clone": "--updates 2 --batch 8 --width 16 --latents 2 --depth 1",
    "train": "--steps 40 --n-envs 2",
    "evaluate": "--episodes 1 --workers 1",
}
"""What is added to the commands of the page."""
OF_KIND = {
    "slots": "--distance-updates 2 --own-updates 2 --position-updates 2",
    "dynamics": "--picture-updates 2 --latent 4",
}
"""And to fits of a kind of world model."""


def panda():
    pytest.importorskip("panda_gym")
    from dream_env.agents.studies.your_robot import panda

    return panda


def robot(root):
    """A recording of somebody's robot, with sentences and success marks and without goals."""
    spec = replace(small_world.SPEC, goals=False, name="gripper", horizon=6)
    episodes = [
        small_world.episode(i, 4, goal=None, kind="unknown", instruction=f"move to the {('right', 'left')[i % 2]}")
        for i in range(6)
    ]
    small_world.write(root, *episodes, spec=spec)


def blocks(first, last):
    """The blocks of a part of the page."""
    return re.findall(r"```(sh|python)\n(.*?)```", PAGE.split(first)[1].split(last)[0], re.DOTALL)


def run(found):
    """Runs blocks one after the other: commands at toy size."""
    ran = []
    for kind, text in found:
        if kind == "python":
            exec(compile(text, "docs/your_robot.md", "exec"), {"__name__": "block"})
            continue
        for line in text.strip().splitlines():
            words = shlex.split(line)
            if words[0] == "pip":
                continue
            assert words[:2] == ["python", "-m"]
            if words[2] == "dream_env.data.episodes":
                assert len(EpisodeDataset.load(words[3]))
                continue
            name = words[2].removeprefix("agents.")
            asked = [word for word in words[3:]]
            more = OF_KIND[asked[asked.index("--model") + 1]] if name == "fit" else ""
            for option, value in zip(*[iter(shlex.split(f"{SMALL[name]} {more}"))] * 2, strict=True):
                if option in asked:
                    asked[asked.index(option) + 1] = value
                else:
                    asked += [option, value]
            command(name, asked)
            ran.append(name)
    return ran


def test_the_page_on_an_environment_runs(tmp_path, monkeypatch, capsys):
    panda()
    monkeypatch.chdir(tmp_path)
    assert run(blocks("## Start from an environment", "## Start from a recording")) == [
        "collect",
        "fit",
        "clone",
        "train",
        "evaluate",
    ]
    assert "| reach_dream" in capsys.readouterr().out


def test_the_page_on_a_recording_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    robot(tmp_path / "data" / "robot")
    assert run(blocks("## Start from a recording", "## A few labeled episodes")) == [
        "subsample",
        "fit",
        "clone",
        "train",
    ]


def test_the_page_on_labelled_episodes_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seeds in (("robot", range(8)), ("tracked", range(8, 33))):
        episodes = [toy_blocks.episode(seed) for seed in seeds]
        for one in episodes:
            places = np.pad(one.labels.pop("pose").reshape(-1, 2, 2), ((0, 0), (0, 0), (0, 1)))
            one.labels |= {"places": places.reshape(-1, 6)} if name == "tracked" else {}
        small_world.write(tmp_path / "data" / name, *episodes, spec=toy_blocks.spec())
    assert run(blocks("## A few labeled episodes", "## If the policy does worse")) == ["fit"]


def test_ends_are_goals_where_there_are_none(tmp_path):
    robot(tmp_path)
    data = EpisodeDataset.load(tmp_path)
    given = with_ends_as_goals(data)
    assert given.spec.goals and set(given.goal) == {"top", "wrist"}
    np.testing.assert_array_equal(given.goal["top"][2], data[2].observation["top"][-1])
    with pytest.raises(ValueError, match="goals of their own"):
        with_ends_as_goals(given)


def test_the_goal_picture_shows_what_will_be_seen_there_and_taking_it_moves_nothing():
    module = panda()
    env = gym.make(module.REACH)
    first, _ = env.reset(seed=1)
    goal = env.get_wrapper_attr("goal_observation")["left"]
    robot, task = env.get_wrapper_attr("robot"), env.get_wrapper_attr("task")
    np.testing.assert_equal(first, env.reset(seed=1)[0])
    assert env.observation_space.contains(first) and np.abs(first["left"].astype(int) - goal).mean() > 1
    np.testing.assert_allclose(first["hand"][:3], robot.get_ee_position(), atol=1e-6)
    for _ in range(20):
        action = np.clip((task.get_goal() - robot.get_ee_position()) / 0.05, -1, 1).astype(np.float32)
        last, _, terminated, truncated, info = env.step(action)
    assert info["is_success"] and truncated and not terminated
    apart, before = (np.abs(one["left"].astype(int) - goal).mean() for one in (last, first))
    assert apart < 0.3 * before


def test_playing_meets_the_object():
    module = panda()
    world = behaviors.make_env(module.PUSH)
    sim = world.env.get_wrapper_attr("sim")
    moved = []
    for seed in range(3):
        before = []

        def acts(space, rng, obs, before=before):
            before.append(np.array(sim.get_base_position("object")))
            yield from scripted.play(world.env)(space, rng, obs)

        one = behaviors.record(world, behaviors.Job(seed, "play", seed, ""), acts)
        assert one.goal is not None and one.observation["right"].shape == (51, 64, 64, 3)
        moved.append(np.linalg.norm(np.array(sim.get_base_position("object")) - before[0]) > 0.01)
    assert sum(moved) >= 2


def test_demonstrations_push_the_object_to_its_goal_and_take_the_hand_back():
    module = panda()
    world = behaviors.make_env(module.PUSH)
    won, back = [], []
    for seed in range(5, 10):
        acts = scripted.demonstrate(world.env)
        one = behaviors.record(world, behaviors.Job(seed, "demo", seed, ""), acts)
        hand = one.observation["hand"][:, :3]
        won.append(one.success[-1])
        back.append(np.linalg.norm(hand[-1] - hand[0]))
    assert sum(won) >= 4 and np.median(back) < 0.03


def test_a_push_begins_behind_the_thing_and_ends_before_it_slides_too_far():
    hand, home = np.array([0.0, 0.0, 0.02]), np.array([0.0, 0.0, 0.2])
    goal = np.array([0.2, 0.0])
    resting, sliding = np.zeros(2), np.array([0.03, 0.0])
    assert scripted.next_motion(hand, np.array([0.05, 0.0]), resting, goal, home)[0] > 0, "it pushes from behind"
    assert scripted.next_motion(hand, np.array([0.12, 0.0]), sliding, goal, home)[2] > 0, "it slides there by itself"
    assert scripted.next_motion(hand, np.array([-0.05, 0.0]), resting, goal, home)[2] > 0, "the hand is in the way"


@pytest.mark.parametrize("case", ["reach", "push_demonstrated"])
def test_the_study_runs_and_goes_on_where_it_stopped(case, tmp_path, monkeypatch):
    panda()
    few = {"kinds": ("slots",)} if case == "push_demonstrated" else {}
    args = Arguments(tmp_path / "out", tmp_path / "work", (case,), seeds=1, evaluated=2, her=False, short=True, **few)
    study.main(args)
    before = (tmp_path / "out" / "your_robot.json").read_text()
    monkeypatch.setattr(study, "FITS", {})  # nothing is done again
    monkeypatch.setattr(study, "train", None)
    study.main(args)
    assert (tmp_path / "out" / "your_robot.json").read_text() == before
    found = json.loads(before)
    steps = {row["policy"]: row["real_steps"] for row in found["rows"] if row["world_model"] == "slots"}
    assert f"panda_{case}" in found["summary"]
    if case == "push_demonstrated":
        assert steps[study.COEVOLVED] == steps[study.PRACTISED] + 2 * 50 and steps[study.LONGER] == 4 * 50
        assert found["summary"][f"panda_{case}"] == found["rows"][-1]["success"]["value"]


def test_the_table_of_the_shipped_results_is_as_the_command_writes_it():
    results = Path(__file__).parents[1] / "results"
    text = study.table(json.loads((results / "your_robot.json").read_text())["rows"])
    assert text == (results / "your_robot.md").read_text() and "practiced in the dream" in text
    assert "practised" not in text, "American spelling, though rows of files keep theirs"
