"""Replaces the tokens in observations by the object state, so that it is estimated once and not in every update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor

from dream_env.agents.nicol.vla import OBJECT_STATE_KEYS, VLA, VLAConfig, load, nearest_known, object_state
from dream_env.nicol.world_model.state_estimator import OBJECT_STATE
from dream_env.world_models.batching import chunked

Obs = dict[str, np.ndarray]


def reads_object_state_only(config: VLAConfig) -> bool:
    """Returns whether a VLA uses tokens only to estimate the object state, so that the object state is enough."""
    return config.reads and not config.queries


class ObjectStateEncoder:
    """Computes the first, frozen part of a VLA: the object state, and the nearest known sentence.

    Args:
        vla: The VLA whose state estimator and known sentences are used.
        space: Observation space.

    Raises:
        ValueError: If the VLA has a readout of the tokens, or the observations lack embedding or goal.
    """

    def __init__(self, vla: VLA, space: spaces.Space) -> None:
        if not reads_object_state_only(vla.config):
            raise ValueError(f"{vla.config} reads tokens directly; accepted: queries=0, reads=True")
        if not isinstance(space, spaces.Dict) or not set(OBJECT_STATE_KEYS) <= set(space.spaces):
            raise ValueError(f"observations are {space}; accepted: a Dict with {' and '.join(OBJECT_STATE_KEYS)}")
        assert vla.trunk.state_estimator is not None
        self.state_estimator, self.known = vla.trunk.state_estimator, vla.trunk.known
        kept = {key: part for key, part in space.items() if key not in OBJECT_STATE_KEYS}
        numbers = spaces.Box(-np.inf, np.inf, (len(OBJECT_STATE),), np.float32)
        new = dict.fromkeys(OBJECT_STATE_KEYS.values(), numbers)
        self.space = spaces.Dict({**new, **kept})

    def encode(self, obs: Mapping[str, Tensor], constant: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replaces embedding and goal by the object state.

        Args:
            obs: A batch of observations, with embeddings `(B, E)`.
            constant: The result of `constant` at the start of the episodes.
        """
        kept = {key: part for key, part in obs.items() if key not in OBJECT_STATE_KEYS}
        return kept | self._estimate(obs, "embedding") | dict(constant)

    def constant(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the parts that are constant during an episode: the goal's object state, and the instruction."""
        return self._estimate(obs, "goal") | {"instruction": nearest_known(obs["instruction"], self.known)}

    @torch.no_grad()
    def _estimate(self, obs: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
        return {
            OBJECT_STATE_KEYS[part]: chunked(
                lambda tokens: object_state(self.state_estimator, {part: tokens}, part), obs[part]
            )
        }


class ObjectStateVecEnv(VecEnvWrapper):
    """Replaces embedding and goal in observations by the object states that a VLA's frozen estimator computes.

    In every epoch, the actor, the cloned policy that it is kept close to, and the critic each process all observations.
    Each of them would estimate the object state from 64 tokens; this wrapper does it once.

    An agent that was trained with this wrapper must also be run with it:

        agent = make_model(arguments, env)  # dream_env.agents.train.learners
        load_algorithm_into(agent, "runs/ppo/checkpoint.safetensors")  # dream_env.agents.run.sb3_state
        evaluate_policy(agent, ObjectStateVecEnv(make_vec_env("dream_env:NicoLReal-v0")))

    Args:
        venv: Vector environment, dream or physics.
        clone: Saved VLA whose estimator is used, see `dream_env.agents.nicol.vla.load`.
        device: Device of the estimator.

    Raises:
        ValueError: As in `ObjectStateEncoder`.
    """

    def __init__(self, venv: VecEnv, clone: str = "state_grounded", device: str = "cpu") -> None:
        self.encoder = ObjectStateEncoder(load(clone, device), venv.observation_space)
        super().__init__(venv, self.encoder.space)
        self.device = device
        self._constant: Obs = {}

    def reset(self) -> VecEnvObs:
        """Resets all environments."""
        obs: Any = self.venv.reset()
        self._constant = self._constant_parts(obs)
        return self._encoded(obs, self._constant)

    def step_wait(self) -> VecEnvStepReturn:
        """Waits for a step; estimates the constant parts of environments that start a new episode."""
        obs: Any
        obs, rewards, dones, infos = self.venv.step_wait()
        if (ended := np.flatnonzero(dones)).size:
            last = {key: np.stack([infos[i]["terminal_observation"][key] for i in ended]) for key in obs}
            last = self._encoded(last, {key: part[ended] for key, part in self._constant.items()})
            for row, i in enumerate(ended):
                infos[i]["terminal_observation"] = {key: part[row] for key, part in last.items()}
            begun = self._constant_parts({key: part[ended] for key, part in obs.items()})
            # A learner may hold the old arrays, so they are copied.
            self._constant = {key: part.copy() for key, part in self._constant.items()}
            for key, part in begun.items():
                self._constant[key][ended] = part
        return self._encoded(obs, self._constant), rewards, dones, infos

    def _encoded(self, obs: Obs, constant: Obs) -> Obs:
        return _arrays(self.encoder.encode(self._tensors(obs), self._tensors(constant)))

    def _constant_parts(self, obs: Obs) -> Obs:
        return _arrays(self.encoder.constant(self._tensors(obs)))

    def _tensors(self, obs: Obs) -> dict[str, Tensor]:
        return {key: torch.as_tensor(part, device=self.device) for key, part in obs.items()}


def _arrays(obs: Mapping[str, Tensor]) -> Obs:
    return {key: part.cpu().numpy() for key, part in obs.items()}
