"""Evaluates a whole population as one batch of dreams."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.policies.controller import Controller
from dream_env.agents.policies.registry import obs_type_of
from dream_env.engine import OWN, Carry, DreamEngine
from dream_env.initial_states import draw
from dream_env.observations import ObservationBuilder, bare, to_numpy
from dream_env.rewards import reward
from dream_env.world_models.precision import insulated

SHRINK = 0.75
"""The batch drops dreams that have ended when the share of running ones falls below this."""


class DreamPopulation:
    """Measures returns of controllers in dreams; all controllers get the same initial states and the same noise.

    Args:
        engine: Engine of the dreams.
        task: Task of the initial states, or "all".
        max_steps: Maximum number of steps in a dream; the horizon of the world if that is shorter.
        antithetic: Whether the second half of the rollouts gets the mirrored noise of the first half, u and 1 - u.
    """

    def __init__(self, engine: DreamEngine, task: str = "all", max_steps: int = 1000, antithetic: bool = False) -> None:
        self.engine, self.antithetic = engine, antithetic
        self.horizon = min(max_steps, engine.horizon or max_steps)
        self._chances = engine.initial_states.chances(task, engine.config.middle_share)
        self.steps = 0
        """Dream steps so far."""

    @insulated
    @torch.no_grad()
    def returns(self, controller: Controller, weights: np.ndarray, rollouts: int, seed: tuple[int, ...]) -> np.ndarray:
        """Runs R dreams of each of C controllers, and returns the return of each dream, `(C, R)`.

        With `reward="success"` the return is 1 if success holds at the end, else 0; otherwise it is the sum of rewards.

        Args:
            controller: Controller whose config all share.
            weights: Weights of each controller, `(C, n)`.
            rollouts: Dreams R per controller.
            seed: Seed of initial states and noise.
        """
        engine, count = self.engine, len(weights)
        rng = np.random.default_rng(seed)
        rows = draw(self._chances, rng.random(rollouts))
        generator = torch.Generator(engine.device).manual_seed(int(rng.integers(2**62)))
        everyone = torch.from_numpy(np.asarray(weights, np.float32)).to(engine.device)
        carry, advance = engine.begin(np.tile(rows, count)), self._advance
        if self._needs_no_picture(controller):
            kept = {*engine.model.metric_state, *OWN, "instruction"}  # type: ignore[attr-defined]
            carry, advance = {name: part for name, part in carry.items() if name in kept}, self._advance_metric
        place = torch.arange(count * rollouts, device=engine.device)  # index of each batch row in the result
        own, going = everyone, torch.ones_like(place, dtype=torch.bool)
        total = torch.zeros(len(place), dtype=torch.float64, device=engine.device)
        outcome = engine.reward == "success"
        for _ in range(self.horizon):
            action = self._act(controller, carry, own)
            noise = self._noise(rollouts, generator)
            carry, info = advance(carry, action, None if noise is None else noise[place % rollouts])
            self.steps += len(place)
            if outcome:
                total[place[going]] = info["is_success"].double()[going]
            else:
                total[place] += torch.where(going, info["reward"], 0.0)
            going = going & ~(info["terminated"] | info["truncated"])
            alive = int(going.sum())
            if not alive:
                break
            if alive < SHRINK * len(place):
                place, own = place[going], everyone[place[going] // rollouts]
                carry = {name: part[going] for name, part in carry.items()}
                going = going[going]
        return total.view(count, rollouts).cpu().numpy()

    def _advance(self, carry: Carry, action: Tensor, noise: Tensor | None) -> tuple[Carry, dict[str, Tensor]]:
        return self.engine.advance(carry, action, noise)

    def _needs_no_picture(self, controller: Controller) -> bool:
        """Returns whether reward and controller need only the state entries in `metric_state`.

        The world model steps these much faster than the whole state.
        """
        engine = self.engine
        few = getattr(engine.model, "metric_state", ())
        if not few or not engine.distance.learned or engine.config.disagreement_penalty:
            return False
        state = engine.state(engine.begin(np.zeros(1, np.int64)))
        try:
            controller.imagined(
                engine.model, {name: state[name] for name in (*few, "instruction") if name in state}, None
            )
        except (KeyError, ValueError):
            return False
        return True

    def _advance_metric(self, carry: Carry, action: Tensor, noise: Tensor | None) -> tuple[Carry, dict[str, Tensor]]:
        """Steps dreams whose state has only the entries of `metric_state`, see `DreamEngine.advance`."""
        engine, steps = self.engine, carry["_steps"] + 1
        state, _ = engine.model.step(engine.state(carry), action, noise, engine.config.temperature)
        distance = engine.distance(engine.distance.vector(state), carry["_goal_vector"])
        value = reward(engine.reward, carry["_distance"], distance, torch.zeros_like(distance))
        never = torch.zeros_like(steps, dtype=torch.bool)
        return {**carry, **state, "_steps": steps, "_distance": distance}, {
            "reward": value,
            "terminated": never,
            "truncated": never if engine.horizon is None else steps >= engine.horizon,
        }

    def _act(self, controller: Controller, carry: Carry, own: Tensor) -> Tensor:
        """Returns the actions of the batch; each controller in `own` `(C, n)` acts in an equal number of rows."""
        state, goal = self.engine.state(carry), carry["_goal"] if self.engine.spec.goals else None
        inputs = controller.imagined(self.engine.model, state, goal)
        return controller.choose(own, inputs.unflatten(0, (len(own), -1))).flatten(0, 1)

    def _noise(self, rollouts: int, generator: torch.Generator) -> Tensor | None:
        size = self.engine.model.noise_dim
        if not self.engine.config.temperature or not size:
            return None
        half = -(-rollouts // 2) if self.antithetic else rollouts
        drawn = torch.rand(half, size, generator=generator, device=self.engine.device)
        mirrored = (1 - drawn[: rollouts - half]).clamp_max(1 - 2**-24)  # within [0, 1)
        return torch.cat([drawn, mirrored])

    @insulated
    @torch.no_grad()
    def visited(self, controller: Controller, act: Any, dreams: int, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Runs dreams with a policy and collects pairs of controller inputs and actions.

        Args:
            controller: Controller whose inputs are collected.
            act: A policy; None takes random actions, each held for several steps.
            dreams: Number of dreams.
            seed: Seed of initial states, noise and actions.

        Returns:
            Inputs `(N, I)` and actions `(N, ...)` of all steps.
        """
        engine, rng = self.engine, np.random.default_rng(seed)
        builder = None if act is None else ObservationBuilder(engine.model, obs_type_of(act))
        carry = engine.begin(draw(self._chances, rng.random(dreams)))
        generator = torch.Generator(engine.device).manual_seed(int(rng.integers(2**62)))
        going = torch.ones(dreams, dtype=torch.bool, device=engine.device)
        inputs, actions, action = [], [], self._random(rng, dreams)
        for _ in range(self.horizon):
            goal = carry["_goal"] if engine.spec.goals else None
            inputs.append(controller.imagined(engine.model, engine.state(carry), goal)[going])
            if builder is None:
                anew = torch.from_numpy(rng.random(dreams) < 1 / 4).to(engine.device)
                fresh = self._random(rng, dreams)
                action = torch.where(anew if action.dim() == 1 else anew[:, None], fresh, action)
            else:
                seen = to_numpy(builder.build(engine.state(carry), goal))
                seen = seen if isinstance(seen, dict) else {str(bare(engine.spec)): seen}
                action = torch.as_tensor(act.act(seen), device=engine.device)
            actions.append(action[going])
            carry, info = engine.advance(carry, action, self._noise(dreams, generator))
            going = going & ~(info["terminated"] | info["truncated"])
            if not going.any():
                break
        return torch.cat(inputs), torch.cat(actions)

    def _random(self, rng: np.random.Generator, count: int) -> Tensor:
        space = self.engine.spec.action
        if not self.engine.continuous:
            drawn = rng.integers(space.start, space.start + space.n, count)  # type: ignore[union-attr]
        else:
            low, high = (np.nan_to_num(bound, posinf=1, neginf=-1) for bound in (space.low, space.high))  # type: ignore
            drawn = rng.uniform(low, high, (count, len(low))).astype(np.float32)
        return torch.from_numpy(drawn).to(self.engine.device)
