"""A policy as the prior of plans: what it would do, and variations of that, carried out in imagination."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import Imagined, imagine, repeat
from dream_env.agents.planners.states import goal_embedding
from dream_env.observations import ObservationForm, ObsType
from dream_env.world_models.protocol import State, WorldModel


@dataclass
class Prior:
    """Proposes what a policy does, in a closed loop with imagined states.

    Attributes:
        policy: See `dream_env.agents.policies.protocol.Policy`; a copy, to which what is imagined is an episode.
        std: Standard deviation of the noise on its actions, as a share of half the action box.
        beta: Color of that noise along the horizon: at 2 a variation is kept over the whole of it.
    """

    policy: Any
    std: float = 0.3
    beta: float = 2.0

    def __post_init__(self) -> None:
        """Makes the copy."""
        self.policy = copy.copy(self.policy)

    @property
    def obs_type(self) -> ObsType:
        """Form of the observations that the policy looks at."""
        usual: ObsType = "words" if "words" in self.policy.inputs else "embedding"
        told = getattr(getattr(self.policy, "config", None), "obs_type", usual)
        return getattr(self.policy, "obs_type", told)

    def variations(self, noise: Noise, box: ActionBox, count: int, horizon: int) -> Tensor:
        """Returns what is added to the policy's actions, `(B, count, H, A)`; the first is nothing.

        Raises:
            ValueError: If no proposal is asked for.
        """
        if count < 1:
            raise ValueError(f"an empty prior: {count} proposals; accepted: 1 or more, or no prior")
        drawn = noise.colored(count, horizon, len(box.low), self.beta) * self.std * box.spread
        drawn[:, 0] = 0
        return drawn

    def chunks(
        self, observation: Mapping[str, np.ndarray], noise: Noise, box: ActionBox, count: int, horizon: int
    ) -> Tensor | None:
        """Lets a policy with modes propose what to do; None of one that has none, see `TransformerVLA.propose`.

        Args:
            observation: Arrays `(B, ...)` by name.
            noise: Decides which.
            box: Actions.
            count: Proposals K.
            horizon: Steps H.

        Returns:
            Candidates `(B, K, H, A)`, NaN where the policy goes on by itself: after a chunk, and all along the first.
        """
        if not getattr(self.policy, "has_modes", False):
            return None
        drawn = noise.normal(count, self.policy.noise_numbers)
        proposed = torch.as_tensor(self.policy.propose(observation, count, drawn), device=box.low.device)
        known = min(horizon, proposed.shape[2])
        chunks = torch.full((len(proposed), count, horizon, len(box.low)), torch.nan, device=box.low.device)
        chunks[:, 1:, :known] = proposed[:, 1:, :known]
        return chunks

    def imagine(
        self,
        model: WorldModel,
        box: ActionBox,
        state: State,
        goal: State | None,
        variations: Tensor,
        chance: Tensor | None = None,
        temperature: float = 1.0,
        chunks: Tensor | None = None,
    ) -> Imagined:
        """Carries out the policy with variations added to its actions.

        Args:
            model: The world model.
            box: Its actions.
            state: B rows.
            goal: B rows, states or what `dream_env.agents.planners.states.goal_of` knows of them; or None.
            variations: `(B, K, H, A)`.
            chance: Uniform numbers `(B, D, H, noise_dim)`, the same for all of K; None for the likeliest.
            temperature: As in `WorldModel.step`.
            chunks: What is done in the place of the policy's actions where it is a number, `(B, K, H, A)`.

        Returns:
            N = B * K * D rows; the actions as candidates.
        """
        count, several, horizon, _ = variations.shape
        draws = 1 if chance is None else chance.shape[1]
        rows = repeat(state, several * draws)
        goals = None if goal is None else repeat(goal, several * draws)
        shown = None if goals is None else goal_embedding(model, goals)
        added = variations.repeat_interleave(draws, 1).flatten(0, 1)
        instead = None if chunks is None else chunks.repeat_interleave(draws, 1).flatten(0, 1)
        noise = None
        if chance is not None:
            noise = chance[:, None].expand(-1, several, -1, -1, -1).flatten(0, 2).transpose(0, 1)
        form = ObservationForm(model, self.obs_type)
        self.policy.reset()
        chosen: list[Tensor] = []

        def choose(t: int, now: State) -> Tensor:
            own = self.act(form, now, shown)
            chosen.append(varied(own, added[:, t], box, None if instead is None else instead[:, t]))
            return box.actions(chosen[-1])

        imagined = imagine(model, rows, choose, horizon, goals, noise, temperature)
        imagined.actions = chosen
        return imagined

    def act(self, form: ObservationForm, state: State, goal: Tensor | None) -> np.ndarray:
        """Returns the policy's actions in imagined states."""
        built = form.build(state, goal)
        parts = {next(iter(form.model.spec.observation)): built} if isinstance(built, Tensor) else built
        return self.policy.act({name: part.cpu().numpy() for name, part in parts.items()})


def varied(actions: np.ndarray, added: Tensor, box: ActionBox, instead: Tensor | None = None) -> Tensor:
    """Returns candidates `(N, A)` within the box: a policy's actions with something added.

    Where `instead` `(N, A)` is a number, it takes the place of both.
    """
    candidates = box.candidates(torch.as_tensor(actions, device=added.device)) + added
    return box.clip(candidates if instead is None else torch.where(instead.isnan(), candidates, instead))


def load_policy(path: str, world_model: str | None = None) -> Any:
    """Reads a saved policy, see `Prior.policy`.

    Args:
        path: See `dream_env.agents.policies.registry.load`.
        world_model: Name or folder of the one through which it is to see; None leaves that open.

    Raises:
        ValueError: If it learned to see through another encoder.
    """
    from dream_env.agents.policies.registry import load_once

    policy = load_once(path)
    if world_model is not None and hasattr(policy.config, "check_encoder"):
        policy.config.check_encoder(world_model)
    return policy
