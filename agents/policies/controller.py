"""A controller with a few hundred weights: linear, or with one hidden layer, on the features of a world model.

It is the controller C of World Models (Ha & Schmidhuber 2018, section 2.3), which reads the code z and the memory h,
for any world model and any action space. `python -m agents.evolve` optimizes its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.observations import EMBEDDING_BOUND, ObsType
from dream_env.spec import space_from_json, space_to_json
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated
from dream_env.world_models.protocol import State


@dataclass(frozen=True)
class ControllerConfig:
    """Config of a controller: its inputs and its size.

    Attributes:
        inputs: Names of its inputs: parts of an observation, entries of the world model's state, or entries of the
            model's `features`.
        sizes: Lengths of the inputs.
        reads: Parts of an observation from which the inputs are computed.
        action_space: Action space, as returned by `dream_env.spec.space_to_json`.
        hidden: Width of the hidden layer; 0 for none.
        components: Number of principal components of the inputs to use; 0 for the inputs themselves.
        obs_type: Which observations it takes, see `dream_env.dream.DreamEnv`.
        world_model: Name or folder of the world model that computes the inputs.

    Raises:
        ValueError: If a value is not accepted.
    """

    inputs: tuple[str, ...]
    sizes: tuple[int, ...]
    reads: tuple[str, ...]
    action_space: dict[str, Any]
    hidden: int = 0
    components: int = 0
    obs_type: ObsType = "embedding"
    world_model: str = "default"

    def __post_init__(self) -> None:
        """Checks the values, which may come from a damaged file."""
        if not self.inputs or len(self.inputs) != len(self.sizes) or not 0 < min(self.sizes) <= sum(self.sizes) < 1e5:
            raise ValueError(f"inputs={self.inputs} of sizes={self.sizes}; accepted: one or more, and a size for each")
        if not 0 <= self.hidden <= 4096:
            raise ValueError(f"hidden={self.hidden}; accepted: 0 to 4096")
        if not 0 <= self.components <= sum(self.sizes):
            raise ValueError(f"components={self.components}; accepted: 0 to {sum(self.sizes)}, the number of inputs")
        if self.obs_type not in ("embedding", "native"):
            raise ValueError(f"obs_type={self.obs_type!r}; accepted: 'embedding', 'native'")

    @classmethod
    def of(
        cls,
        model: Any,
        world_model: str,
        inputs: tuple[str, ...] = (),
        hidden: int = 0,
        components: int = 0,
        obs_type: ObsType = "embedding",
    ) -> ControllerConfig:
        """Creates the config of a controller for a world model.

        Args:
            model: The world model.
            world_model: Its name or folder.
            inputs: See the class; empty for `default_inputs`.
            hidden: See the class.
            components: See the class.
            obs_type: See the class.

        Raises:
            ValueError: If an input is not known, or is not a vector.
        """
        names = inputs or default_inputs(model, obs_type)
        if not names:
            raise ValueError(f"obs_type={obs_type!r}: {model.spec.name} shows no vectors; accepted: 'embedding'")
        shown = observed(model, obs_type)
        seen = {name: torch.from_numpy(_example(space)) for name, space in model.spec.observation.spaces.items()}
        words = {"instruction": torch.zeros(1, 64)} if model.spec.instructions else {}
        with torch.inference_mode():
            state = model.encode({name: part.to(model.device) for name, part in {**seen, **words}.items()})
            goal = model.embedding(state) if model.spec.goals else None
            sizes = tuple(part.shape[-1] for part in _parts(model, names, obs_type, state, goal))
        beyond = () if set(names) <= set(shown) else shown
        reads = tuple(dict.fromkeys((*(name for name in names if name in shown), *beyond)))
        return cls(names, sizes, reads, space_to_json(model.spec.action), hidden, components, obs_type, world_model)


class Controller(nn.Module):
    """The controller, see the module; implements `dream_env.agents.policies.protocol.Policy`.

    Args:
        config: Its inputs and its size.
    """

    kind = "controller"
    config_class = ControllerConfig

    def __init__(self, config: ControllerConfig) -> None:
        super().__init__()
        self.config = config
        space: Any = space_from_json(config.action_space)
        self.space = space
        self.discrete = isinstance(space, spaces.Discrete)
        inputs = sum(config.sizes)
        size = config.components or inputs
        self.outputs = int(space.n) if self.discrete else space.shape[0]
        first = config.hidden or self.outputs
        second = (config.hidden + 1) * self.outputs if config.hidden else 0
        self.register_buffer("weights", torch.zeros((size + 1) * first + second))
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        if config.components:
            self.register_buffer("axes", torch.eye(inputs, size))
        if not self.discrete:
            low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
            bounded = torch.isfinite(low) & torch.isfinite(high)
            self.register_buffer("_middle", torch.where(bounded, (low + high) / 2, 0.0), persistent=False)
            self.register_buffer("_half", torch.where(bounded, (high - low) / 2, 1.0), persistent=False)
            self.register_buffer("_limit", torch.where(bounded, 1.0, torch.inf), persistent=False)

    weights: Tensor
    """All weights in one vector `(n,)`: for each layer its matrix, row by row, followed by its bias."""
    center: Tensor
    """Mean `(I,)` that is subtracted from the inputs."""
    spread: Tensor
    """Standard deviation `(I,)` by which the centered inputs are divided."""
    axes: Tensor
    """Principal components `(I, components)` on which the standardized inputs are projected."""
    _middle: Tensor
    _half: Tensor
    _limit: Tensor

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        return self.config.reads

    def reset(self) -> None:
        """Does nothing: the controller has no memory of its own."""

    @insulated
    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, ...)` for observations `(B, ...)`; they are always deterministic.

        Raises:
            ValueError: If a part of the observation is missing.
        """
        if missing := [name for name in self.inputs if name not in observation]:
            raise ValueError(f"observation lacks {missing}; this controller reads {self.inputs}")
        parts = {name: np.asarray(observation[name], np.float32) for name in self.inputs}
        seen = {name: torch.tensor(part, device=self.weights.device) for name, part in parts.items()}
        return self.choose(self.weights[None], self.seen(seen)[None])[0].cpu().numpy()

    def seen(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Returns the inputs `(B, I)` computed from observations `(B, ...)`."""
        names = self.config.inputs
        if set(names) <= set(observation):
            return torch.cat([observation[name] for name in names], -1)
        model = checkpoint.load(self.config.world_model, self.weights.device)
        state = model.restore(observation)
        return torch.cat(_parts(model, names, self.config.obs_type, state, observation.get("goal")), -1)

    def imagined(self, model: Any, state: State, goal: Tensor | None) -> Tensor:
        """Returns the inputs `(B, I)` computed from a world model's states and goal embeddings."""
        return torch.cat(_parts(model, self.config.inputs, self.config.obs_type, state, goal), -1)

    # --- several controllers at once

    def choose(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Returns the actions of C controllers at once.

        Args:
            weights: Weights of each controller, `(C, n)`.
            inputs: R rows of inputs for each controller, `(C, R, I)`.

        Returns:
            Actions `(C, R, A)`, or `(C, R)` if they are discrete.
        """
        output = self.network(weights, inputs)
        if self.discrete:
            return output.argmax(-1) + int(self.space.start)
        return self._middle + self._half * torch.clamp(output, -self._limit, self._limit)

    def network(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Returns the outputs of the last layer, `(C, R, outputs)`; arguments as in `choose`."""
        signal, begin = self.signal(inputs), 0
        widths = [self.config.hidden, self.outputs] if self.config.hidden else [self.outputs]
        for i, width in enumerate(widths):
            size = signal.shape[-1]
            matrix = weights[:, begin : begin + width * size].unflatten(1, (width, size))
            begin += width * size
            bias = weights[:, begin : begin + width].unsqueeze(1)
            begin += width
            signal = torch.baddbmm(bias, signal.to(weights.dtype), matrix.transpose(1, 2))
            signal = signal if i == len(widths) - 1 else torch.tanh(signal)
        return signal

    def signal(self, inputs: Tensor) -> Tensor:
        """Standardizes inputs `(..., I)` and projects them on the principal components, if any, for the first layer."""
        signal = (inputs - self.center) / self.spread
        return signal @ self.axes if self.config.components else signal

    def targets(self, action: Tensor) -> Tensor:
        """Returns the outputs `(N, outputs)` of `network` that result in actions `(N, ...)`."""
        if self.discrete:
            choice = action.long() - int(self.space.start)
            return 2.0 * torch.nn.functional.one_hot(choice, self.outputs).float() - 1
        return (action - self._middle) / self._half


def observed(model: Any, obs_type: ObsType = "embedding") -> tuple[str, ...]:
    """Returns the names of the vectors in the observations of a world model's world."""
    spec = model.spec
    if obs_type == "native":
        return tuple(spec.vectors)
    goal, words = (["goal"] if spec.goals else []), (["instruction"] if spec.instructions else [])
    return ("embedding", *goal, *model.observed, *words)


def default_inputs(model: Any, obs_type: ObsType = "embedding") -> tuple[str, ...]:
    """Returns the default inputs of a controller: the model's `features`, or all observed vectors without features."""
    if obs_type == "native" or not hasattr(model, "features"):
        return observed(model, obs_type)
    return ("features",)


def _parts(model: Any, names: tuple[str, ...], obs_type: ObsType, state: State, goal: Tensor | None) -> list[Tensor]:
    """Returns the inputs computed from states, one tensor per name.

    Raises:
        ValueError: If a name is not known, or does not name a vector.
    """
    made: dict[str, Tensor] = {}
    if obs_type == "native":
        made |= {name: part for name, part in model.decode(state).items() if name in model.spec.vectors}
    else:
        made |= state
        if "embedding" in names:
            made["embedding"] = model.embedding(state).clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND)
        if goal is not None:
            made["goal"] = goal.clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND)
        if hasattr(model, "features") and not set(names) <= set(made):
            found = model.features(state)
            made |= {"features": torch.cat([*found.values()], -1), **found}
    known = [name for name, part in made.items() if part.dim() == 2]
    if unknown := [name for name in names if name not in known]:
        accepted = sorted({*known, *observed(model, obs_type)})
        raise ValueError(f"inputs={unknown}; accepted in {model.spec.name}: {', '.join(accepted)}")
    return [made[name] for name in names]


def _example(space: Any) -> np.ndarray:
    """Returns a batch with one observation of zeros."""
    return np.zeros((1, *space.shape), space.dtype)
