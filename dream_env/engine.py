"""The engine of every dream: batches of tensors in and out, on any device, with gradients if asked for.

`DreamEngine` is a pure function of what a dream carries from step to step; the environments of `dream_env.dream` add
Gymnasium's form and random numbers from numpy, `dream_env.tensors` learners that live on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.dream_config import DreamConfig
from dream_env.language import embedder, word_rows
from dream_env.observations import ObservationForm
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
"""What a batch of dreams is from one step to the next: the entries of the world model's state, and those of `OWN`."""
OWN = ("_goal", "_goal_vector", "_distance", "_steps", "_streak")
"""Beside the state: the goal's embedding `(B, E)` and the vector that the reward measures by `(B, M)`; the distance to
it; the steps since the start; those for which the condition of success has held, `(B,)` each."""
TERMINATED = 0.5
"""Probability from which on an episode counts as ended (Ha & Schmidhuber 2018, appendix A.3)."""


class DreamEngine:
    """Begins dreams, moves them by actions, and tells what is seen of them and what is paid.

    Args:
        config: What is dreamed.
        horizon: Control steps after which an episode is truncated; None for never, "spec" for the world's own.

    Raises:
        ValueError: If the world model cannot give what the options ask for.
    """

    def __init__(self, config: DreamConfig, horizon: int | str | None = "spec") -> None:
        self.config = config
        self.model, self.initial_states = config.open()
        self.spec = self.model.spec
        self.horizon: Any = self.spec.horizon if horizon == "spec" else horizon
        self.device = self.model.device
        settings = getattr(self.model, "config", None)
        self.success_threshold: float = getattr(settings, "success_threshold", 0.5)
        self.max_disagreement = config.limit(getattr(settings, "disagreement_threshold", None))
        self.form = ObservationForm(self.model, config.obs_type, config.goal_env)
        self.reward = config.pays(self.model)
        self.distance = GoalDistance(self.model, self.reward)

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors, and not numbers of choices."""
        return hasattr(self.spec.action, "low")

    # --- a dream's steps

    @torch.no_grad()
    def begin(self, rows: np.ndarray, instruction: list[str] | None = None, **given: Mapping[str, Tensor]) -> Carry:
        """Starts dreams.

        Args:
            rows: Rows of the initial states `(K,)`.
            instruction: Sentences in the place of theirs, K of them.
            **given: `observation` and `goal`, observations `(K, ...)` or `(1, ...)` in the place of theirs.
        """
        count, goals = len(rows), self.spec.goals
        state = self.initial_states.states(self.model, rows)
        if instruction is not None or "observation" in given:
            parts = self.initial_states.observation
            seen = given.get("observation") or {k: torch.from_numpy(v[rows]).to(self.device) for k, v in parts.items()}
            seen = {name: part.expand(count, *part.shape[1:]) for name, part in seen.items()}
            if self.spec.instructions:
                seen["instruction"] = self._words(rows, instruction)
            state = self.model.encode(seen)
        if self.form.words:
            told = self.initial_states.instruction[rows] if instruction is None else instruction
            state = {
                **state,
                "words": torch.from_numpy(np.stack([word_rows(str(one)) for one in told])).to(self.device),
            }
        if "goal" in given:
            shown = {name: part.expand(count, *part.shape[1:]) for name, part in given["goal"].items()}
            goal = self.model.encode(shown | {k: v for k, v in state.items() if k == "instruction"})
        elif goals:
            goal = self.initial_states.goals(self.model, rows)
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
        """Takes dreams one step further, from what they carry, the action and the noise, and from nothing else.

        Args:
            carry: Of B dreams.
            action: `(B, A)` float32 or `(B,)` int64, within `spec.action`.
            noise: Uniform random numbers `(B, noise_dim)` in [0, 1); None for the likeliest.

        Returns:
            What the dreams carry then; and by name `reward` `(B,)`, `terminated`, `truncated`, and everything that
            `info` gives.
        """
        config, model, before = self.config, self.model, self.state(carry)
        with config.computing(self.device):
            state, told = model.step(before, action, noise, config.temperature)
        told = Prediction(*(part if part is None else part.float() for part in told))  # also in lower precision
        vector, steps = self.distance.vector(state), carry["_steps"] + 1
        distance = self.distance(vector, carry["_goal_vector"])
        met = torch.zeros_like(steps, dtype=torch.bool) if told.success is None else self._met(told.success)
        streak = torch.where(met, carry["_streak"] + 1, 0)
        after = {**state, "_steps": steps, "_streak": streak, "_distance": distance}
        after |= {name: carry[name] for name in ("_goal", "_goal_vector")}
        result = self.info(after, told)
        reward = rewards.reward(self.reward, carry["_distance"], distance, result["is_success"], told.reward)
        truncated = torch.zeros_like(met) if self.horizon is None else steps >= self.horizon
        if told.disagreement is not None:
            if config.disagreement_penalty:
                reward = reward - config.disagreement_penalty * told.disagreement
            if self.max_disagreement is not None:
                truncated = truncated | (told.disagreement > self.max_disagreement)
        ended = torch.zeros_like(met) if told.terminated is None else told.terminated >= TERMINATED
        return after, {"reward": reward, "terminated": ended, "truncated": truncated & ~ended, **result}

    def info(self, carry: Carry, told: Prediction | None = None) -> dict[str, Tensor]:
        """Tells of dreams what their infos hold, `(B,)` each; without a prediction it is that of a start.

        `is_success` (the predicted condition has held for `hold_steps`); in a world with goals `distance` (that of the
        embeddings); and as far as the world model tells: `success_probability`, `metric_distance` with a learned
        reward, `disagreement` (0 at a start).
        """
        state, result = self.state(carry), {"is_success": carry["_streak"] >= self.spec.hold_steps}
        if self.spec.goals:
            learned = rewards.is_learned(self.reward)
            raw = rewards.distance(self.model.embedding(state), carry["_goal"]) if learned else carry["_distance"]
            result["distance"] = raw
            if learned:
                result["metric_distance"] = carry["_distance"]
        probability = told.success if told is not None else self._start_success(state)
        if probability is not None:
            result["success_probability"] = probability
        if told is not None and told.disagreement is not None:
            result["disagreement"] = told.disagreement
        elif told is None and self.tells_disagreement:
            result["disagreement"] = torch.zeros(len(carry["_steps"]), dtype=torch.float32, device=self.device)
        return result

    def _start_success(self, state: State) -> Tensor | None:
        told = isinstance(self.model, HasSuccess) and knows_success(self.model, state)
        return self.model.success(state) if told else None  # type: ignore[attr-defined]

    @property
    def tells_disagreement(self) -> bool:
        """Whether steps tell the disagreement of an ensemble, found out by a step."""
        if not hasattr(self, "_tells"):
            carry = self.begin(np.zeros(1, np.int64))
            with torch.no_grad():
                self._tells = self.model.step(self.state(carry), self.still(1))[1].disagreement is not None
        return self._tells

    def still(self, count: int) -> Tensor:
        """Returns actions that do nothing, or the nearest to it, `(count, A)` or `(count,)`."""
        space: Any = self.spec.action
        if not self.continuous:
            return torch.full((count,), int(space.start), dtype=torch.int64, device=self.device)
        zero = np.clip(np.zeros(space.shape, np.float32), space.low, space.high)
        return torch.from_numpy(np.tile(zero, (count, 1))).to(self.device)

    def state(self, carry: Carry) -> State:
        """Returns the world model's state of dreams."""
        return {name: part for name, part in carry.items() if name not in OWN}

    def observe(self, carry: Carry) -> Any:
        """Returns the observations of dreams, in the form that `obs_type` and `goal_env` ask for."""
        return self.form.build(self.state(carry), carry["_goal"] if self.spec.goals else None)

    def _met(self, success: Tensor) -> Tensor:
        return success >= self.success_threshold


class GoalDistance:
    """The distance to the goal that a reward measures: of embeddings, or of a learned metric's vectors.

    Args:
        model: A world model.
        reward: Name of the reward.

    Raises:
        ValueError: If the reward needs a goal or a metric that the model has not.
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
        """Returns what distances are taken of, `(B, M)`."""
        return self.model.metric(state) if self.learned else self.model.embedding(state)  # type: ignore[attr-defined]

    def __call__(self, vector: Tensor, goal: Tensor) -> Tensor:
        """Returns the distances `(B,)` of vectors `(B, M)` to a goal's; 0 in a world without goals."""
        if not goal.shape[-1]:
            return torch.zeros(len(vector), dtype=torch.float32, device=vector.device)
        return rewards.metric_distance(vector, goal) if self.learned else rewards.distance(vector, goal)


def merge(ended: Tensor, fresh: Carry, old: Carry) -> Carry:
    """Returns what dreams carry where those that have ended `(B,)` begin anew."""
    return {name: torch.where(ended.view(-1, *[1] * (part.dim() - 1)), fresh[name], part) for name, part in old.items()}
