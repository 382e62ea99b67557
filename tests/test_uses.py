"""The report of uses counts what was played, on starts that arms have in common."""

import json

import pytest

from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.studies.uses import command as uses
from dream_env.agents.studies.uses.arguments import Arguments


def episode(label, seed, success, task="push", solved=False):
    return EpisodeResult(label, "physics", task, seed, "words", solved, success, 0.0, 0.0, milliseconds=2.0)


def played():
    """The clone solves 2 of 4 starts, foresight 3 of the same; one start is solved already."""
    clone = [episode("few", seed, seed < 2) for seed in range(4)] + [episode("few", 9, True, solved=True)]
    return clone + [episode("foresight", seed, seed < 3) for seed in range(4)] + [episode("foresight", 7, False)]


def test_gains_are_of_starts_that_both_have_played():
    cells, summary = uses.reduce(played())
    assert summary["foresight_gain_points"] == 25 and summary["plan_gain_points"] is None
    few = next(cell for cell in cells if cell["label"] == "few")
    assert (few["episodes"], few["physics_success"], few["ms_per_action"], few["use"]) == (4, 0.5, 2.0, "clone")


def test_the_share_of_headroom_is_on_the_oracles_tasks():
    found = {"push": {"episodes": 4, "pass_1": 0.5, "pass_k": 1.0}}
    share = uses.headroom(found, played())
    assert share == {"oracle_pass_1": 0.5, "oracle_pass_k": 1.0, "foresight_share_of_headroom": 0.5}


def test_the_command_reports_what_is_there_and_refuses_what_is_not(tmp_path):
    save_results(played()[:5], tmp_path / "few.jsonl")
    uses.main(Arguments(arms=("none",), speed=False, work=tmp_path, out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "uses.json").read_text())
    assert [cell["task"] for cell in report["cells"]] == ["push"] and "few" in (
        tmp_path / "out" / "uses.md"
    ).read_text()
    with pytest.raises(ValueError, match="arms='hope'; accepted: none, few"):
        uses.main(Arguments(arms=("hope",), work=tmp_path, out=tmp_path))
