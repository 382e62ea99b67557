"""Observation spaces and observations that the dream and the real environment share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dream_env.checks import check_choice
from dream_env.language import INSTRUCTION_DIM, WORDS
from dream_env.spec import PICTURE, VECTOR, WorldSpec
from dream_env.world_models.protocol import State, WorldModel

ObsType = Literal["embedding", "words", "state", "pixels", "native"]
EMBEDDING_BOUND = 20.0
"""Embeddings in observations are clipped to this magnitude; they have about unit variance."""


class ObservationBuilder:
    """Builds observations from latent states, and defines their space.

    Args:
        model: A world model.
        obs_type: Content of the observations:

            * "embedding": a flat `Dict` with `embedding`; `goal`, the goal embedding, in a world with goals; the
              vectors named in the model's `observed`; and `instruction`, its embedding, in a world with instructions.
            * "words": also `words`, the instruction word by word (rows of `dream_env.language.word_vectors`), in a
              world with instructions.
            * "state": as "words", and the entries in the model's `state_spaces`, from which rollouts can be started.
            * "pixels": as "embedding", and the images.
            * "native": the observation of the environment itself, decoded.
        goal_env: True for a `Dict` of `observation`, `achieved_goal` and `desired_goal`, for hindsight relabelling.
            `observation` concatenates the vectors and the instruction, or is the embedding if there are none.

    Raises:
        ValueError: If this world does not support the type.
    """

    def __init__(self, model: WorldModel, obs_type: ObsType = "embedding", goal_env: bool = False) -> None:
        check_choice("obs_type", obs_type, ObsType)
        spec = model.spec
        if goal_env and not (spec.goals and obs_type == "embedding"):
            raise ValueError(
                f"goal_env=True with obs_type={obs_type!r} in a world {'with' if spec.goals else 'without'} goals; "
                "accepted: obs_type='embedding' in a world with goals"
            )
        if obs_type == "pixels" and not spec.pictures:
            raise ValueError(f"obs_type='pixels': {spec.name} has no pictures; accepted: 'embedding', 'native'")
        self.model, self.obs_type, self.goal_env = model, obs_type, goal_env
        own = dict(getattr(model, "observed_spaces", {}))
        hidden = getattr(model, "state_spaces", {}) if obs_type == "state" else {}
        self.shown = tuple(dict.fromkeys((*model.observed, *hidden)))
        space = observation_space(spec, model.embedding_dim, self.shown, obs_type, goal_env, {**own, **hidden})
        self.space = copy.deepcopy(space)  # not shared: a space has a random generator

    @property
    def words(self) -> bool:
        """Whether observations contain `words`, which then have to be in the states."""
        return self.obs_type in ("words", "state") and self.model.spec.instructions

    def build(self, state: State, goal: Tensor | None, embedding: Tensor | None = None) -> Any:
        """Builds observations from states, as new tensors.

        Args:
            state: States.
            goal: Embeddings `(B, E)` of the goals; None without goals.
            embedding: The states' embeddings `(B, E)`; None to compute them.
        """
        if self.obs_type == "native":
            own = bare(self.model.spec)
            decoded = {name: part.clone() for name, part in self.model.decode(state).items()}  # may be parts of `state`
            return decoded[own] if own else decoded
        embedding = _bounded(self.model.embedding(state) if embedding is None else embedding)
        language = ["instruction", *(["words"] if self.words else [])] if self.model.spec.instructions else []
        names = [*self.shown, *language]
        parts = {name: state[name].clone() for name in names}  # copies, since the caller may modify them
        if self.goal_env:
            assert goal is not None
            rest = torch.cat(list(parts.values()), dim=-1) if parts else embedding.clone()
            return {"observation": rest, "achieved_goal": embedding, "desired_goal": _bounded(goal)}
        obs = {"embedding": embedding, **({} if goal is None else {"goal": _bounded(goal)}), **parts}
        if self.obs_type == "pixels":
            decoded = self.model.decode(state)
            obs |= {name: decoded[name] for name in self.model.spec.pictures}
        return obs


def observation_space(
    spec: WorldSpec,
    embedding_dim: int,
    observed: tuple[str, ...] = (),
    obs_type: ObsType = "embedding",
    goal_env: bool = False,
    observed_spaces: Mapping[str, spaces.Space] | None = None,
) -> spaces.Space:
    """Builds the observation space of `ObservationBuilder`.

    Args:
        spec: Spec of the world.
        embedding_dim: Length E of an embedding.
        observed: Entries of the world model's state that are part of the observation.
        obs_type: As in `ObservationBuilder`.
        goal_env: As in `ObservationBuilder`.
        observed_spaces: Spaces of the entries in `observed` that are not vectors of the spec, such as a memory.
    """
    if obs_type == "native":
        own = bare(spec)
        return spec.observation[own] if own else spec.observation
    vector = spaces.Box(-EMBEDDING_BOUND, EMBEDDING_BOUND, (embedding_dim,), np.float32)
    known = {**spec.observation.spaces, **(observed_spaces or {})}
    parts: dict[str, spaces.Space] = {name: known[name] for name in observed}
    if spec.instructions:
        parts["instruction"] = spaces.Box(-1.0, 1.0, (INSTRUCTION_DIM,), np.float32)
        if obs_type in ("words", "state"):
            parts["words"] = spaces.Box(0.0, np.inf, (WORDS,), np.float32)
    if not goal_env:
        goal = {"goal": vector} if spec.goals else {}
        pictures = {name: spec.observation[name] for name in spec.pictures if obs_type == "pixels"}
        return spaces.Dict({"embedding": vector, **goal, **parts, **pictures})
    joined = [space for space in parts.values() if isinstance(space, spaces.Box)]
    rest = vector
    if joined:
        low, high = (np.concatenate([getattr(space, bound) for space in joined]) for bound in ("low", "high"))
        rest = spaces.Box(low, high, dtype=np.float32)
    return spaces.Dict({"observation": rest, "achieved_goal": vector, "desired_goal": vector})


def bare(spec: WorldSpec) -> str | None:
    """Returns the name of the only part if the environment's observation is a single array; None if it is a dict."""
    names = tuple(spec.observation.spaces)
    return names[0] if names in ((PICTURE,), (VECTOR,)) and not spec.single_key else None


def to_tensors(observation: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Converts an observation to tensors with batch size 1: images stay uint8, vectors become float32."""
    arrays = {name: np.asarray(value) for name, value in observation.items()}
    return {
        name: torch.from_numpy(np.array(a if a.dtype == np.uint8 else a.astype(np.float32))[None]).to(device)
        for name, a in arrays.items()
    }


def to_numpy(observation: Any) -> Any:
    """Converts an observation from `ObservationBuilder.build` to numpy arrays."""
    if isinstance(observation, Tensor):
        return observation.cpu().numpy()
    return {name: part.cpu().numpy() for name, part in observation.items()}


def _bounded(embedding: Tensor) -> Tensor:
    return embedding.clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND)
