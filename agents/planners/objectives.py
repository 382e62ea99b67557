"""Objectives of planning: terms of a cost along an imagined path, and their weighted sums. Lower is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents.planners.problem import ActionBox
from dream_env.agents.planners.rollout import Imagined
from dream_env.agents.planners.states import goal_embedding
from dream_env.language import INSTRUCTION_DIM
from dream_env.observations import to_tensors
from dream_env.world_models.protocol import HasMetric, State, WorldModel, with_goal


class Term(NamedTuple):
    """One term of an objective.

    Attributes:
        cost: Maps imagined rollouts to costs `(H, N)` of every step.
        place: Whether the cost depends on the state that is reached. If so, the cost of the last step counts, plus the
            mean over the path with the weight `Objective.path`; otherwise costs are summed over the steps.
        needs: What the term requires: "goal", "metric", "instruction", or an entry of `Prediction`.
    """

    cost: Callable[[Imagined], Tensor]
    place: bool
    needs: tuple[str, ...]


def energy(imagined: Imagined) -> Tensor:
    """Mean squared distance to the goal embedding: the energy of V-JEPA 2-AC (Assran et al. 2025)."""
    assert imagined.goal is not None
    goal = goal_embedding(imagined.model, imagined.goal)
    return torch.stack([rewards.distance(imagined.model.embedding(state), goal) for state in imagined.states])


def metric(imagined: Imagined) -> Tensor:
    """Learned distance to the goal: approximately the control steps to go."""
    model, goal = imagined.model, imagined.goal
    assert isinstance(model, HasMetric) and goal is not None
    end = model.metric(goal)
    return torch.stack([rewards.metric_distance(model.metric(state), end) for state in imagined.states])


def success(imagined: Imagined) -> Tensor:
    """Negative logarithm of the probability that the success condition holds."""
    return -_predicted(imagined, "success").clamp_min(1e-6).log()


def disagreement(imagined: Imagined) -> Tensor:
    """Disagreement of the ensemble."""
    return _predicted(imagined, "disagreement")


def reward(imagined: Imagined) -> Tensor:
    """Negative predicted reward of the environment, weighted by the probability that the episode has not yet ended."""
    predicted = _predicted(imagined, "reward")
    if imagined.predictions[0].terminated is None:
        return -predicted
    going = torch.cumprod(1 - _predicted(imagined, "terminated"), 0)
    return -predicted * torch.cat([torch.ones_like(going[:1]), going[:-1]])


TERMS = {
    "energy": Term(energy, True, ("goal",)),
    "metric": Term(metric, True, ("goal", "metric")),
    "success": Term(success, True, ("instruction", "success")),
    "reward": Term(reward, False, ("reward",)),
    "disagreement": Term(disagreement, False, ("disagreement",)),
}
"""Terms by name."""


_LACKS = {
    "goal": "a goal, which its world does not have",
    "metric": "a learned distance, which it does not have",
} | {name: f"{name}, which it does not predict" for name in ("success", "reward", "disagreement")}
"""What a term needs and a world model lacks, for error messages."""


@torch.no_grad()
def provided(model: WorldModel) -> set[str]:
    """Returns which needs of terms a world model meets; its predictions are found by a step from an empty scene."""
    spec, device = model.spec, model.device
    empty = {name: np.zeros(space.shape or (), space.dtype) for name, space in spec.observation.spaces.items()}
    if spec.instructions:
        empty["instruction"] = np.zeros(INSTRUCTION_DIM, np.float32)
    state = model.encode(to_tensors(empty, device))
    if spec.goals:
        state = with_goal(model, state, model.embedding(state))
    box = ActionBox(spec.action, device)
    _, prediction = model.step(state, box.actions(box.center[None]))
    found = {name for name, part in prediction._asdict().items() if part is not None}
    found |= {"goal"} if spec.goals else set()
    found |= {"metric"} if isinstance(model, HasMetric) else set()
    return found | ({"instruction"} if spec.instructions or "success" in found else set())


def _possible(met: set[str]) -> list[str]:
    return [name for name, term in TERMS.items() if met.issuperset(term.needs)]


def usual(model: WorldModel) -> dict[str, float]:
    """Returns the default weights of foresight.

    With goals, they depend on whether the world model has a learned distance. Without, the objective is the predicted
    reward, or else success, if the world model predicts it.
    """
    if model.spec.goals:
        return {"metric": 1.0, "disagreement": 200.0} if isinstance(model, HasMetric) else {"energy": 1.0}
    known = _possible(provided(model))
    return {next((name for name in ("reward", "success") if name in known), "energy"): 1.0}


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms.

    Attributes:
        weights: Weight of each term by its name in `TERMS`.
        path: Weight of the mean along the path, relative to the end, in terms with `place`.
        value: Maps states to their expected future return `(N,)`, such as a critic; subtracted from the cost of the
            last state.

    Raises:
        ValueError: If a term is unknown, or there is none.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"energy": 1.0})
    path: float = 0.25
    value: Callable[[State], Tensor] | None = None

    def __post_init__(self) -> None:
        """Checks the names."""
        if unknown := set(self.weights) - set(TERMS):
            raise ValueError(
                f"objective={sorted(unknown)[0]!r}; accepted: {', '.join(TERMS)}, or weights by these names"
            )
        if not self.weights and self.value is None:
            raise ValueError(f"objective={{}}: nothing to minimize; accepted: weights by the names {', '.join(TERMS)}")

    @property
    def needs(self) -> set[str]:
        """Everything that the terms require."""
        return {need for name in self.weights for need in TERMS[name].needs}

    def check(self, model: WorldModel) -> None:
        """Raises ValueError if a world model lacks what the terms require."""
        met = provided(model)
        known = _possible(met)
        for name in self.weights:
            if name not in known:
                lacks = next(_LACKS.get(need, need) for need in reversed(TERMS[name].needs) if need not in met)
                raise ValueError(
                    f"objective={name!r} needs {lacks} ({type(model).__name__} of {model.spec.name}); accepted: "
                    f"{', '.join(known) or 'none'}"
                )

    def __call__(self, imagined: Imagined) -> Tensor:
        """Returns the costs `(N,)` of imagined paths."""
        total = torch.zeros((), device=imagined.model.device)
        for name, weight in self.weights.items():
            term = TERMS[name]
            costs = term.cost(imagined)
            total = total + weight * (costs[-1] + self.path * costs.mean(0) if term.place else costs.sum(0))
        return total if self.value is None else total - self.value(imagined.states[-1])


def _predicted(imagined: Imagined, name: str) -> Tensor:
    parts = [getattr(each, name) for each in imagined.predictions]
    if not parts or parts[0] is None:
        raise ValueError(f"objective: {type(imagined.model).__name__} predicts no {name}; accepted: another objective")
    return torch.stack(parts)
