"""What a world model is to the rest of the package: small protocols, batched first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dream_env.spec import WorldSpec

State = dict[str, Tensor]
"""State of a batch of dreams: every entry has the batch as its leading axis."""


class Prediction(NamedTuple):
    """What a model tells of a step beside the next state, `(B,)` each; None where it cannot tell.

    Attributes:
        reward: The environment's own reward of the step.
        terminated: Probability that the episode has ended with it.
        success: Probability that the condition of success holds after it.
        disagreement: How far the members of an ensemble lie apart about it.
    """

    reward: Tensor | None = None
    terminated: Tensor | None = None
    success: Tensor | None = None
    disagreement: Tensor | None = None


class WorldModel(Protocol):
    """The one object that RL, planning, evolution, synthesis and the viewer share.

    Every method takes and returns batches on `device` and is pure: equal inputs give equal outputs, and row i is the
    same as that row alone, up to rounding. An object is told from another one by its identity.

    What a model may have beside: the methods of `HasSuccess`, `HasMetric`, `HasWords`; `compiled()`, a form of itself
    through `torch.compile`; `has_memory`, True where `encode` needs `previous`; `restore(observation)`, the state that
    an observation with an embedding stands for; `features(state)`, a dict of vectors `(B, n)`, the few numbers that a
    small controller needs where an embedding has thousands; `metric_state`, the entries of the state that the metric
    needs, which `step` moves by themselves; `observed_spaces`, the spaces of those entries of `observed` that are no
    vectors of `spec.observation`, such as a memory; `state_spaces`, the spaces of those entries of the state that
    `restore` needs beside embedding and `observed`, and which `obs_type="state"` shows; `sentence_in_embedding`, True
    where `embedding` is under the sentence; `success_by_goal`, True where success is told of a state together with its
    goal's embedding, see `with_goal`; and in an attribute `config` the numbers `success_threshold`, the
    probability from which on a dream counts its condition as met (0.5 without it), and `disagreement_threshold`, which
    `max_disagreement="calibrated"` asks for.
    """

    spec: WorldSpec
    """The world that it was fitted to."""
    embedding_dim: int
    """Length E of an embedding."""
    noise_dim: int
    """Uniform random numbers that a step takes for each row."""
    observed: tuple[str, ...]
    """Entries of the state that an observation shows as they are, such as proprioception."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations into a state.

        Args:
            observation: The parts that `spec.observation` names, `(B, ...)`: pictures uint8, vectors float32. May hold
                "instruction", sentence embeddings `(B, I)`, which success is told by; of a goal's observation, vectors
                may be missing.
            previous: The state that was predicted for this moment, for models with memory; None at a start.
        """
        ...

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state.

        Args:
            state: Current states.
            action: Actions `(B, A)` float32, or `(B,)` int64 where they are discrete, in the units of `spec.action`.
            noise: Uniform random numbers `(B, noise_dim)` in [0, 1) that decide what could go either way; None gives
                the likeliest.
            temperature: How far noise can lead from the likeliest; at 1 as far as the model believes.
        """
        ...

    def embedding(self, state: State) -> Tensor:
        """Returns `(B, E)`: what policies see and distances are taken of."""
        ...

    def decode(self, state: State) -> dict[str, Tensor]:
        """Returns the observations that states stand for, by the names of `spec.observation`."""
        ...


@runtime_checkable
class HasSuccess(Protocol):
    """A model that tells whether the condition of success holds."""

    def success(self, state: State) -> Tensor:
        """Returns the probability `(B,)` that the condition holds in these states."""
        ...


@runtime_checkable
class HasMetric(Protocol):
    """A model with a learned distance."""

    def metric(self, state: State) -> Tensor:
        """Maps states to vectors `(B, M)` whose Euclidean distances are about control steps."""
        ...


@runtime_checkable
class HasWords(Protocol):
    """A model that embeds sentences in its own way."""

    def instruction(self, sentence: str) -> np.ndarray:
        """Embeds a sentence, `(I,)` float32."""
        ...


def with_goal(model: WorldModel, state: State, goal: Tensor | None) -> State:
    """Returns states of which the model can tell success.

    Args:
        model: The world model.
        state: States.
        goal: The embeddings `(B, E)` of their goals, kept in the entry "goal" where `success_by_goal`; None if unknown.
    """
    return {**state, "goal": goal} if goal is not None and getattr(model, "success_by_goal", False) else state


def knows_success(model: WorldModel, state: Mapping[str, Any]) -> bool:
    """Tells whether states hold what a model tells success by: the sentence in a world with sentences, and the goal."""
    needed = ["instruction"] * model.spec.instructions + ["goal"] * getattr(model, "success_by_goal", False)
    return all(name in state for name in needed)


def take(state: Mapping[str, Tensor], index: Any) -> State:
    """Returns some rows of a state: at indices, a mask or a slice."""
    return {name: part[index] for name, part in state.items()}
