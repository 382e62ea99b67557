"""Solvers find optima that are known: of a quadratic, within the box and at its edge; every environment by itself."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents.planners.planner import SOLVERS
from dream_env.agents.planners.problem import ActionBox, Noise, Problem

BOX = spaces.Box(np.array([-1, -2], np.float32), np.array([1, 4], np.float32))
HORIZON = 4
EASY = {
    "cem": {"iterations": 10},
    "icem": {"iterations": 10},
    "mppi": {"iterations": 12},
    "gradient": {"iterations": 60},
}


def problem(target, seeds=(0,), space=BOX, proposals=None):
    """The square distance of every action to a target `(B, A)`."""
    target, box = torch.tensor(target), ActionBox(space)

    def cost(candidates):
        return (candidates - target[:, None, None]).square().sum((-1, -2))

    mean = box.center.expand(len(target), HORIZON, -1).clone()
    return Problem(cost, box, mean, Noise(list(seeds)), proposals)


def solver(name):
    return SOLVERS[name](**EASY.get(name, {}))


@pytest.mark.parametrize("name", EASY)
def test_a_quadratic_is_solved(name):
    plan = solver(name).solve(problem([[0.3, 2.5]]))
    np.testing.assert_allclose(plan.actions[0], np.tile([0.3, 2.5], (HORIZON, 1)), atol=0.25)
    assert plan.cost < 0.2


@pytest.mark.parametrize("name", EASY)
def test_an_optimum_beyond_the_box_is_met_at_its_edge(name):
    plan = solver(name).solve(problem([[3.0, -5.0]]))
    np.testing.assert_allclose(plan.actions[0], np.tile([1, -2], (HORIZON, 1)), atol=0.25)
    assert (plan.actions <= torch.tensor(BOX.high)).all() and (plan.actions >= torch.tensor(BOX.low)).all()


def test_every_solver_beats_random_shooting_at_its_budget():
    cost = {
        name: float(SOLVERS[name]().solve(problem([[0.6, 3.0]])).cost) for name in ("cem", "icem", "mppi", "random")
    }
    assert max(cost["cem"], cost["icem"], cost["mppi"]) < cost["random"]


@pytest.mark.parametrize("name", SOLVERS)
def test_equal_seeds_give_equal_plans_and_rows_do_not_know_of_each_other(name):
    both = solver(name).solve(problem([[0.3, 2.5], [-0.5, 0.0]], (7, 8)))
    again = solver(name).solve(problem([[0.3, 2.5], [-0.5, 0.0]], (7, 8)))
    alone = solver(name).solve(problem([[-0.5, 0.0]], (8,)))
    assert torch.equal(both.actions, again.actions)
    torch.testing.assert_close(both.actions[1:], alone.actions)
    other = solver(name).solve(problem([[-0.5, 0.0]], (9,)))
    assert name == "gradient" or not torch.equal(other.actions, alone.actions)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_proposal_that_cannot_be_beaten_is_taken(name):
    perfect = torch.tensor([0.3, 2.5]).expand(1, 1, HORIZON, 2)
    plan = solver(name).solve(problem([[0.3, 2.5]], proposals=perfect))
    assert torch.allclose(plan.actions, perfect[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "random"])
def test_discrete_actions_are_chosen(name):
    space = spaces.Discrete(3, start=5)
    box, wanted = ActionBox(space), torch.tensor([5, 7, 6, 7])

    def cost(candidates):
        return (box.actions(candidates) != wanted).float().sum(-1)

    plan = solver(name).solve(Problem(cost, box, torch.zeros(1, HORIZON, 3), Noise([0])))
    assert box.actions(plan.actions[0]).tolist() == wanted.tolist()
    assert box.actions(box.candidates(wanted)).tolist() == wanted.tolist()


def test_what_a_solver_cannot_do_is_refused():
    with pytest.raises(ValueError, match="discrete actions; accepted"):
        SOLVERS["gradient"]().solve(
            Problem(lambda c: c.sum((-1, -2)), ActionBox(spaces.Discrete(2)), torch.zeros(1, 2, 2), Noise([0]))
        )
    with pytest.raises(ValueError, match="no gradient"):
        SOLVERS["gradient"]().solve(
            Problem(lambda c: c.detach().sum((-1, -2)), ActionBox(BOX), torch.zeros(1, 2, 2), Noise([0]))
        )
    with pytest.raises(ValueError, match="finite limits"):
        ActionBox(spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(ValueError, match="elites <= samples"):
        SOLVERS["cem"](samples=4, elites=5)
    with pytest.raises(ValueError, match="samples=0"):
        SOLVERS["mppi"](samples=0)
    with pytest.raises(ValueError, match="the mean and all proposals"):
        SOLVERS["icem"](samples=2, elites=2, kept=1).solve(
            problem([[0.0, 0.0]], proposals=torch.zeros(1, 3, HORIZON, 2))
        )


def test_colored_noise_has_unit_variance_and_neighbors_that_are_alike():
    noise = Noise([0])
    for beta, alike in ((0.0, 0.0), (2.0, 0.5)):
        drawn = noise.colored(4000, 8, 1, beta)[0, ..., 0]
        assert abs(float(drawn.std()) - 1) < 0.05
        assert abs(float((drawn[:, 1:] * drawn[:, :-1]).mean()) - alike) < (0.05 if beta == 0 else 0.4)
        assert beta == 0 or float((drawn[:, 1:] * drawn[:, :-1]).mean()) > 0.4
