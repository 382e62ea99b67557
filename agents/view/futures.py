"""Imagines several possible futures of a dream, each with a score."""

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
"""Standard deviation of the actions as a fraction of half the action range, and exponent of the colored noise; with 2,
consecutive actions are similar."""


@dataclass(frozen=True)
class Future:
    """One imagined future.

    Attributes:
        actions: The H actions.
        frames: Predicted pictures by name, `(H, h, w, 3)` uint8 each.
        scores: Score after each step: the distance to the goal if the world has goals, else the sum of predicted
            rewards so far; None if the model predicts neither.
        success: Predicted probability of success at the end; None if the model does not predict it.
        label: How the actions were chosen.
    """

    actions: list[Any]
    frames: dict[str, np.ndarray]
    scores: list[float] | None
    success: float | None
    label: str


class Futures:
    """Imagines futures of a dream.

    Args:
        engine: Engine of the dream.
        seed: Seed of the random numbers.
    """

    def __init__(self, engine: DreamEngine, seed: int = 0) -> None:
        self.engine, self.model = engine, engine.model
        self.noise = Noise([seed], self.model.device)

    @insulated
    @torch.no_grad()
    def imagine(self, carry: Carry, policy: Any, count: int, horizon: int) -> list[Future]:
        """Imagines the actions of a policy and variations of them; without a policy, resting and smooth random motions.

        Args:
            carry: State of the dream, one row; not changed.
            policy: See `dream_env.agents.policies.protocol.Policy`; None for none.
            count: Number of futures.
            horizon: Steps of each future.

        Returns:
            The futures, the best first.

        Raises:
            ValueError: If the action space has no bounds.
        """
        box = ActionBox(self.engine.spec.action, self.model.device)
        state = {name: part.clone() for name, part in self.engine.state(carry).items()}
        chance = None
        if self.model.noise_dim and self.engine.config.temperature:
            # All futures share the noise, so that only their actions differ.
            chance = self.noise.uniform(1, horizon, self.model.noise_dim)
        temperature = self.engine.config.temperature
        spread = self.noise.colored(count, horizon, len(box.low), BETA) * STD * box.half
        if policy is None:
            first = box.candidates(self.engine.still(1)).expand(horizon, -1)
            candidates = box.clip(box.center + spread)
            candidates[0, 0] = first
            actions = box.actions(candidates)[0]
            drawn = None if chance is None else chance[0, 0][:, None].expand(-1, count, -1)
            imagined = imagine(
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
            imagined = Prior(policy).imagine(self.model, box, state, self._goal(carry), spread, chance, temperature)
            done = list(box.actions(torch.stack(imagined.actions, 1)))
        names = ["hands off" if policy is None else "as it is", *["varied"] * (count - 1)]
        futures = self._read(imagined, done, names, carry["_goal"])
        last = [future.scores[-1] if future.scores else 0.0 for future in futures]
        best_first = np.argsort(last if self.engine.spec.goals else -np.array(last), kind="stable")
        return [futures[i] for i in best_first]

    def _goal(self, carry: Carry) -> State | None:
        """Returns the goal as a policy observes it."""
        return {"embedding": carry["_goal"].clone()} if self.engine.spec.goals else None

    def _read(self, imagined: Imagined, done: list[Tensor], names: list[str], goal: Tensor) -> list[Future]:
        count = len(done)
        scores = self._scores(imagined, goal)
        success = imagined.predictions[-1].success
        path = [{k: v.cpu().numpy() for k, v in self.model.decode(state).items()} for state in imagined.states]
        return [
            Future(
                [action.cpu().numpy() if action.dim() else int(action) for action in done[i]],
                {name: np.stack([decoded[name][i] for decoded in path]) for name in self.engine.spec.pictures},
                None if scores is None else [float(value) for value in scores[:, i]],
                None if success is None else float(success[i]),
                names[i],
            )
            for i in range(count)
        ]

    def _scores(self, imagined: Imagined, goal: Tensor) -> Tensor | None:
        """Returns scores `(H, N)`; `goal` `(1, E)` is the goal embedding."""
        if self.engine.spec.goals:
            return torch.stack([rewards.distance(self.model.embedding(state), goal) for state in imagined.states])
        if imagined.predictions[0].reward is not None:
            return -objectives.reward(imagined).cumsum(0)
        return None
