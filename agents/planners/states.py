"""Initial states of imagined rollouts, from the observations of a policy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dream_env.observations import ObsType
from dream_env.world_models.protocol import HasMetric, State, WorldModel


def seen(model: WorldModel, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Moves the parts of observations `(B, ...)` that a planner reads to the model's device; vectors become float32."""
    shown = (
        (*inputs(model), "words") if "embedding" in observation else (*model.spec.observation, "instruction", "goal")
    )
    arrays = {name: np.asarray(observation[name]) for name in shown if name in observation}
    kinds = {name: a if a.dtype == np.uint8 else a.astype(np.float32) for name, a in arrays.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(a)).to(model.device) for name, a in kinds.items()}


def inputs(model: WorldModel) -> tuple[str, ...]:
    """Returns the names of the parts of an observation that contain a world model's state and goal."""
    spec = model.spec
    state = dict.fromkeys(("embedding", *model.observed, *getattr(model, "state_spaces", ())))
    seen = state if hasattr(model, "restore") else spec.observation
    return (*seen, *(["goal"] if spec.goals else []), *(["instruction"] if spec.instructions else []))


def obs_type_for(model: WorldModel, inputs: tuple[str, ...]) -> ObsType:
    """Returns the `obs_type` of observations that contain a world model's state and all of `inputs`."""
    if not hasattr(model, "restore"):
        return "native"
    return "state" if getattr(model, "state_spaces", ()) else "words" if "words" in inputs else "embedding"


def state_of(model: WorldModel, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
    """Returns the world model's states for observations `(B, ...)`.

    If an observation contains the world model's embedding, the state is restored from it without encoding again: in a
    dream it is the current state, and in the real environment `dream_env.wrappers.WorldModelWrapper` has encoded it
    already. Otherwise the observation of the environment itself is encoded.

    Args:
        model: The world model.
        observation: Parts by name.
        previous: States that were predicted for this step, for models with memory.

    Raises:
        ValueError: If the observation contains neither.
    """
    if "embedding" in observation and hasattr(model, "restore"):
        words = {"words": observation["words"]} if "words" in observation else {}  # a policy may read them
        return {**model.restore(observation), **words}
    if set(model.spec.observation) <= set(observation):
        names = [*model.spec.observation, *(["instruction"] if "instruction" in observation else [])]
        return model.encode({name: observation[name] for name in names}, previous)
    raise ValueError(
        f"observation has {sorted(observation)}; a planner accepts: what {model.spec.name} shows "
        f"({', '.join(model.spec.observation)}), or 'embedding' with a world model that has `restore`"
    )


def goal_of(model: WorldModel, observation: Mapping[str, Tensor]) -> State | None:
    """Returns the goals in observations as "embedding" and the entries that a learned distance needs.

    No rollout starts from a goal, so its embedding is enough. Returns None without goals.
    """
    if "goal" not in observation:
        return None
    known = model.restore({"embedding": observation["goal"]}) if isinstance(model, HasMetric) else {}  # type: ignore
    return {**known, "embedding": observation["goal"]}


def goal_embedding(model: WorldModel, goal: State) -> Tensor:
    """Returns the embeddings `(B, E)` of goals, which are states or results of `goal_of`."""
    return goal["embedding"] if "embedding" in goal else model.embedding(goal)
