"""The study of the scripted experts."""

import json

import pytest

from dream_env.agents.studies.experts import command as experts
from dream_env.nicol.tasks import TASKS


def test_report_counts_what_was_played(tmp_path, monkeypatch):
    monkeypatch.setattr(experts, "TASKS", {name: TASKS[name] for name in ("reach", "stack")})
    args = experts.Arguments(
        episodes=2, rate_episodes=1, tasks=("reach", "stack"), workers=1, work=tmp_path / "work", out=tmp_path
    )
    monkeypatch.setattr(experts, "RECORDED", {"varied": ("reach",)})
    experts.main(args)
    report = json.loads((tmp_path / "experts.json").read_text())
    assert [(row["scene"], row["task"], row["episodes"]) for row in report["rows"]] == [
        (scene, task, 2) for scene in ("standard", "varied") for task in ("reach", "stack")
    ]
    assert all(row["low"] <= row["value"] == row["successes"] / 2 <= row["high"] for row in report["rows"])
    assert report["steps_per_core_second"]["varied reach"] > 5
    monkeypatch.setattr(experts, "succeeds", lambda *job: pytest.fail("played again"))
    assert experts.measure(args)["rows"] == report["rows"]
    assert "| varied" in (tmp_path / "experts.md").read_text() and (tmp_path / "experts.png").stat().st_size > 10_000


def test_bad_arguments_are_named():
    for given, why in (({"episodes": 0}, "episodes=0"), ({"tasks": ("juggle",)}, "tasks='juggle'")):
        with pytest.raises(ValueError, match=why):
            experts.measure(experts.Arguments(**given))
