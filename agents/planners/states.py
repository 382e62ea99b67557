"""The state that a world model begins to imagine with, from what a policy observes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dream_env.observations import ObsType
from dream_env.world_models.protocol import HasMetric, State, WorldModel


def seen(model: WorldModel, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Puts what a planner looks at in a batch of observations on the model's device; vectors become float32."""
    shown = (
        (*inputs(model), "words") if "embedding" in observation else (*model.spec.observation, "instruction", "goal")
    )
    arrays = {name: np.asarray(observation[name]) for name in shown if name in observation}
    kinds = {name: a if a.dtype == np.uint8 else a.astype(np.float32) for name, a in arrays.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(a)).to(model.device) for name, a in kinds.items()}


def inputs(model: WorldModel) -> tuple[str, ...]:
    """Names of the parts of an observation that show a world model's state and goal."""
    spec = model.spec
    told = dict.fromkeys(("embedding", *model.observed, *getattr(model, "state_spaces", ())))
    seen = told if hasattr(model, "restore") else spec.observation
    return (*seen, *(["goal"] if spec.goals else []), *(["instruction"] if spec.instructions else []))


def form(model: WorldModel, inputs: tuple[str, ...]) -> ObsType:
    """Returns the form of observations in which a world model's state is shown, and all of `inputs`."""
    if not hasattr(model, "restore"):
        return "native"
    return "state" if getattr(model, "state_spaces", ()) else "words" if "words" in inputs else "embedding"


def state_of(model: WorldModel, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
    """Returns the states that observations `(B, ...)` stand for.

    Where they hold the world model's embedding, as policies see it in both worlds, nothing is encoded anew: a dream
    goes on from what it is, and in the real environment `dream_env.wrappers.WorldModelWrapper` has encoded it already.
    Else what the environment itself shows is encoded.

    Args:
        model: The world model.
        observation: Parts by name.
        previous: The states predicted for this moment, for models with memory.

    Raises:
        ValueError: If the observation has neither.
    """
    if "embedding" in observation and hasattr(model, "restore"):
        words = {"words": observation["words"]} if "words" in observation else {}  # which a policy may read
        return {**model.restore(observation), **words}
    if set(model.spec.observation) <= set(observation):
        names = [*model.spec.observation, *(["instruction"] if "instruction" in observation else [])]
        return model.encode({name: observation[name] for name in names}, previous)
    raise ValueError(
        f"observation has {sorted(observation)}; a planner accepts: what {model.spec.name} shows "
        f"({', '.join(model.spec.observation)}), or 'embedding' with a world model that has `restore`"
    )


def goal_of(model: WorldModel, observation: Mapping[str, Tensor]) -> State | None:
    """Returns what is known of the goals in observations: "embedding", and what a learned distance needs beside.

    None without goals. A goal is looked at, never imagined from, so its embedding is enough.
    """
    if "goal" not in observation:
        return None
    known = model.restore({"embedding": observation["goal"]}) if isinstance(model, HasMetric) else {}  # type: ignore
    return {**known, "embedding": observation["goal"]}


def goal_embedding(model: WorldModel, goal: State) -> Tensor:
    """Returns the embeddings `(B, E)` of goals, which are states or what `goal_of` knows of them."""
    return goal["embedding"] if "embedding" in goal else model.embedding(goal)
