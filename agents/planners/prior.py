"""A policy as the prior of plans: what it would do, and variations of that, carried out in imagination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import Imagined, imagine, repeat
from dream_env.observations import ObservationForm
from dream_env.world_models.protocol import State, WorldModel


@dataclass
class Prior:
    """Proposes what a policy does, in a closed loop with imagined states.

    Attributes:
        policy: See `dream_env.agents.policies.protocol.Policy`; without memory, as every candidate is an episode to it.
        std: Standard deviation of the noise on its actions, as a share of half the action box.
        beta: Color of that noise along the horizon: at 2 a variation is kept over the whole of it.
    """

    policy: Any
    std: float = 0.3
    beta: float = 2.0

    def variations(self, noise: Noise, box: ActionBox, count: int, horizon: int) -> Tensor:
        """Returns what is added to the policy's actions, `(B, count, H, A)`; the first is nothing.

        Raises:
            ValueError: If no proposal is asked for.
        """
        if count < 1:
            raise ValueError(f"an empty prior: {count} proposals; accepted: 1 or more, or no prior")
        drawn = noise.colored(count, horizon, len(box.low), self.beta) * self.std * box.half
        drawn[:, 0] = 0
        return drawn

    def imagine(
        self,
        model: WorldModel,
        box: ActionBox,
        state: State,
        goal: State | None,
        variations: Tensor,
        chance: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Imagined:
        """Carries out the policy with variations added to its actions.

        Args:
            model: The world model.
            box: Its actions.
            state: B rows.
            goal: B rows, or None.
            variations: `(B, K, H, A)`.
            chance: Uniform numbers `(B, D, H, noise_dim)`, the same for all of K; None for the likeliest.
            temperature: As in `WorldModel.step`.

        Returns:
            N = B * K * D rows; the actions as candidates.
        """
        count, several, horizon, _ = variations.shape
        draws = 1 if chance is None else chance.shape[1]
        rows = repeat(state, several * draws)
        goals = None if goal is None else repeat(goal, several * draws)
        shown = None if goals is None else model.embedding(goals)
        added = variations.repeat_interleave(draws, 1).flatten(0, 1)
        noise = None
        if chance is not None:
            noise = chance[:, None].expand(-1, several, -1, -1, -1).flatten(0, 2).transpose(0, 1)
        form = ObservationForm(model, "words" if "words" in self.policy.inputs else "embedding")
        chosen: list[Tensor] = []

        def choose(t: int, now: State) -> Tensor:
            chosen.append(varied(self.act(form, now, shown), added[:, t], box))
            return box.actions(chosen[-1])

        imagined = imagine(model, rows, choose, horizon, goals, noise, temperature)
        imagined.actions = chosen
        return imagined

    def act(self, form: ObservationForm, state: State, goal: Tensor | None) -> np.ndarray:
        """Returns the policy's actions in imagined states."""
        seen = {name: part.cpu().numpy() for name, part in form.build(state, goal).items()}
        return self.policy.act(seen)


def varied(actions: np.ndarray, added: Tensor, box: ActionBox) -> Tensor:
    """Returns candidates `(N, A)`: a policy's actions with something added, within the box."""
    return box.clip(box.candidates(torch.as_tensor(actions, device=added.device)) + added)


def load_policy(path: str) -> Any:
    """Reads a saved policy, see `Prior.policy`."""
    from dream_env.agents.policies.registry import load_once

    return load_once(path)
