"""Saves and loads policies of Stable-Baselines3 without pickle: spaces and sizes as JSON, weights as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file
from torch import nn

from dream_env.agents.policies import encoder_id
from dream_env.agents.run.trust import check_trust
from dream_env.observations import ObsType
from dream_env.spec import PICTURE, VECTOR, space_from_json, space_to_json
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated

ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")
"""Algorithms of Stable-Baselines3 whose policies are supported."""
_LEARNERS = ("optimizer_class", "optimizer_kwargs")
"""Arguments of a policy that are used for training only."""
POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")


@dataclass(frozen=True)
class SB3Config:
    """Config of a policy of Stable-Baselines3.

    Attributes:
        algorithm: One of `ALGORITHMS`.
        policy: One of `POLICIES`.
        observation_space: A space as returned by `dream_env.spec.space_to_json`, or a dict of such spaces by name.
        action_space: A space as returned by `dream_env.spec.space_to_json`.
        policy_kwargs: Further arguments of the policy that JSON can represent, such as `net_arch`.
        obs_type: Which observations it takes, see `dream_env.dream.DreamEnv`; "native" for those of the real
            environment itself.
        world_model: Name or folder of the world model that it was trained in, whose encoder it uses unless `obs_type`
            is "native".
        encoder_id: Fingerprint of that encoder, see `encoder_id`; None if unknown, or not used.
        first_action: Number of the world's first discrete action; Stable-Baselines3 counts from 0.
    """

    algorithm: str
    policy: str
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    obs_type: str = "embedding"
    world_model: str = "default"
    encoder_id: tuple[float, ...] | None = None
    first_action: int = 0

    def check_encoder(self, world_model: str) -> None:
        """Raises ValueError if a world model has another encoder than the one that the policy was trained with."""
        if self.encoder_id is not None:
            encoder_id.check(self.encoder_id, self.world_model, world_model)

    def __post_init__(self) -> None:
        """Checks the values that select code."""
        for name, accepted in (("algorithm", ALGORITHMS), ("policy", POLICIES)):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name}={getattr(self, name)!r}; accepted: {', '.join(accepted)}")
        if self.obs_type not in ("native", "embedding", "pixels"):
            raise ValueError(f"obs_type={self.obs_type!r}; accepted: native, embedding, pixels")

    @classmethod
    def of(cls, model: BaseAlgorithm, obs_type: str, world_model: str, first_action: int = 0) -> SB3Config:
        """Creates the config of the policy of an algorithm.

        Raises:
            ValueError: If the algorithm is not supported, or the policy has arguments that JSON cannot represent.
        """
        name = next((one.__name__ for one in type(model).__mro__ if one.__name__ in ALGORITHMS), "")
        kinds = {kind: name for name, kind in model.policy_aliases.items()}
        return cls(
            algorithm=name,
            policy=kinds.get(type(model.policy), type(model.policy).__name__),
            observation_space=_to_json(model.policy.observation_space),
            action_space=space_to_json(model.action_space),
            policy_kwargs=_plain({k: v for k, v in model.policy_kwargs.items() if k not in _LEARNERS}),
            obs_type=obs_type,
            world_model=world_model,
            encoder_id=None if obs_type == "native" else encoder_id.fingerprint(checkpoint.load(world_model)),
            first_action=first_action,
        )


class SB3Policy(nn.Module):
    """The policy of an algorithm of Stable-Baselines3, including its critics.

    Args:
        config: Algorithm, spaces and sizes.
    """

    kind = "sb3"
    config_class = SB3Config

    def __init__(self, config: SB3Config) -> None:
        super().__init__()
        self.config = config
        algorithm = getattr(stable_baselines3, config.algorithm)
        self.observation_space, self.action_space = _space(config.observation_space), _space(config.action_space)
        made: Any = algorithm.policy_aliases[config.policy]
        self.policy = made(self.observation_space, self.action_space, lambda _: 0.0, **config.policy_kwargs)

    @classmethod
    def of(cls, model: BaseAlgorithm, obs_type: str, world_model: str, first_action: int = 0) -> SB3Policy:
        """Creates a copy of the policy of an algorithm; see `SB3Config.of`."""
        policy = cls(SB3Config.of(model, obs_type, world_model, first_action))
        policy.policy.load_state_dict(model.policy.state_dict())
        return policy.eval()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        return inputs(self.observation_space)

    def reset(self) -> None:
        """Does nothing: the policy has no memory."""

    @insulated
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, ...)` for observations `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`."""
        chosen = act(self.policy, observation, deterministic)
        return chosen + self.config.first_action if self.config.first_action else chosen

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the weights; those shared by actor and critic are copied, as safetensors requires."""
        return {name: part.clone() for name, part in super().state_dict(*args, **kwargs).items()}


class ZipPolicy:
    """The policy of a .zip file that Stable-Baselines3 saved. It has no `config`, as the file names no world model.

    Args:
        policy: A policy of Stable-Baselines3.
    """

    kind = "zip"

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.observation_space = policy.observation_space

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        return inputs(self.observation_space)

    @property
    def obs_type(self) -> ObsType | None:
        """Type of the observations: "native" if it reads nothing that a world model adds to them.

        Otherwise "pixels" if it reads pictures, whatever their names; None for the other types.
        """
        if not {"embedding", "instruction"} & {*self.inputs}:
            return "native"
        return "pixels" if any(len(part.shape or ()) == 3 for part in self.observation_space.values()) else None

    def reset(self) -> None:
        """Does nothing: the policy has no memory."""

    @insulated
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`."""
        return act(self.policy, observation, deterministic)


def load_zip(path: Path) -> Any:
    """Loads the policy of a .zip file that Stable-Baselines3 saved; returns the VLA if the algorithm trained one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or loading such files is not allowed (`--trust`).
    """
    if not path.is_file():
        raise FileNotFoundError(f"policy={str(path)!r} is not there; accepted: a .zip of stable-baselines3")
    check_trust(path)
    try:
        data, parameters, _ = load_from_zip_file(path, device="cpu")
        assert data is not None
        kind, kwargs = data["policy_class"], dict(data["policy_kwargs"])
    except Exception as error:
        raise ValueError(f"{path} is not a model saved by stable-baselines3: {error}") from error
    if issubclass(kind, ActorCriticPolicy):
        kwargs["use_sde"] = data["use_sde"]
    policy = kind(data["observation_space"], data["action_space"], lambda _: 0.0, **kwargs)
    policy.load_state_dict(parameters["policy"])
    policy.set_training_mode(False)
    return policy.vla() if hasattr(policy, "vla") else ZipPolicy(policy)


def inputs(space: spaces.Space) -> tuple[str, ...]:
    """Returns the names of the parts of a space; a single picture or vector has its name in a `WorldSpec`."""
    if isinstance(space, spaces.Dict):
        return tuple(space.spaces)
    return (PICTURE if len(space.shape or ()) == 3 else VECTOR,)


@torch.no_grad()
def act(policy: Any, observation: Mapping[str, np.ndarray], deterministic: bool) -> np.ndarray:
    """Returns actions `(B, ...)` of a policy of Stable-Baselines3.

    Raises:
        ValueError: If a part of the observation is missing.
    """
    names = inputs(policy.observation_space)
    if missing := [name for name in names if name not in observation]:
        raise ValueError(f"observation lacks {missing}; this policy reads {names}")
    seen: Any = {name: observation[name] for name in names}
    bare = not isinstance(policy.observation_space, spaces.Dict)
    return policy.predict(seen[names[0]] if bare else seen, deterministic=deterministic)[0]


def _to_json(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Dict):
        return {name: space_to_json(part) for name, part in space.spaces.items()}
    return space_to_json(space)


def _space(values: Mapping[str, Any]) -> spaces.Space:
    if isinstance(values.get("type"), str):
        return space_from_json(values)
    return spaces.Dict({name: space_from_json(part) for name, part in values.items()})


def _plain(value: Any) -> Any:
    """Converts arguments to JSON values.

    Raises:
        ValueError: If JSON cannot represent an argument.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"policy_kwargs hold {value!r}; accepted: numbers, texts, lists and dicts")
