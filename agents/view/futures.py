"""What could come next: some imagined futures of a dream, each with its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents.planners import objectives
from dream_env.agents.planners.prior import Prior
from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import Imagined, imagine, repeat
from dream_env.engine import Carry, DreamEngine
from dream_env.world_models.precision import insulated
from dream_env.world_models.protocol import State

STD, BETA = 0.5, 2.0
"""Spread of the actions as a share of half their box, and color of the noise: at 2 an action is mostly kept."""


@dataclass(frozen=True)
class Future:
    """One way to go on.

    Attributes:
        actions: H actions.
        frames: Pictures by name, `(H, h, w, 3)` uint8 each.
        scores: After each step: the distance to the goal in a world with goals, else the reward so far; None where
            the model tells neither.
        success: Probability of success at the end; None where the model cannot tell.
        label: Where it comes from.
    """

    actions: list[Any]
    frames: dict[str, np.ndarray]
    scores: list[float] | None
    success: float | None
    label: str


class Futures:
    """Imagines futures.

    Args:
        engine: Of the dream.
        seed: Of the random numbers.
    """

    def __init__(self, engine: DreamEngine, seed: int = 0) -> None:
        self.engine, self.model = engine, engine.model
        self.noise = Noise([seed], self.model.device)

    @insulated
    @torch.no_grad()
    def imagine(self, carry: Carry, policy: Any, count: int, horizon: int) -> list[Future]:
        """Imagines what a policy does and variations of it, or smooth random motions beside holding still.

        Args:
            carry: The dream, one row; it stays as it is.
            policy: See `dream_env.agents.policies.protocol.Policy`; None for none.
            count: Number of futures.
            horizon: Steps of each.

        Returns:
            The futures, the best first.

        Raises:
            ValueError: If actions have no bounds.
        """
        box = ActionBox(self.engine.spec.action, self.model.device)
        state = {name: part.clone() for name, part in self.engine.state(carry).items()}
        chance = None
        if self.model.noise_dim and self.engine.config.temperature:
            chance = self.noise.uniform(1, horizon, self.model.noise_dim)  # the same for all, which differ by actions
        temperature = self.engine.config.temperature
        spread = self.noise.colored(count, horizon, len(box.low), BETA) * STD * box.half
        if policy is None:
            first = box.candidates(self.engine.still(1)).expand(horizon, -1)
            candidates = box.clip(box.center + spread)
            candidates[0, 0] = first
            actions = box.actions(candidates)[0]
            drawn = None if chance is None else chance[0, 0][:, None].expand(-1, count, -1)
            told = imagine(
                self.model,
                repeat(state, count),
                lambda t, _: actions[:, t],
                horizon,
                noise=drawn,
                temperature=temperature,
            )
            done = list(actions)
        else:
            spread[:, 0] = 0
            told = Prior(policy).imagine(self.model, box, state, self._goal(carry), spread, chance, temperature)
            done = list(box.actions(torch.stack(told.actions, 1)))
        names = ["hands off" if policy is None else "as it is", *["varied"] * (count - 1)]
        futures = self._read(told, done, names, carry["_goal"])
        last = [future.scores[-1] if future.scores else 0.0 for future in futures]
        best_first = np.argsort(last if self.engine.spec.goals else -np.array(last), kind="stable")
        return [futures[i] for i in best_first]

    def _goal(self, carry: Carry) -> State | None:
        """Returns what a policy sees of the goal."""
        return {"embedding": carry["_goal"].clone()} if self.engine.spec.goals else None

    def _read(self, told: Imagined, done: list[Tensor], names: list[str], goal: Tensor) -> list[Future]:
        count = len(done)
        scores = self._scores(told, goal)
        success = told.told[-1].success
        path = [{k: v.cpu().numpy() for k, v in self.model.decode(state).items()} for state in told.states]
        return [
            Future(
                [action.cpu().numpy() if action.dim() else int(action) for action in done[i]],
                {name: np.stack([one[name][i] for one in path]) for name in self.engine.spec.pictures},
                None if scores is None else [float(value) for value in scores[:, i]],
                None if success is None else float(success[i]),
                names[i],
            )
            for i in range(count)
        ]

    def _scores(self, told: Imagined, goal: Tensor) -> Tensor | None:
        """Returns scores `(H, N)`; `goal` `(1, E)` is the goal's embedding."""
        if self.engine.spec.goals:
            return torch.stack([rewards.distance(self.model.embedding(state), goal) for state in told.states])
        if told.told[0].reward is not None:
            return -objectives.reward(told).cumsum(0)
        return None
