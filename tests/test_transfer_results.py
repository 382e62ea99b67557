"""What the transfer experiment plays, and how it is counted: its plan, its arithmetic, its report."""

import json

import pytest

from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.eval.statistics import wilson
from dream_env.agents.studies.transfer import report as experiment_report
from dream_env.agents.studies.transfer.plan import DEMOS, MAIN, METHODS, MODEL_FREE, SEEDS, WALL, Spec, Trial, plan
from dream_env.agents.studies.transfer.policies import TrainedPolicy
from dream_env.agents.studies.transfer.results import PlayedTrial, Results, cells, summarize, targets
from dream_env.nicol.constants import EPISODE_STEPS

TASKS = ("reach", "push", "lift")


def test_plan_begins_with_the_main_comparison_and_repeats_nothing():
    trials = plan(episodes=100, side_episodes=34)
    assert [(t.spec.method, t.spec.demos) for t in trials[:9]] == [(m, 100) for m in MAIN for _ in SEEDS]
    assert len(set(trials)) == len(trials)
    assert {t.spec.method for t in trials} == set(METHODS)
    assert {(t.spec.method, t.spec.demos) for t in trials if t.usual} >= {(m, n) for m in MAIN for n in DEMOS}
    assert {t.episodes for t in trials[:9]} == {100} and {t.episodes for t in trials[9:]} == {34}
    assert {(t.spec.method, t.spec.demos) for t in trials if t.budget} == {
        ("ppo_physics", 100),
        ("sac_her_physics", 100),
        ("ppo_physics", 5),
    }
    looks = {t.budget for t in trials if t.spec.method in MODEL_FREE}
    assert looks == {"4800", "19200", WALL}
    conditions = {(t.spec.method, t.instruction, t.shift) for t in trials if not t.usual}
    assert len(conditions) == 2 * (4 + 4), "four instructions and four shifts, of the clone and of the dream"


def played(method, physics, dream=None, seed=0, demos=100, steps=0, minutes=1.0, color="red", **condition):
    """A trial in which the first so many of ten starts per task succeed; start 10 is solved from the beginning."""
    outcomes = []
    for world, wins in (("physics", physics), ("dream", dream)):
        for task in TASKS if wins is not None else ():
            for i in range(11):
                said = "push the blue cube" if condition.get("instruction") == "swapped" else "push the red cube"
                touched = {"named": "red", "touched": color} if world == "physics" and task != "reach" else {}
                outcomes.append(EpisodeResult(method, world, task, i, said, i == 10, i < wins, 0.0, None, **touched))
    made = TrainedPolicy("x", None, steps, 60 * minutes, 60 * minutes, 0.0, 0.0)
    return PlayedTrial(Trial(Spec(method, demos, seed), 11, **condition), made, outcomes)


@pytest.fixture
def results():
    return Results(
        [
            *(played("clone", 4, 5, seed) for seed in SEEDS),
            *(played("dream", 6, 9, seed, minutes=5 + seed) for seed in SEEDS),
            *(played("dream_coevolved", 8, 10, seed, steps=4_800) for seed in SEEDS),
            played("dream", 1, instruction="swapped", color="blue"),
            played("dream", 5, instruction="heldout"),
            played("dream", 3, shift="mass"),
            played("dream", 2, 2, demos=25),
            played("ppo_physics", 1, 1, demos=25, steps=4_800, budget="4800"),
            played("ppo_physics", 5, 5, steps=4_800, budget="4800"),
            played("ppo_physics", 9, 9, steps=19_200, budget="19200"),
            played("sac_her_physics", 1, 1, steps=4_800, budget="4800"),
            played("sac_her_physics", 2, 2, steps=9_000, budget=WALL),
        ],
        world_model_steps=144_000,
    )


def test_summary_is_computed_from_episodes(results):
    found = summarize(results)
    assert found["lift_physics"] == 0.6 and found["clone_physics"] == 0.4
    assert found["all_physics_low"] == round(wilson(54, 90).low, 4), "solved starts are dropped, seeds pooled"
    assert (found["gain_points"], found["gain_coevolved_points"], found["gain_dream_points"]) == (20, 40, 40)
    assert found["gain_by_seed_points"] == "+20, +20, +20"
    assert found["frozen_share_of_gain"] == 0.5 and found["physics_share_of_dream"] == 0.5
    assert found["physics_share_of_dream_coevolved"] == 0.8 and found["coevolution_steps"] == 4_800
    assert found["intervals_apart"] is False
    assert found["contacts_on_named"] == 1 and found["contacts"] == 3 * 2 * 10
    assert found["swapped_contacts_on_told"] == 1 and found["swapped_success"] == 0.1
    assert found["heldout_cost_points"] == 10 and found["mass_dream"] == 0.3 and found["mass_clone"] is None
    assert found["dream_rl_minutes"] == 7 and found["world_model_steps"] == 144_000
    assert found["ahead_of_ppo_physics_equal_steps_points"] == 10
    assert found["ahead_of_sac_her_physics_equal_time_points"] == 40
    assert (found["ppo_physics_steps_to_match"], found["ppo_physics_steps_tried"]) == (19_200, 19_200)
    assert (found["sac_her_physics_steps_to_match"], found["sac_her_physics_steps_tried"]) == (None, 9_000)


def test_what_was_not_played_is_none_and_the_report_still_stands(results, tmp_path):
    found = summarize(Results([played("clone", 4, 5)]))
    assert found["gain_points"] is found["lift_physics"] is found["heldout_cost_points"] is None
    assert found["intervals_apart"] is None and found["clone_physics"] == 0.4
    assert {row["met"] for row in targets(found)} == {"–"}
    met = {row["figure"]: row["met"] for row in targets(summarize(results))}
    assert met["gain over the clone (points)"] == "yes" and met["reach in physics"] == "no"
    assert met["cost of phrasings never heard (points)"] == "no"
    assert met["RL in the dream (minutes by the clock, two runs side by side)"] == "yes"
    for some in (Results([]), results):
        text = experiment_report.write(some, {"command": "x"}, tmp_path)
        report = json.loads((tmp_path / "transfer.json").read_text(), parse_constant=pytest.fail)
        assert report["command"] == "x" and len(report["cells"]) == 4 * len(some.played)
    assert "| ppo_physics (19200)" in text and "80 % (71–87)" in text and "100 % of 20" in text
    assert "From 25 demonstrations per task:" in text
    assert report["few"]["summary"]["ahead_of_ppo_physics_equal_steps_points"] == 10
    assert [row["method"] for row in report["few"]["table"]] == ["dream", "ppo_physics (4800)"]
    assert (tmp_path / "transfer.png").stat().st_size > 10_000
    assert (tmp_path / "transfer.md").read_text() == text + "\n"


def test_cells_have_the_fields_that_were_asked_for(results):
    rows = cells(results)
    asked = "method demos task instruction shift seed episodes physics_success dream_success".split()
    assert set(rows[0]) >= {*asked, "physics_steps_for_training", "wall_s"}
    row = next(r for r in rows if (r["method"], r["task"], r["seed"]) == ("dream_coevolved", "lift", 1))
    assert (row["episodes"], row["physics_success"], row["dream_success"]) == (10, 0.8, 1.0)
    assert row["physics_steps_for_training"] == 3 * 100 * EPISODE_STEPS + 4_800
    assert next(r for r in rows if r["instruction"] == "swapped")["dream_success"] is None
    scratch = next(r for r in rows if r["method"] == "sac_her_physics")
    assert scratch["physics_steps_for_training"] == 4_800, "it has seen no demonstration"
