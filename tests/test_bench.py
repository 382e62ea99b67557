"""`agents.studies.bench`: everything runs, and the figures are what they say."""

import json
import time
from pathlib import Path

import gymnasium as gym
import pytest
import toy

from dream_env.agents.run.config import command_line
from dream_env.agents.studies.bench import cases, report
from dream_env.agents.studies.bench import command as bench
from dream_env.agents.studies.bench.cases import bare, flops_per_step
from dream_env.agents.studies.bench.clock import Case, clock, clock_all

SPEED = {"what", "num_envs", "device", "processes", "threads", "steps_per_s", "steps_per_cpu_s"}


@pytest.fixture(scope="module", autouse=True)
def own_time_limit():
    """Undoes what importing rl_zoo3 does to the process: it replaces Gymnasium's `TimeLimit`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gym.wrappers, "TimeLimit", gym.wrappers.TimeLimit)
        yield


def sleeper(num_envs, nap):
    """Sleeps, which takes time but hardly any CPU time."""

    def work():
        time.sleep(nap)
        return num_envs

    return work


def failing(num_envs):
    raise ArithmeticError("no work today")


def test_clocks_count_all_processes():
    one = clock([Case("sleep", sleeper, 3, {"nap": 0.02})], seconds=0.2, repeats=2)[0]
    assert one.steps_per_s == pytest.approx(3 / 0.02, rel=0.3)
    assert one.steps_per_cpu_s > 5 * one.steps_per_s


def test_what_is_compared_takes_turns():
    order = []

    def note(num_envs, name):
        def work():
            order.append(name)
            return num_envs

        return work

    cases = [Case(name, note, rows, {"name": name}, compared="both") for rows, name in ((1, "a"), (2, "b"))]
    rows = clock_all({"list": [*cases, Case("c", note, 1, {"name": "c"})]}, 0.0, 2, progress=False)["list"]
    assert [(row.what, row.num_envs) for row in rows] == [("a", 1), ("b", 2), ("c", 1)]
    assert order == ["a", "b", "a", "b", "a", "b", "c", "c", "c"]


def test_processes_work_at_the_same_time_and_fail_together():
    both = clock([Case("sleep", sleeper, 3, {"nap": 0.02}, processes=2)], seconds=0.2, repeats=2)[0]
    assert both.steps_per_s == pytest.approx(2 * 3 / 0.02, rel=0.3)
    with pytest.raises((ArithmeticError, RuntimeError)):
        clock([Case("failing", failing, processes=2)], seconds=0.1, repeats=1)


def test_multiplications_are_counted_per_row():
    per_step = flops_per_step("state_grounded")
    assert per_step["predictor"] > 1e6 and 0 < per_step["success_and_metric"] < per_step["predictor"]


def test_bare_steps_go_on_from_the_last_state(monkeypatch):
    model, seen = toy.ToyWorldModel(), []
    real = model.step

    def spied(state, action):
        seen.append((state, real(state, action)))
        return seen[-1][1]

    monkeypatch.setattr(cases.checkpoint, "load", lambda *_: model)
    monkeypatch.setattr(model, "step", spied)
    step = bare(4, "toy", "cpu")
    assert step() == step() == 4
    assert seen[-1][0] is seen[-2][1][0]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The files of a quick run of the command."""
    folder = tmp_path_factory.mktemp("bench")
    bench.main(bench.Arguments(quick=True, peers=True, out=folder))
    return folder


def test_what_is_wrong_is_named_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="repeats=0; accepted: a finite number, at least 1"):
        bench.Arguments(repeats=0)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="out=.*file is no folder that can be written to"):
        bench.main(bench.Arguments(out=tmp_path / "file"))


def test_figures_that_mean_little_do_not_replace_results():
    assert bench.Arguments().folder == Path("results")
    assert bench.Arguments(quick=True).folder == Path("runs/bench_quick")


def test_quick_run_writes_the_table(quick):
    result = json.loads((quick / "bench.json").read_text())
    for name in ("steps", "practice", "actions", "frames"):
        assert result[name] and all(set(row) == SPEED for row in result[name])
        assert all(row["steps_per_s"] > 0 and row["steps_per_cpu_s"] > 0 for row in result[name])
    names = {row["what"] for row in result["steps"]}
    assert {report.VECTOR, report.BARE, report.PHYSICS, "gymnasium SyncVectorEnv"} <= names
    assert result["machine"]["cores"] and result["versions"]["torch"]
    assert result["command"] == command_line("studies.bench", bench.Arguments(quick=True, peers=True, out=quick))
    assert result["matmul_gflops"] > 1 and result["predictor_flops_per_step"] > 1e6
    assert {row["num_envs"] for row in result["memory"]} == {0, 4}
    assert all(50 < row["mib"] < 5000 for row in result["memory"])
    assert {row["what"] for row in result["start"]} > {"import dream_env", "make", "first step"}
    assert (quick / "bench.png").stat().st_size > 10_000
    page = (quick / "bench.md").read_text()
    assert all(what in page for what, *_ in report.TARGETS.values())


def test_ratios_are_of_the_rows(quick):
    result = json.loads((quick / "bench.json").read_text())
    for row in result["steps"]:
        row["steps_per_cpu_s"] = {"bare predictor": 100.0, report.VECTOR: 80.0}.get(row["what"], 1.0)
        row["steps_per_s"] = {report.PHYSICS: 4.0, report.VECTOR: 160.0}.get(row["what"], 1.0)
    result |= {"predictor_flops_per_step": 1e6, "matmul_gflops": 0.2}
    found = report.ratios(result)
    assert found["vector_over_bare"] == pytest.approx(0.8)
    assert found["bare_over_matmul"] == pytest.approx(0.5)
    assert found["dream_over_physics"] == pytest.approx(40)
    assert found["torchrl_4096"] is None
    met = {record["figure"]: record["met"] for record in report.headline(found)}
    assert [word for figure, word in met.items() if figure.startswith("vector env / ")] == ["no", "yes", "–"]
