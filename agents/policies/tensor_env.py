"""Dreams for PPO whose data stay on the device as tensors, from the world model to the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
from torch import Tensor

from dream_env.agents.nicol.object_state import ObjectStateEncoder
from dream_env.rewards import EVERY_STEP, RewardWeights
from dream_env.tensors import TensorDreams

Obs = dict[str, Tensor]


class Step(NamedTuple):
    """Result of one control step of B dreams.

    Attributes:
        obs: Observations; for dreams that have ended, the first ones of their next episode.
        reward: `(B,)` float32.
        done: Which dreams have ended, `(B,)` bool.
        cut: Final observations of truncated dreams and their rows, for bootstrapping; None if no dream was truncated,
            or if `RewardWeights.bootstrap_at_timeout` is False.
    """

    obs: Obs
    reward: Tensor
    done: Tensor
    cut: tuple[Obs, Tensor] | None


class TensorVecEnv(VecEnv):
    """`TensorDreams` as an environment of a stable-baselines3 learner that takes tensors.

    Args:
        dreams: The dreams.
        encoder: Encoder of observations for a VLA; None leaves them as they are.
        reward_weights: Weights of the rewards of an episode, see `dream_env.rewards.RewardWeights`.
    """

    def __init__(
        self,
        dreams: TensorDreams,
        encoder: ObjectStateEncoder | None = None,
        reward_weights: RewardWeights = EVERY_STEP,
    ) -> None:
        self.dreams, self.encoder, self.reward_weights = dreams, encoder, reward_weights
        space = encoder.space if encoder else dreams.single_observation_space
        super().__init__(dreams.num_envs, space, dreams.single_action_space)
        self.obs: Obs = {}
        self.ended: list[tuple[Tensor, ...]] = []
        """Return and length of the episodes that have ended since `take_episodes`, and success if it is predicted."""

    def start(self) -> Obs:
        """Resets all dreams, and returns their observations as tensors."""
        obs, _ = self.dreams.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._returns = torch.zeros(self.num_envs, device=self.dreams.device)
        self._lengths = torch.zeros_like(self._returns)
        self.ended.clear()
        self._constant = self.encoder.constant(obs) if self.encoder else {}
        self.obs = self._encoded(obs, self._constant)
        return self.obs

    def move(self, action: Tensor) -> Step:
        """Steps all dreams with actions `(B, A)`; dreams that have ended are reset."""
        obs, reward, terminated, truncated, info = self.dreams.step(action)
        done, cut = terminated | truncated, None
        self._returns += reward  # as the dreams pay it, whatever weights a learner gives to steps
        if self.reward_weights != EVERY_STEP:
            reward = reward * torch.where(done, self.reward_weights.last_step, self.reward_weights.other_steps)
        self._lengths += 1
        if len(rows := done.nonzero()[:, 0]):
            won = [info[name][rows] for name in ("is_success",) if name in info]
            self.ended.append((self._returns[rows], self._lengths[rows], *won))
            self._returns[rows], self._lengths[rows] = 0, 0
            if self.reward_weights.bootstrap_at_timeout and len(late := truncated.nonzero()[:, 0]):
                last = {name: part[late] for name, part in info["final_obs"].items()}
                cut = self._encoded(last, {name: part[late] for name, part in self._constant.items()}), late
            if self.encoder:
                begun = self.encoder.constant({name: part[rows] for name, part in obs.items()})
                self._constant = {name: part.index_copy(0, rows, begun[name]) for name, part in self._constant.items()}
        self.obs = self._encoded(obs, self._constant)
        return Step(self.obs, reward, done, cut)

    def take_episodes(self) -> list[dict[str, Any]]:
        """Returns the info of the episodes that have ended since the last call, in the form of SB3's `Monitor`."""
        columns = [torch.cat(column).tolist() for column in zip(*self.ended, strict=True)]
        self.ended.clear()
        rows = zip(*columns, strict=True)
        return [
            {"episode": {"r": r, "l": int(n), "t": 0.0}} | ({"is_success": bool(won[0])} if won else {})
            for r, n, *won in rows
        ]

    def _encoded(self, obs: Obs, constant: Obs) -> Obs:
        return self.encoder.encode(obs, constant) if self.encoder else obs

    # --- interface of stable-baselines3

    def reset(self) -> VecEnvObs:
        """Resets all dreams, and returns their observations as arrays."""
        return {name: part.cpu().numpy() for name, part in self.start().items()}

    def step_async(self, actions: np.ndarray) -> None:
        """Not supported: use `move`, which takes tensors."""
        raise TypeError("TensorVecEnv steps by `move`; dream_env.adapters.sb3.DreamVecEnv takes arrays")

    def step_wait(self) -> VecEnvStepReturn:
        """Not supported, see `step_async`."""
        raise TypeError("TensorVecEnv steps by `move`")

    def close(self) -> None:
        """Does nothing: the dreams are freed with their last reference."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute that all dreams share, once per index."""
        return [getattr(self.dreams, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute that all dreams share."""
        setattr(self.dreams, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the batch of dreams once, and returns its result once per index."""
        return [getattr(self.dreams, method_name)(*args, **kwargs)] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> Sequence[bool]:  # type: ignore[override]
        """Returns False: no wrapper reports episodes, `take_episodes` does."""
        return [False for _ in self._get_indices(indices)]
