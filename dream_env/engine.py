"""The batched core of all dream environments: tensors in, tensors out, on any device, optionally with gradients.

`DreamEngine` keeps no episode state of its own: the caller passes the `Carry` from step to step. `dream_env.dream`
wraps it as Gymnasium environments with numpy random numbers, `dream_env.tensors` for training on one device.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.dream_config import DreamConfig
from dream_env.language import embedder, word_rows
from dream_env.observations import ObservationBuilder
from dream_env.world_models.protocol import (
    HasMetric,
    HasSuccess,
    Prediction,
    State,
    WorldModel,
    knows_success,
    with_goal,
)

Carry = dict[str, Tensor]
"""Everything that a batch of dreams passes from step to step: the world model's state and the entries in `OWN`."""
OWN = ("_goal", "_goal_vector", "_distance", "_steps", "_streak")
"""Entries of a `Carry` that are not part of the world model's state: the goal embedding `(B, E)`; the goal vector
`(B, M)` from which the reward's distance is computed; that distance, the steps since the start, and the number of
consecutive steps for which the success condition has held, `(B,)` each."""
TERMINATED = 0.5
"""An episode terminates at this predicted probability or above (Ha & Schmidhuber 2018, appendix A.3)."""


class DreamEngine:
    """Starts and steps batches of dreams, and computes their observations, rewards and infos.

    Args:
        config: Options of the dreams.
        horizon: Control steps after which an episode is truncated, unless `config.horizon` is shorter; None for no
            limit, "spec" for `config.horizon` or else the world's own.

    Raises:
        ValueError: If the world model does not support the options.
    """

    def __init__(self, config: DreamConfig, horizon: int | str | None = "spec") -> None:
        self.config = config
        self.model, self.initial_states = config.open()
        self.spec = self.model.spec
        limits = [limit for limit in (horizon, config.horizon) if limit not in (None, "spec")]
        self.horizon: Any = None if horizon is None else min(limits, default=self.spec.horizon)
        self.device = self.model.device
        settings = getattr(self.model, "config", None)
        self.success_threshold: float = getattr(settings, "success_threshold", 0.5)
        self.max_disagreement = config.limit(getattr(settings, "disagreement_threshold", None))
        self.obs_builder = ObservationBuilder(self.model, config.obs_type, config.goal_env)
        self.action_space = copy.deepcopy(self.spec.action)  # not shared: a space has a random generator
        self.reward = config.pays(self.model)
        self.distance = GoalDistance(self.model, self.reward)
        self._check_predicted()

    def _check_predicted(self) -> None:
        """Checks that the model predicts the reward of the environment, or success, if that is the reward."""
        needed = {"success": "success", "environment": "reward"}.get(self.reward)
        if needed and getattr(self.predicts, needed) is None:
            other = self.predicts.success if needed == "reward" else self.predicts.reward
            accepted = [f"'{'success' if needed == 'reward' else 'environment'}'"] * (other is not None)
            accepted += ["the distance to the goal, such as 'energy'"] * self.spec.goals
            accepted += [] if accepted else [f"a world model that predicts {needed}"]
            raise ValueError(
                f"reward={self.reward!r}: the world model of {self.spec.name} predicts no {needed}; accepted: "
                + ", or ".join(accepted)
            )

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors (`Box`) rather than indices (`Discrete`)."""
        return hasattr(self.spec.action, "low")

    # --- start and step

    @torch.no_grad()
    def begin(self, rows: np.ndarray, instruction: list[str] | None = None, **given: Mapping[str, Tensor]) -> Carry:
        """Starts dreams.

        Args:
            rows: Rows of the initial states to start from, `(K,)`.
            instruction: K instructions that replace the recorded ones.
            **given: `observation` and `goal`: observations `(K, ...)` or `(1, ...)` that replace the recorded ones.

        Returns:
            The carry of K dreams.
        """
        count, goals = len(rows), self.spec.goals
        state = self.initial_states.states(self.model, rows)
        if instruction is not None or "observation" in given:
            parts = self.initial_states.observation
            start = given.get("observation") or {k: torch.from_numpy(v[rows]).to(self.device) for k, v in parts.items()}
            start = {name: part.expand(count, *part.shape[1:]) for name, part in start.items()}
            if self.spec.instructions:
                start["instruction"] = self._words(rows, instruction)
            state = self.model.encode(start)
        if self.obs_builder.words:
            sentences = self.initial_states.instruction[rows] if instruction is None else instruction
            state = {
                **state,
                "words": torch.from_numpy(np.stack([word_rows(str(each)) for each in sentences])).to(self.device),
            }
        if "goal" in given:
            shown = {name: part.expand(count, *part.shape[1:]) for name, part in given["goal"].items()}
            goal = self.model.encode(shown | {k: v for k, v in state.items() if k == "instruction"})
        elif goals:
            goal = self.initial_states.goals(self.model, rows)
            if instruction is not None and self.spec.instructions:  # as `WorldModelWrapper` encodes it
                goal = {**goal, "instruction": self._words(rows, instruction)}
        nothing = torch.zeros(count, dtype=torch.int64, device=self.device)
        empty = torch.zeros(count, 0, dtype=torch.float32, device=self.device)
        end = self.model.embedding(goal) if goals else empty
        state = with_goal(self.model, state, end if goals else None)
        carry = {**state, "_goal": end, "_steps": nothing, "_streak": nothing}
        carry["_goal_vector"] = self.distance.vector(goal) if goals else empty
        carry["_distance"] = self.distance(self.distance.vector(state), carry["_goal_vector"])
        return carry

    def _words(self, rows: np.ndarray, instruction: list[str] | None) -> Tensor:
        if instruction is None:
            words = self.initial_states.words(self.model, rows)
        else:
            words = np.stack([embedder(self.model)(sentence) for sentence in instruction])
        return torch.from_numpy(words).to(self.device)

    def advance(self, carry: Carry, action: Tensor, noise: Tensor | None = None) -> tuple[Carry, dict[str, Tensor]]:
        """Advances dreams by one control step; the result depends on the arguments only.

        Args:
            carry: Carry of B dreams.
            action: Actions `(B, A)` float32 or `(B,)` int64, within `spec.action`.
            noise: Uniform random numbers `(B, noise_dim)` in [0, 1); None for the most likely outcome.

        Returns:
            The new carry; and a dict with `reward`, `terminated`, `truncated`, `(B,)` each, the entries of `info`, and,
            unless the reward uses a learned distance, `embedding`, `(B, E)`, which `observe` takes.
        """
        config, model, before = self.config, self.model, self.state(carry)
        with config.computing(self.device):
            state, predicted = model.step(before, action, noise, config.temperature)
        predicted = Prediction(*(part if part is None else part.float() for part in predicted))  # may be bfloat16
        vector, steps = self.distance.vector(state), carry["_steps"] + 1
        distance = self.distance(vector, carry["_goal_vector"])
        met = torch.zeros_like(steps, dtype=torch.bool) if predicted.success is None else self._met(predicted.success)
        streak = torch.where(met, carry["_streak"] + 1, 0)
        after = {**state, "_steps": steps, "_streak": streak, "_distance": distance}
        after |= {name: carry[name] for name in ("_goal", "_goal_vector")}
        result = self.info(after, predicted)
        won = self._won(after)
        reward = rewards.reward(self.reward, carry["_distance"], distance, won, predicted.reward)
        truncated = torch.zeros_like(met) if self.horizon is None else steps >= self.horizon
        if predicted.disagreement is not None:
            if config.disagreement_penalty:
                reward = reward - config.disagreement_penalty * predicted.disagreement
            if self.max_disagreement is not None:
                truncated = truncated | (predicted.disagreement > self.max_disagreement)
        ended = torch.zeros_like(met) if predicted.terminated is None else predicted.terminated >= TERMINATED
        if not self.distance.learned:
            result["embedding"] = vector
        return after, {"reward": reward, "terminated": ended, "truncated": truncated & ~ended, **result}

    def info(self, carry: Carry, prediction: Prediction | None = None) -> dict[str, Tensor]:
        """Returns the infos of dreams, `(B,)` each.

        * `is_success`: whether the predicted success condition has held for `hold_steps` steps, if the world model
          predicts success;
        * `distance`: distance of the embedding to the goal embedding, in a world with goals;
        * `metric_distance`: learned distance to the goal, if the reward uses it;
        * `success_probability` (0 at a start, if the model has no method `success`) and `disagreement` (0 at a start),
          if the world model predicts them.

        Args:
            carry: Carry of B dreams.
            prediction: The prediction of the step that led here; None at a start.
        """
        state, result = self.state(carry), {}
        if self.predicts_success if prediction is None else prediction.success is not None:
            result["is_success"] = self._won(carry)
        if self.spec.goals:
            learned = rewards.is_learned(self.reward)
            raw = rewards.distance(self.model.embedding(state), carry["_goal"]) if learned else carry["_distance"]
            result["distance"] = raw
            if learned:
                result["metric_distance"] = carry["_distance"]
        probability = prediction.success if prediction is not None else self._start_success(carry)
        if probability is not None:
            result["success_probability"] = probability
        if prediction is not None and prediction.disagreement is not None:
            result["disagreement"] = prediction.disagreement
        elif prediction is None and self.predicts_disagreement:
            result["disagreement"] = torch.zeros(len(carry["_steps"]), dtype=torch.float32, device=self.device)
        return result

    def _start_success(self, carry: Carry) -> Tensor | None:
        state = self.state(carry)
        if isinstance(self.model, HasSuccess) and knows_success(self.model, state):
            return self.model.success(state)
        return torch.zeros_like(carry["_distance"]) if self.predicts_success else None  # told by `step` only

    @property
    def predicts_disagreement(self) -> bool:
        """Whether the model predicts an ensemble's disagreement."""
        return self.predicts.disagreement is not None

    @property
    def predicts_success(self) -> bool:
        """Whether the model predicts success."""
        return self.predicts.success is not None

    @cached_property
    def predicts(self) -> Prediction:
        """The prediction of one step, on first use: what is None in it, the model does not predict."""
        carry = self.begin(np.zeros(1, np.int64))
        with torch.no_grad():
            return self.model.step(self.state(carry), self.still(1))[1]

    def still(self, count: int) -> Tensor:
        """Returns idle actions `(count, A)` or `(count,)`: zeros clipped to the action space, or the first index."""
        space: Any = self.spec.action
        if not self.continuous:
            return torch.full((count,), int(space.start), dtype=torch.int64, device=self.device)
        zero = np.clip(np.zeros(space.shape, np.float32), space.low, space.high)
        return torch.from_numpy(np.tile(zero, (count, 1))).to(self.device)

    def state(self, carry: Carry) -> State:
        """Returns the world model's state, without the entries in `OWN`."""
        return {name: part for name, part in carry.items() if name not in OWN}

    def observe(self, carry: Carry, embedding: Tensor | None = None) -> Any:
        """Returns the observations of dreams, as set by `obs_type` and `goal_env`; computes embeddings if not given."""
        return self.obs_builder.build(self.state(carry), carry["_goal"] if self.spec.goals else None, embedding)

    def _won(self, carry: Carry) -> Tensor:
        return carry["_streak"] >= self.spec.hold_steps

    def _met(self, success: Tensor) -> Tensor:
        return success >= self.success_threshold


class GoalDistance:
    """The distance to the goal used by a reward: between embeddings, or between vectors of a learned metric.

    Args:
        model: A world model.
        reward: Name of the reward.

    Raises:
        ValueError: If the reward needs goals or a learned metric, and the model has none.
    """

    def __init__(self, model: WorldModel, reward: rewards.RewardName) -> None:
        if rewards.needs_goal(reward) and not model.spec.goals:
            raise ValueError(
                f"reward={reward!r} measures the distance to a goal, and {model.spec.name} has none; accepted: "
                "'environment', 'success'"
            )
        self.model, self.learned = model, rewards.is_learned(reward)
        if self.learned and not isinstance(model, HasMetric):
            raise ValueError(
                f"reward={reward!r}: {type(model).__name__} has no learned metric; accepted: a reward by the embedding "
                "distance, such as 'energy', or a world model with a metric"
            )

    def vector(self, state: State) -> Tensor:
        """Returns the vectors between which distances are computed, `(B, M)`."""
        return self.model.metric(state) if self.learned else self.model.embedding(state)  # type: ignore[attr-defined]

    def __call__(self, vector: Tensor, goal: Tensor) -> Tensor:
        """Returns the distances `(B,)` of vectors `(B, M)` to goal vectors `(B, M)`; 0 in a world without goals."""
        if not goal.shape[-1]:
            return torch.zeros(len(vector), dtype=torch.float32, device=vector.device)
        return rewards.metric_distance(vector, goal) if self.learned else rewards.distance(vector, goal)


def merge(ended: Tensor, fresh: Carry, old: Carry) -> Carry:
    """Returns the carry `fresh` in the rows where `ended` `(B,)` is True, and `old` elsewhere."""
    return {name: torch.where(ended.view(-1, *[1] * (part.dim() - 1)), fresh[name], part) for name, part in old.items()}
