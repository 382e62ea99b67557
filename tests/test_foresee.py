"""Foresight: what is chosen among a policy's variations, and that nothing added is the policy itself."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from test_planners import GOAL, Cart, Push

from dream_env.agents import planners
from dream_env.agents.foresee import command as foresee
from dream_env.agents.plan import command as plan
from dream_env.agents.planners.foresight import Foresight, ForesightConfig, leads, looking
from dream_env.agents.planners.objectives import Objective
from dream_env.agents.run.trust import TRUST
from dream_env.nicol.spec import spec_of
from dream_env.nicol.tasks import TASKS

SEEN = {"embedding": np.zeros((3, 2), np.float32), "goal": np.tile(np.float32([GOAL, 0]), (3, 1))}


def foresight(action=0.0, **more):
    config = ForesightConfig(**{"objective": {"energy": 1.0}, "horizon": 4, "execute": 4, **more})
    return Foresight(config, Cart(), Push(action))


def costs(one, objective="energy"):
    """Carries out what was chosen from rest; returns the cost `(3,)` that it has."""
    one.reset()
    state = {"cart": torch.zeros(3, 2)}
    for _ in range(one.config.execute):
        action = one.act({**SEEN, "embedding": state["cart"].numpy()})
        state, _ = one.model.step(state, torch.from_numpy(action))
    return (state["cart"] - torch.tensor([GOAL, 0])).square().mean(1)


def test_the_best_candidate_is_carried_out_and_controls_are_worse():
    by = {pick: costs(foresight(pick=pick, draws=0, path=0.0)) for pick in ("best", "random", "worst")}
    own = costs(foresight(candidates=1, draws=0))
    assert (by["best"] < own).all() and (by["worst"] > own).all()
    assert (by["best"] < by["worst"]).all() and by["best"].mean() < by["random"].mean() < by["worst"].mean()


def test_with_one_candidate_or_a_wide_margin_it_is_the_policy_itself():
    for one in (foresight(0.3, candidates=1), foresight(0.3, margin=1e6)):
        assert np.allclose(one.act(SEEN), 0.3)
        assert one.chosen[0].tolist() == [0, 0, 0]


def test_a_lead_that_may_be_luck_is_no_lead():
    lead = torch.tensor([[1.0, 1.1, 0.9, 1.0], [4.0, -3.0, 5.0, -2.0], [-1.0, -1.0, -1.0, -1.1]])
    assert leads(lead).tolist() == [True, True, False]
    assert leads(lead, sure=2.0).tolist() == [True, False, False]
    assert leads(lead, margin=1.5).tolist() == [False, False, False]
    with pytest.raises(ValueError, match="sure=2.0 with draws=1"):
        ForesightConfig(sure=2.0, draws=1)


def test_equal_seeds_choose_alike_and_rows_do_not_know_of_each_other():
    one, same = (foresight(seed=4).act(SEEN) for _ in range(2))
    alone = foresight(seed=4).act({name: part[:1] for name, part in SEEN.items()})
    assert (one == same).all() and np.allclose(one[:1], alone, atol=1e-6)
    assert not np.allclose(one, foresight(seed=5).act(SEEN))


def test_candidates_meet_the_same_noise():
    one = foresight(std=0.0)
    state, goal = (
        one.model.restore({"embedding": torch.zeros(2, 2)}),
        one.model.restore({"embedding": torch.ones(2, 2)}),
    )
    alike = one.costs(state, goal, torch.zeros(2, 5, 4, 1), torch.rand(2, 3, 4, 1))
    torch.testing.assert_close(alike, alike[:, :1].expand(-1, 5, -1))
    assert (alike[0, 0] != alike[1, 0]).all()


def test_what_cannot_be_foreseen_is_refused():
    one = foresight(objective={"reward": 1.0})
    one.model.broken = True
    with pytest.raises(ValueError, match="NaN"):
        one.act(SEEN)
    with pytest.raises(ValueError, match="candidates=0"):
        foresight(candidates=0)
    with pytest.raises(ValueError, match="horizon=31; accepted: up to 30"):
        foresight(horizon=31)
    with pytest.raises(ValueError, match="pick='middle'"):
        foresight(pick="middle")


def test_a_policy_that_is_not_shown_the_goal_foresees_no_distance_to_it():
    policy = Push(0.0)
    policy.obs_type = "native"
    with pytest.raises(ValueError, match="needs the goal, which policy=.* is not shown.*accepted: another objective"):
        Foresight(ForesightConfig(objective={"energy": 1.0}, horizon=4), Cart(), policy)


def test_a_zip_of_stable_baselines_looks_ahead(tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    for name, form in (("plain", {}), ("goals", {"goal_env": True})):
        env = gym.make("NicoLDream-v0", **form)
        PPO("MultiInputPolicy", env, n_steps=8, batch_size=8).save(tmp_path / name)
    assert isinstance(looking(str(tmp_path / "plain.zip"), "default", 2), Foresight)
    with pytest.raises(ValueError, match="goal_env=True, which imagination does not show; accepted"):
        looking(str(tmp_path / "goals.zip"), "default", 2)


def test_a_foresight_is_kept_as_a_file(tmp_path):
    Foresight(ForesightConfig(candidates=3)).save(tmp_path / "foresight.json")
    read = planners.load(tmp_path / "foresight.json")
    assert isinstance(read, Foresight) and read.config.candidates == 3


def test_commands_write_policies_and_reports(tmp_path):
    quick = {"task": "reach", "episodes": 1, "gif_episodes": 0, "workers": 1}
    plan.main(
        plan.Arguments(
            world_model="state_grounded",
            objective=("metric", "energy=0.1"),
            samples=16,
            iterations=1,
            out=tmp_path / "plan",
            **quick,
        )
    )
    read = planners.load(tmp_path / "plan" / "planner.json")
    assert read.config.objective == {"metric": 1.0, "energy": 0.1} and read.solver.samples == 16
    foresee.main(foresee.Arguments(candidates=2, draws=1, oracle=2, out=tmp_path / "foresight", **quick))
    for name in ("plan", "foresight"):
        assert (tmp_path / name / "results.json").is_file() and (tmp_path / name / "episodes.jsonl").is_file()
    with pytest.raises(ValueError, match="objective='energy=much'"):
        plan.weights(["energy=much"])
    assert Objective(plan.weights(["success"])).needs == {"instruction", "success"}


def test_a_refused_command_leaves_the_files_of_an_earlier_run(tmp_path):
    for main, asked, name in ((plan.main, plan.Arguments, "planner"), (foresee.main, foresee.Arguments, "foresight")):
        file = tmp_path / "old" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text("before")
        for out in (file.parent, tmp_path / "new"):
            with pytest.raises(ValueError, match="task"):
                main(asked(task="fly", out=out, episodes=1, gif_episodes=0, workers=1))
        assert file.read_text() == "before" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("task", TASKS)
def test_the_oracle_varies_every_step_of_a_task_and_every_arm(task, monkeypatch):
    size, taken = spec_of(task).action.shape[0], []
    still = SimpleNamespace(reset=lambda: None, act=lambda obs: np.zeros((1, size), np.float32))

    def episode(batch, seed, act):
        taken.extend([act({}) for _ in range(TASKS[task].horizon)])
        return False, True

    monkeypatch.setattr(foresee, "load_policy", lambda path: still)
    monkeypatch.setattr(foresee, "physics_episode", episode)
    assert foresee.try_all(foresee.Variations(ForesightConfig(), task, 7, 2)) == [True, True]
    actions = np.reshape(taken, (2, TASKS[task].horizon, size))
    assert (actions[0] == 0).all() and (actions[1] != 0).all()


def test_few_candidates_of_a_plan_have_few_elites(tmp_path):
    few = plan.config(plan.Arguments(samples=8, out=tmp_path))
    assert few.options == {"samples": 8, "elites": 2, "kept": 2}
    assert plan.config(plan.Arguments(samples=40, out=tmp_path)).options == {"samples": 40}
    assert plan.config(plan.Arguments(solver="random", samples=2, out=tmp_path)).options == {"samples": 2}
