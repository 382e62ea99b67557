"""The protocol of before, for what has not moved to `dream_env.world_models.protocol` yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dream_env.world_models.batching import by_rows


class LatentState(NamedTuple):
    """State of a batch of dreams.

    Attributes:
        tokens: Spatial map of tokens, `(B, T, C)` float32, about unit variance.
        proprio: The controller's set-point, `(B, 4)` float32 in [-1, 1], see `dream_env.contract.integrate`.
        situation: What a model keeps in numbers beside the tokens, `(B, R)` float32; None for one that keeps nothing,
            and in a state that was put together of the others, off whose tokens it is read.
    """

    tokens: Tensor
    proprio: Tensor
    situation: Tensor | None = None

    def take(self, rows: Any) -> LatentState:
        """Returns the states at `rows`: indices, a mask or a slice."""
        return self.each(lambda part: part[rows])

    def each(self, change: Callable[[Tensor], Tensor]) -> LatentState:
        """Returns a state of what a function makes of every part that is there."""
        kept = None if self.situation is None else change(self.situation)
        return LatentState(change(self.tokens), change(self.proprio), kept)


def accept_latent_state(kind: type) -> type:
    """Lets a model of the new protocol be called in the way of before, with a `LatentState`, as well.

    Gone with the last caller: the decorator's line at the class, and this function.
    """
    new = {name: getattr(kind, name) for name in ("encode", "step", "embedding", "metric", "decode", "success")}

    def state_of(self: Any, latent: LatentState, **more: Tensor) -> dict[str, Tensor]:
        state = self.state_of(latent.tokens, latent.proprio) if latent.situation is None else latent._asdict()
        return {{"situation": "object_state"}.get(name, name): part for name, part in state.items()} | more

    def latent(self: Any, state: dict[str, Tensor]) -> LatentState:
        kept = None if self.predictor.interaction is None else state["object_state"]
        return LatentState(state["tokens"], state["proprio"], kept)

    def encode(self: Any, observation: Any, previous: Any = None) -> Any:
        if isinstance(observation, Tensor):
            return latent(self, new["encode"](self, {"pixels": observation, "proprio": previous}))
        return new["encode"](self, observation, previous)

    def step(self: Any, state: Any, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0) -> Any:
        if not isinstance(state, LatentState):
            return new["step"](self, state, action, noise, temperature)
        before = self._inputs(state_of(self, state), action)
        if noise is None:
            return LatentState(*by_rows(self._expect, *before))
        return LatentState(*by_rows(self._draw, noise, torch.full_like(noise, temperature), *before))

    def embedding(self: Any, state: Any) -> Tensor:
        return state.tokens.flatten(1) if isinstance(state, LatentState) else new["embedding"](self, state)

    def metric(self: Any, state: Any) -> Tensor:
        if not isinstance(state, Tensor):
            return new["metric"](self, state)
        return new["metric"](self, self.state_of(state.unflatten(1, (-1, self.config.channels))))

    def decode(self: Any, state: Any) -> Any:
        if isinstance(state, LatentState):
            return new["decode"](self, {"tokens": state.tokens, "proprio": state.proprio})["pixels"]
        return new["decode"](self, state)

    def success(self: Any, state: Any, goal: Any = None, instruction: Tensor | None = None) -> Tensor:
        if instruction is None:
            return new["success"](self, state)
        return new["success"](self, state_of(self, state, instruction=instruction))

    def judge(self: Any, state: LatentState, goal: Tensor, instruction: Tensor) -> tuple[Tensor, Tensor]:
        full = state_of(self, state, instruction=instruction)
        return new["metric"](self, full), new["success"](self, full)

    def disagreement(self: Any, state: LatentState, action: Tensor) -> Tensor:
        return by_rows(self._variance, *self._inputs(state_of(self, state), action))

    def retrace(self: Any, state: LatentState, action: Tensor, truth: Tensor, known: Tensor) -> LatentState:
        return latent(self, self.posterior_step(state_of(self, state), action, truth, known))

    def state(self: Any, tokens: Tensor, proprio: Tensor) -> LatentState:
        return latent(self, self.state_of(tokens, proprio))

    for function in (encode, step, embedding, metric, decode, success, judge, disagreement, retrace, state):
        setattr(kind, function.__name__, function)
    return kind


class WorldModel(Protocol):
    """The one object that RL, planning, evolution, synthesis and the viewer share.

    Every method takes and returns batches on `device` and is pure: the same inputs give the same output, and
    row i does not depend on the other rows. An object is told from another one by its identity.

    What a model may have beside: `instruction(sentence)`, its own sentence embedding `(64,)` in numpy; `compiled()` and
    `traced()`, faster forms of itself; and in an attribute `config` the numbers `success_threshold`, the probability
    from which on a dream counts its condition as met (0.5 without it), and `disagreement_threshold`, which
    `max_disagreement="calibrated"` asks for.
    """

    embedding_dim: int
    """Length T * C of a flattened embedding."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    def encode(self, images: Tensor, proprio: Tensor) -> LatentState:
        """Encodes pictures `(B, H, W, 3)` uint8 and set-points `(B, 4)` into a state."""
        ...

    def step(
        self, state: LatentState, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> LatentState:
        """Predicts the next state.

        Args:
            state: Current states.
            action: Actions `(B, 4)` in [-1, 1].
            noise: Random numbers `(B,)` in [0, 1) that decide what could go either way; None gives the likeliest.
            temperature: How far from the likeliest noise can lead; 1 is as far as the model believes.
        """
        ...

    def embedding(self, state: LatentState) -> Tensor:
        """Flattens the tokens to `(B, E)`: what policies see and distances are taken of."""
        ...

    def metric(self, embedding: Tensor) -> Tensor:
        """Maps embeddings `(B, E)` to vectors `(B, M)` whose Euclidean distances are about control steps.

        Only the learned rewards need it, see `dream_env.contract.reward`.
        """
        ...

    def decode(self, state: LatentState) -> Tensor:
        """Draws the state as pictures `(B, H, W, 3)` uint8."""
        ...

    def success(self, state: LatentState, goal: Tensor, instruction: Tensor) -> Tensor:
        """Predicts the probability `(B,)` that the task's condition holds now.

        Args:
            state: Current states.
            goal: Embeddings of the goal images, `(B, E)`.
            instruction: Sentence embeddings, `(B, 64)`.
        """
        ...

    def judge(self, state: LatentState, goal: Tensor, instruction: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the metric's vectors `(B, M)` and the `success` `(B,)` of states at once, for they may share work.

        The vectors are those of `metric`, or of what the states keep beside their embeddings. Only dreams with a
        learned reward ask for it.
        """
        ...

    def disagreement(self, state: LatentState, action: Tensor) -> Tensor:
        """Measures how far the ensemble's one-step predictions lie apart, `(B,)`; 0 for a single predictor."""
        ...
