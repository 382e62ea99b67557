"""Protocols that world models implement. All of them work on batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dream_env.spec import WorldSpec

State = dict[str, Tensor]
"""Latent state of a batch of rollouts: every entry has the batch as its leading axis."""


class Prediction(NamedTuple):
    """Predictions of a step other than the next state, `(B,)` each; None if the model does not predict it.

    Attributes:
        reward: Reward of the environment for the step.
        terminated: Probability that the episode terminates with the step.
        success: Probability that the success condition holds after the step.
        disagreement: Disagreement of the ensemble members about the next state.
    """

    reward: Tensor | None = None
    terminated: Tensor | None = None
    success: Tensor | None = None
    disagreement: Tensor | None = None


class WorldModel(Protocol):
    """A latent dynamics model: the object that RL, planning, evolution, synthesis and the viewer share.

    Every method takes and returns batches on `device` and is pure: equal inputs give equal outputs, and row i of a
    batch gives the same result as that row alone, up to rounding. Models are compared by object identity.

    A model may also have:

    - the methods of `HasSuccess`, `HasMetric` and `HasWords`;
    - `compiled()`: the model in a form that uses `torch.compile`;
    - `has_memory`: True if `encode` needs `previous`;
    - `restore(observation)`: the state for an observation that contains an embedding;
    - `features(state)`: a dict of vectors `(B, n)`, a compact input for small controllers, for models whose embedding
      has thousands of elements;
    - `metric_state`: the state entries that the metric needs; `step` also accepts states with only these entries;
    - `observed_spaces`: the spaces of the entries of `observed` that are not vectors of `spec.observation`, such as a
      memory;
    - `state_spaces`: the spaces of the state entries that `restore` needs in addition to the embedding and `observed`;
      `obs_type="state"` adds them to observations;
    - `sentence_in_embedding`: True if `embedding` depends on the instruction;
    - `success_by_goal`: True if `success` needs the embedding of the goal in the state, see `with_goal`;
    - `config.success_threshold`: the probability at or above which the success condition counts as met (default 0.5);
    - `config.disagreement_threshold`: the limit that `max_disagreement="calibrated"` uses.
    """

    spec: WorldSpec
    """Spec of the world that the model was fitted to."""
    embedding_dim: int
    """Length E of an embedding."""
    noise_dim: int
    """Number of uniform random numbers that a step takes for each row."""
    observed: tuple[str, ...]
    """State entries that are copied unchanged into observations, such as proprioception."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations into a state.

        Args:
            observation: The parts of `spec.observation` by name, `(B, ...)`: images uint8, vectors float32. May contain
                "instruction", sentence embeddings `(B, I)`, which success depends on. Goal observations may lack
                vectors.
            previous: The state predicted for this step, for models with memory; None at the start of an episode.
        """
        ...

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state.

        Args:
            state: Current states.
            action: Actions `(B, A)` float32, or `(B,)` int64 if they are discrete, in the units of `spec.action`.
            noise: Uniform random numbers `(B, noise_dim)` in [0, 1) for sampling the next state; None returns the
                most likely one.
            temperature: Sampling temperature: 1 samples from the predicted distribution, lower values stay closer to
                the most likely next state.
        """
        ...

    def embedding(self, state: State) -> Tensor:
        """Returns embeddings `(B, E)`: the input of policies, and what distances to the goal are measured on."""
        ...

    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states into observations, by the names of `spec.observation`."""
        ...


@runtime_checkable
class HasSuccess(Protocol):
    """A model that predicts success."""

    def success(self, state: State) -> Tensor:
        """Returns the probability `(B,)` that the success condition holds in these states."""
        ...


@runtime_checkable
class HasMetric(Protocol):
    """A model with a learned distance."""

    def metric(self, state: State) -> Tensor:
        """Maps states to vectors `(B, M)` whose Euclidean distance approximates the number of control steps."""
        ...


def has_metric(model: Any) -> bool:
    """Returns whether a world model has a learned distance, see `HasMetric`."""
    return getattr(model, "metric", None) is not None and getattr(getattr(model, "config", None), "metric_dim", 1) > 0


@runtime_checkable
class HasWords(Protocol):
    """A model with its own sentence embedding."""

    def instruction(self, sentence: str) -> np.ndarray:
        """Embeds a sentence as `(I,)` float32."""
        ...


def with_goal(model: WorldModel, state: State, goal: Tensor | None) -> State:
    """Adds the goal to states, for models whose success prediction needs it.

    Args:
        model: The world model.
        state: States.
        goal: Embeddings `(B, E)` of the goals; None if unknown.

    Returns:
        The states, with `goal` as the entry "goal" if the model has `success_by_goal` and the goal is known.
    """
    return {**state, "goal": goal} if goal is not None and getattr(model, "success_by_goal", False) else state


def knows_success(model: WorldModel, state: Mapping[str, Any]) -> bool:
    """Returns whether states contain what success prediction needs: the instruction and the goal, if used."""
    needed = ["instruction"] * model.spec.instructions + ["goal"] * getattr(model, "success_by_goal", False)
    return all(name in state for name in needed)


def take(state: Mapping[str, Tensor], index: Any) -> State:
    """Returns the rows of a state that an index array, a mask or a slice selects."""
    return {name: part[index] for name, part in state.items()}
