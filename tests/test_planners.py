"""Planners: plans in worlds whose optimum is known, through the protocol that every world model has."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents import planners
from dream_env.agents.planners.objectives import Objective
from dream_env.agents.planners.planner import SOLVERS, Planner, PlannerConfig
from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import Imagination, Imagined, imagine
from dream_env.spec import WorldSpec
from dream_env.world_models.protocol import Prediction

GOAL = 1.0


class Cart:
    """A double integrator: an action pushes, and it is paid minus the square distance to 1, and minus the speed's."""

    spec = WorldSpec(
        "Cart-v0",
        spaces.Dict({"state": spaces.Box(-9, 9, (2,), np.float32)}),
        spaces.Box(-1, 1, (1,), np.float32),
        horizon=30,
        goals=True,
    )
    embedding_dim, noise_dim, observed = 2, 1, ()
    device = torch.device("cpu")
    broken = False

    def encode(self, observation, previous=None):
        return {"cart": observation["state"]}

    def restore(self, observation):
        return {"cart": observation["embedding"]}

    def step(self, state, action, noise=None, temperature=1.0):
        place, speed = state["cart"].unbind(-1)
        speed = speed + 0.3 * action[:, 0] + (0 if noise is None else 0.2 * (noise[:, 0] - 0.5))
        after = torch.stack([place + speed, speed], -1)
        paid = -(after[:, 0] - GOAL).square() - after[:, 1].square()
        told = Prediction(reward=paid * torch.nan if self.broken else paid, terminated=torch.zeros_like(paid))
        return {"cart": after}, told._replace(success=None, disagreement=action[:, 0].square())

    def embedding(self, state):
        return state["cart"]

    def metric(self, state):
        return state["cart"]


class Line(Cart):
    """The same with three choices."""

    spec = replace(Cart.spec, action=spaces.Discrete(3))

    def step(self, state, action, noise=None, temperature=1.0):
        return super().step(state, action[:, None].float() - 1, noise, temperature)


def drive(planner, steps=20, rows=3):
    """Plays a planner in its own world; returns the places `(steps + 1, rows, 2)`."""
    model, state = planner.model, torch.tensor([[-1.0, 0.0], [0.0, 0.3], [2.0, 0.0]])[:rows]
    goal, seen = np.tile(np.float32([GOAL, 0]), (rows, 1)), [state]
    planner.reset()
    for _ in range(steps):
        action = planner.act({"embedding": state.numpy(), "goal": goal})
        state = model.step({"cart": state}, torch.from_numpy(action))[0]["cart"]
        seen.append(state)
    return torch.stack(seen)


def config(**more):
    return PlannerConfig(**{"objective": {"energy": 1.0}, "execute": 2, **more})


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "random"])
@pytest.mark.parametrize("objective", ["energy", "reward"])
def test_a_double_integrator_comes_to_rest_at_the_goal(name, objective):
    end = drive(Planner(config(solver=name, objective={objective: 1.0}), Cart()))[-1]
    np.testing.assert_allclose(end, [[GOAL, 0]] * 3, atol=0.2)


class Blind(Cart):
    """The same without a goal, seen by its place alone: the speed is what the model remembers."""

    spec = WorldSpec(
        "Blind-v0", spaces.Dict({"state": spaces.Box(-9, 9, (1,), np.float32)}), Cart.spec.action, horizon=30
    )
    has_memory = True
    restore = property()  # not there

    def encode(self, observation, previous=None):
        speed = torch.zeros_like(observation["state"]) if previous is None else previous["cart"][:, 1:]
        return {"cart": torch.cat([observation["state"], speed], -1)}


def test_what_the_environment_shows_is_encoded_and_a_model_remembers():
    model, state = Blind(), torch.tensor([[-1.0, 0.0], [2.0, 0.0]])
    planner = Planner(config(objective={"reward": 1.0}, execute=1), model)
    for _ in range(20):
        action = planner.act({"state": state[:, :1].numpy()})
        state = model.step({"cart": state}, torch.from_numpy(action))[0]["cart"]
    np.testing.assert_allclose(state, [[GOAL, 0]] * 2, atol=0.2)


def test_choices_are_planned_too():
    end = drive(Planner(config(), Line()))[-1]
    np.testing.assert_allclose(end[:, 0], [GOAL] * 3, atol=0.5)


def test_an_optimum_at_the_edge_of_the_box_is_taken_there():
    planner = Planner(config(horizon=3, execute=1), Cart())
    far = {"embedding": np.float32([[-9, 0]]), "goal": np.float32([[9, 0]])}
    assert planner.act(far)[0, 0] == pytest.approx(1, abs=0.1)


def test_equal_seeds_give_equal_plans_and_every_environment_its_own():
    one, same = (drive(Planner(config(draws=2, seed=5), Cart())) for _ in range(2))
    assert torch.equal(one, same)
    alone = drive(Planner(config(draws=2, seed=5), Cart()), rows=1)
    torch.testing.assert_close(one[:, :1], alone)
    assert not torch.equal(one, drive(Planner(config(draws=2, seed=6), Cart())))


def test_all_candidates_meet_the_same_noise():
    cart, noise = Cart(), Noise([0, 1]).uniform(4, 3, 1)
    box = ActionBox(cart.spec.action)
    cost = Imagination(cart, box, cart.encode({"state": torch.zeros(2, 2)}), Objective({"reward": 1.0}), None, noise)
    alike = cost(torch.zeros(2, 5, 3, 1))
    assert torch.equal(alike, alike[:, :1].expand(-1, 5)) and alike[0, 0] != alike[1, 0]
    by_hand = []
    for draw in noise[0]:
        state, total = {"cart": torch.zeros(1, 2)}, 0.0
        for t in range(3):
            state, told = cart.step(state, torch.zeros(1, 1), draw[None, t])
            total -= float(told.reward)
        by_hand.append(total)
    assert float(alike[0, 0]) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_the_rest_of_a_plan_begins_the_next_one():
    planner = Planner(config(solver="random", options={"samples": 1, "iterations": 1, "std": 0.0}), Cart())
    planner._elites = torch.arange(8.0).view(1, 1, 8, 1) / 10
    expected = planner._elites[0, 0, 2:4]
    planner._noise = Noise([0])
    plan = [planner.act({"embedding": np.zeros((1, 2), np.float32), "goal": np.zeros((1, 2), np.float32)})]
    plan.append(planner.act({"embedding": np.zeros((1, 2), np.float32), "goal": np.zeros((1, 2), np.float32)}))
    np.testing.assert_allclose(np.concatenate(plan), expected)


class Push:
    """A policy that always pushes by the same amount."""

    inputs = ("embedding",)

    def __init__(self, action):
        self.action = action

    def reset(self):
        pass

    def act(self, observation, deterministic=True):
        return np.full((len(observation["embedding"]), 1), self.action, np.float32)


def test_a_prior_is_where_plans_begin():
    seen = {"embedding": np.zeros((1, 2), np.float32), "goal": np.zeros((1, 2), np.float32)}
    flat = config(prior_std=0.0, options={"std": 1e-6}, objective={"disagreement": 0.0})
    planner = Planner(flat, Cart(), policy=Push(0.7))
    assert planner.act(seen)[0, 0] == pytest.approx(0.7, abs=1e-4)
    free, held = (Planner(config(anchor=anchor), Cart(), policy=Push(-0.7)).act(seen)[0, 0] for anchor in (0, 1e4))
    assert free > -0.5 and held == pytest.approx(-0.7, abs=0.05)
    with pytest.raises(ValueError, match="empty prior"):
        config(share=0.0)
    with pytest.raises(ValueError, match="empty prior"):
        Planner(config(share=0.001), Cart(), policy=Push(0.7)).act(seen)


def test_terms_are_weighed_along_the_path_and_at_the_end():
    cart = Cart()
    states = [{"cart": torch.tensor([[place, 0.0]])} for place in (0.0, 2.0, 4.0)]
    told = [
        Prediction(reward=torch.ones(1), terminated=torch.tensor([end]), disagreement=torch.ones(1))
        for end in (0.0, 1, 0)
    ]
    imagined = Imagined(cart, states, told, {"cart": torch.zeros(1, 2)}, [])
    assert float(Objective({"energy": 1.0}, path=0.0)(imagined)) == 8
    assert float(Objective({"energy": 2.0}, path=0.3)(imagined)) == pytest.approx(2 * (8 + 0.3 * 10 / 3))
    assert float(Objective({"metric": 1.0}, path=0.0)(imagined)) == 4
    assert float(Objective({"reward": 1.0})(imagined)) == -2  # what comes after an end is not paid
    assert float(Objective({"disagreement": 0.5})(imagined)) == 1.5
    valued = Objective({"disagreement": 0.5}, value=lambda state: state["cart"][:, 0])
    assert float(valued(imagined)) == 1.5 - 4
    with pytest.raises(ValueError, match="predicts no success"):
        Objective({"success": 1.0})(imagined)


def test_what_cannot_be_planned_is_refused():
    cart = Cart()
    cart.broken = True
    seen = {"embedding": np.zeros((1, 2), np.float32), "goal": np.zeros((1, 2), np.float32)}
    with pytest.raises(ValueError, match=r"96 of 96 costs of plans are NaN"):
        Planner(config(objective={"reward": 1.0}), cart).act(seen)
    with pytest.raises(ValueError, match="horizon=31; accepted: up to 30, the length of an episode of Cart-v0"):
        Planner(config(horizon=31), Cart())
    with pytest.raises(ValueError, match="execute=9; accepted: 1 to horizon=8"):
        config(execute=9)
    with pytest.raises(ValueError, match="objective='wish'"):
        config(objective={"wish": 1.0})
    with pytest.raises(ValueError, match="solver='icem' takes no 'sample'"):
        config(options={"sample": 3})
    with pytest.raises(ValueError, match="solver="):
        config(solver="guess")
    with pytest.raises(ValueError, match="a planner accepts: what Cart-v0 shows"):
        Planner(config(), Cart()).act({"goal": np.zeros((1, 2), np.float32)})
    blind = Cart()
    blind.spec = replace(Cart.spec, goals=False)
    with pytest.raises(
        ValueError, match="'energy' needs a goal, which its world does not have .*; accepted: reward, d"
    ):
        Planner(config(), blind)
    with pytest.raises(
        ValueError, match=r"'success' needs success, which it does not predict \(Cart of Cart-v0\); acc"
    ):
        Planner(config(objective={"success": 1.0}), Cart())


def test_a_planner_is_kept_as_a_file(tmp_path):
    from toy import save

    save(tmp_path / "world")
    written = Planner(config(world_model=str(tmp_path / "world"), horizon=5, options={"samples": 32}))
    written.save(tmp_path / "planner.json")
    read = planners.load(tmp_path / "planner.json")
    assert read.config == written.config
    (tmp_path / "other.json").write_text(json.dumps({"kind": "vla"}))
    with pytest.raises(ValueError, match="kind 'vla'; accepted: planner, foresight"):
        planners.load(tmp_path / "other.json")
    (tmp_path / "other.json").write_text(json.dumps({"kind": "planner", "depth": 3}))
    with pytest.raises(ValueError, match="'depth'; accepted"):
        planners.load(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError, match="is not there"):
        planners.load(tmp_path / "none.json")


def test_the_default_world_model_gives_gradients_and_moves_hand_and_cubes_without_pictures():
    from dream_env.world_models import checkpoint

    model = checkpoint.load("state_grounded")
    state = model.encode({"pixels": torch.zeros(2, 64, 64, 3, dtype=torch.uint8), "proprio": torch.zeros(2, 4)})
    action, noise = torch.zeros(2, 4, requires_grad=True), torch.tensor([[[0.1], [0.8]]] * 2)
    told = imagine(model, state, lambda t, _: action, 2, state)
    Objective({"energy": 1.0, "metric": 1.0})(told).sum().backward()
    assert action.grad is not None and (action.grad.abs().sum(1) > 0).all()
    part = {name: state[name] for name in model.metric_state}
    for drawn in (None, noise):
        whole, alone = (imagine(model, start, lambda t, _: action, 2, noise=drawn) for start in (state, part))
        for name in part:
            torch.testing.assert_close(alone.states[-1][name], whole.states[-1][name])
    shown = model.restore({"embedding": model.embedding(state), "proprio": state["proprio"]})
    torch.testing.assert_close(shown, state)


def test_the_commands_have_the_defaults_of_what_they_run():
    from dream_env.agents.foresee.arguments import Arguments as Foresee
    from dream_env.agents.plan.arguments import Arguments as Plan
    from dream_env.agents.planners.foresight import ForesightConfig
    from dream_env.agents.planners.planner import PlannerConfig

    for arguments, config in ((Plan(), PlannerConfig()), (Foresee(), ForesightConfig())):
        shared = ({*vars(arguments)} & {*vars(config)}) - {"objective", "prior", "seed"}
        assert len(shared) >= 5
        assert {name: getattr(arguments, name) for name in shared} == {name: getattr(config, name) for name in shared}
