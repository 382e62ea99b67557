"""The report of uses counts what was played, on starts that arms have in common."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.nicol.rollouts import Batch
from dream_env.agents.planners.planner import PlannerConfig
from dream_env.agents.studies.uses import amplify, bound, report
from dream_env.agents.studies.uses import command as uses
from dream_env.agents.studies.uses.arguments import Arguments
from dream_env.data.episode import Episode as AnyEpisode
from dream_env.data.episodes import EpisodeDataset as AnyEpisodes
from dream_env.files import write_json
from dream_env.nicol.env import NicoLRealEnv
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint


def episode(label, seed, success, task="push", solved=False):
    return EpisodeResult(label, "physics", task, seed, "words", solved, success, 0.0, 0.0, milliseconds=2.0)


def played():
    """The clone solves 2 of 4 starts, foresight 3 of the same; one start is solved already."""
    clone = [episode("few", seed, seed < 2) for seed in range(4)] + [episode("few", 9, True, solved=True)]
    return clone + [episode("foresight", seed, seed < 3) for seed in range(4)] + [episode("foresight", 7, False)]


def test_gains_are_of_starts_that_both_have_played():
    cells, summary = report.reduce(played())
    assert summary["foresight_gain_points"] == 25 and summary["plan_gain_points"] is None
    few = next(cell for cell in cells if cell["label"] == "few")
    assert (few["episodes"], few["physics_success"], few["ms_per_action"], few["use"]) == (4, 0.5, 2.0, "clone")


def test_the_share_of_headroom_is_on_the_oracles_tasks():
    found = {"push": {"episodes": 4, "pass_1": 0.5, "pass_k": 1.0}}
    share = report.headroom(found, played())
    assert share == {"oracle_pass_1": 0.5, "oracle_pass_k": 1.0, "foresight_share_of_headroom": 0.5}


def test_the_command_reports_what_is_there_and_refuses_what_is_not(tmp_path):
    save_results(played()[:5], tmp_path / "few.jsonl")
    uses.main(Arguments(arms=("none",), speed=False, work=tmp_path, out=tmp_path / "out"))
    told = json.loads((tmp_path / "out" / "uses.json").read_text())
    assert [cell["task"] for cell in told["cells"]] == ["push"] and "few" in (tmp_path / "out" / "uses.md").read_text()
    with pytest.raises(ValueError, match="arms='hope'; accepted: none, few"):
        uses.main(Arguments(arms=("hope",), work=tmp_path, out=tmp_path))


def test_amplification_is_compared_seed_by_seed():
    """One start per seed: the first policy gains, the second loses, the third has no counterpart."""
    rows = [("", False, True), (", seed 1", True, False), (", seed 2", True, None)]
    played = [
        episode(f"amplify, {control}{suffix}", i, won)
        for i, (suffix, *both) in enumerate(rows)
        for control, won in zip(("real", "filtered"), both, strict=True)
        if won is not None
    ]
    gain = report.gained(played, "filtered")
    assert gain.value == 0
    cells, summary = report.reduce(played)
    assert summary["amplify_gain_points"] == 0 and summary["amplify_oracle_points"] is None
    assert {cell["seed"] for cell in cells} == {0, 1, 2}


def test_ways_to_act_are_compared_with_the_clones_that_they_begin_with():
    """Foresight wins one more of two starts by seed 0, one less by seed 1, and played one that the clone did not."""
    name = "{}, 5 demonstrations, seed {}".format
    rows = [
        ("clone", 0, 0, 0),
        ("foresight", 0, 0, 1),
        ("clone", 1, 0, 1),
        ("foresight", 1, 0, 0),
        ("foresight", 1, 1, 1),
    ]
    played = [episode(name(use, seed), start, bool(won)) for use, seed, start, won in rows]
    clone, foresight = report.together(played)
    assert (clone["use"], clone["seeds"], clone["physics_success"][0]) == (
        "clone",
        2,
        0.5,
    ) and "gain_points" not in clone
    assert (foresight["episodes"], foresight["tasks"]["push"][0], foresight["gain_points"]) == (3, 2 / 3, 0)
    assert report.gains([clone, foresight])["foresight_5_points"] == 0
    assert [row["gain, points"] for row in report.shown([clone, foresight])] == ["–", "+0.0 (-100.0 to +100.0)"]


def test_what_an_earlier_report_tells_of_other_arms_is_kept(tmp_path):
    out = tmp_path / "out"
    save_results(played(), tmp_path / "few.jsonl")
    first = Arguments(arms=("none",), speed=False, work=tmp_path, out=out)
    uses.main(first)
    (tmp_path / "few.jsonl").unlink()
    save_results([episode("default", 0, True)], tmp_path / "default.jsonl")
    uses.main(first)
    labels = [cell["label"] for cell in json.loads((out / "uses.json").read_text())["cells"]]
    assert set(labels) == {"default", "few", "foresight"}


def test_controls_of_amplification_choose_by_filter_and_by_physics(tmp_path):
    frames = np.ones(4)
    data = AnyEpisodes.stack(
        [
            AnyEpisode(
                observation={"state": np.zeros((4, 1), np.float32)},
                action=np.zeros((3, 1), np.float32),
                success=frames > 1 - won,
                labels={"kept": kept * frames, "confirmed": true * frames},
                seed=i,
            )
            for i, (kept, true, won) in enumerate([(1, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 0)])
        ],
        WorldSpec(
            "cart", spaces.Dict({"state": spaces.Box(-1, 1, (1,))}), spaces.Box(-1, 1, (1,), np.float32), hold_steps=2
        ),
    )
    chosen = {name: amplify.chosen(data, name).seed.tolist() for name in amplify.CONTROLS[1:]}
    assert chosen == {"unfiltered": [0, 1, 2, 3], "filtered": [0, 1], "oracle": [0, 2], "foresight": [0, 1]}
    found = amplify.precision(data)
    assert (found["filter_precision"], found["filter_base"], found["filter_kept"]) == (0.5, 0.5, 0.5)
    assert found["filter_precision_unfiltered"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="data=None"):
        uses.amplification(Arguments())


def test_physics_as_the_model_measures_as_the_dream_does(tmp_path):
    """At the goal that the expert reached the true state is as near as the estimated one; one color is not there."""
    model, env = checkpoint.load("state_grounded"), NicoLRealEnv("all")
    env.reset(seed=210_000, options={"task": "reach"})
    goal = model.encode({"pixels": torch.from_numpy(env.goal_image)[None]})["object_state"]
    cost = bound.PhysicsCost(env, PlannerConfig("state_grounded", objective={"metric": 1.0}, path=0.0), model, goal)
    expert = [env.expert_action()]
    for _ in range(5):
        env.step(expert[-1])
        expert.append(env.expert_action())
    candidates = torch.from_numpy(np.stack([np.stack(expert), np.zeros((6, 4), np.float32)])).float()[None]
    near, far = cost(candidates)[0].tolist()
    assert near < 0.5 and far > near + 1
    assert cost(candidates)[0].tolist() == pytest.approx([near, far], abs=0.05)  # a snapshot is a snapshot
    env.close()


def test_an_episode_is_planned_in_physics(tmp_path):
    options = {"samples": 2, "iterations": 1, "elites": 1, "kept": 1}
    config = PlannerConfig("state_grounded", objective={"metric": 1.0}, horizon=12, execute=12, options=options)
    write_json(tmp_path / "planner.json", {"kind": "planner", **asdict(config)})
    batch = Batch(str(tmp_path / "planner.json"), "bound", "physics", "reach", (210_000,))
    (result,) = bound.play(batch)
    assert result.milliseconds > 0 and bound.steps_per_episode(config, 24) == 48
    write_json(tmp_path / "planner.json", {"kind": "planner", **asdict(replace(config, objective={"energy": 1.0}))})
    with pytest.raises(ValueError, match="accepted: metric"):
        bound.play(batch)
