"""Imagined rollouts: a world model executes candidate actions, with many rows in one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dream_env.agents.planners.problem import ActionBox
from dream_env.world_models.protocol import Prediction, State, WorldModel, take

ROWS = 4096
"""Maximum number of rows in a batch: more rows need more memory and are not faster."""


@dataclass
class Imagined:
    """N imagined rollouts of H steps.

    Attributes:
        model: The world model.
        states: States after each step, H entries of N rows.
        predictions: Predictions of each step, H entries.
        goal: The goals, see `dream_env.agents.planners.states.goal_of`, N rows; None without goals.
        actions: Actions of each step, H entries `(N, ...)`.
    """

    model: WorldModel
    states: list[State]
    predictions: list[Prediction]
    goal: State | None
    actions: list[Tensor]


def imagine(
    model: WorldModel,
    state: State,
    choose: Callable[[int, State], Tensor],
    horizon: int,
    goal: State | None = None,
    noise: Tensor | None = None,
    temperature: float = 1.0,
) -> Imagined:
    """Imagines N rollouts of H steps.

    Args:
        model: The world model.
        state: Initial states, N rows.
        choose: Returns the actions `(N, ...)` of a step, given its number and the states: a plan or a policy.
        horizon: Steps H.
        goal: Goals of the rollouts, N rows, stored in the result; None without goals.
        noise: Uniform random numbers `(H, N, noise_dim)` in [0, 1); None for the most likely future.
        temperature: As in `WorldModel.step`.
    """
    result = Imagined(model, [], [], goal, [])
    for t in range(horizon):
        drawn = None if noise is None else noise[t]
        action = choose(t, state)
        state, prediction = model.step(state, action, drawn, temperature)
        result.predictions.append(prediction)
        result.states.append(state)
        result.actions.append(action)
    return result


@dataclass
class Imagination:
    """Cost of candidates in imagined rollouts: the function that solvers minimize.

    All candidates of an environment get the same noise, so their costs differ by their actions only.

    Attributes:
        model: The world model.
        box: Box of the candidates.
        state: Current states of B environments.
        objective: Maps rollouts to costs `(N,)`.
        goal: Goals of the environments, B rows; None without goals.
        noise: Uniform random numbers `(B, D, H, noise_dim)` for D noise samples, over which costs are averaged; None
            for the most likely future.
        temperature: As in `WorldModel.step`.
    """

    model: WorldModel
    box: ActionBox
    state: State
    objective: Callable[[Imagined], Tensor]
    goal: State | None = None
    noise: Tensor | None = None
    temperature: float = 1.0

    def __call__(self, candidates: Tensor) -> Tensor:
        """Returns the costs `(B, S)` of candidates `(B, S, H, A)`.

        Raises:
            ValueError: If a cost is NaN or infinite.
        """
        several = 1 if self.noise is None else self.noise.shape[1]
        size = max(1, ROWS // (candidates.shape[1] * several))
        parts = [slice(i, i + size) for i in range(0, len(candidates), size)]
        costs = torch.cat([self._cost(candidates[part], part, several) for part in parts])
        if wrong := int((~torch.isfinite(costs)).sum()):
            raise ValueError(f"{wrong} of {costs.numel()} costs of plans are NaN or infinite; accepted: finite costs")
        return costs

    def _cost(self, candidates: Tensor, part: slice, several: int) -> Tensor:
        count, samples, horizon, _ = candidates.shape
        actions = self.box.actions(candidates)[:, :, None].expand(
            -1, -1, several, *[-1] * (candidates.dim() - 2 - (self.box.start is not None))
        )
        actions = actions.flatten(0, 2)
        noise = None
        if self.noise is not None:  # (B, D, H, Z) -> (H, B * S * D, Z)
            own = self.noise[part][:, None].expand(-1, samples, -1, -1, -1)
            noise = own.flatten(0, 2).transpose(0, 1)
        state = repeat(take(self.state, part), samples * several)
        goal = None if self.goal is None else repeat(take(self.goal, part), samples * several)
        imagined = imagine(self.model, state, lambda t, _: actions[:, t], horizon, goal, noise, self.temperature)
        return self.objective(imagined).view(count, samples, several).mean(2)


def repeat(state: State, times: int) -> State:
    """Repeats every row of a state, with the repetitions next to each other."""
    return {name: part.repeat_interleave(times, 0) for name, part in state.items()}
