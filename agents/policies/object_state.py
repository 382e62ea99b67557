"""What a VLA reads of the tokens, in their place: for learners that look at the same observations many times over."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from dream_env.agents.policies import vla as policy
from dream_env.agents.policies.vla import READINGS, VLAConfig
from dream_env.nicol.world_model.state_estimator import OBJECT_STATE
from dream_env.world_models.batching import chunked

Obs = dict[str, np.ndarray]


def reads_only(config: VLAConfig) -> bool:
    """Whether a VLA sees no more than what it reads, so that it learns from readings as well as from tokens."""
    return config.reads and not config.queries


class ObjectStateVecEnv(VecEnvWrapper):
    """Replaces embedding and goal by what a VLA's reader tells of them, which no learning changes.

    An episode's observations are looked at by the actor, by the clone that it stays near and by the critic, in every
    epoch anew. Each of them would read where hand and cubes are off 64 tokens; here that is read once.

    What learned behind it is played behind it:

        agent = PPO.load("runs/ppo/checkpoint.zip")
        evaluate_policy(agent, ObjectStateVecEnv(make_vec_env("dream_env:NicoLReal-v0")))

    Args:
        venv: Env of either world.
        clone: Saved VLA whose reader it is, see `dream_env.agents.policies.vla.load`.
        device: Where to read.

    Raises:
        ValueError: If that VLA looks at tokens by itself, or observations hold none.
    """

    def __init__(self, venv: VecEnv, clone: str = "default", device: str = "cpu") -> None:
        vla = policy.load(clone, device)
        space = venv.observation_space
        if not reads_only(vla.config):
            raise ValueError(f"clone={clone!r} looks at tokens by itself; accepted: one with queries=0 and reads=True")
        if not isinstance(space, spaces.Dict) or not set(READINGS) <= set(space.spaces):
            raise ValueError(f"venv has observations {space}; accepted: a Dict with {' and '.join(READINGS)}")
        kept = {key: part for key, part in space.items() if key not in READINGS}
        told = {name: spaces.Box(-np.inf, np.inf, (len(OBJECT_STATE),), np.float32) for name in READINGS.values()}
        super().__init__(venv, spaces.Dict({**told, **kept}))
        assert vla.trunk.state_estimator is not None
        self.state_estimator, self.known = vla.trunk.state_estimator, vla.trunk.known
        self.device = device
        self._lasting: Obs = {}

    def reset(self) -> VecEnvObs:
        """Starts every episode anew."""
        obs: Any = self.venv.reset()
        self._lasting = self._once(obs)
        return self._told(obs, self._lasting)

    def step_wait(self) -> VecEnvStepReturn:
        """Ends a step; what lasts for an episode is read where one begins."""
        obs: Any
        obs, rewards, dones, infos = self.venv.step_wait()
        if (ended := np.flatnonzero(dones)).size:
            last = {key: np.stack([infos[i]["terminal_observation"][key] for i in ended]) for key in obs}
            last = self._told(last, {key: part[ended] for key, part in self._lasting.items()})
            for row, i in enumerate(ended):
                infos[i]["terminal_observation"] = {key: part[row] for key, part in last.items()}
            begun = self._once({key: part[ended] for key, part in obs.items()})
            self._lasting = {key: part.copy() for key, part in self._lasting.items()}  # a learner may hold the old one
            for key, part in begun.items():
                self._lasting[key][ended] = part
        return self._told(obs, self._lasting), rewards, dones, infos

    def _told(self, obs: Obs, lasting: Obs) -> Obs:
        kept = {key: part for key, part in obs.items() if key not in READINGS}
        return kept | self._read(obs, "embedding") | lasting

    def _once(self, obs: Obs) -> Obs:
        """Returns what stays the same during an episode."""
        words = torch.as_tensor(obs["instruction"], device=self.device)
        return self._read(obs, "goal") | {"instruction": policy.recall(words, self.known).cpu().numpy()}

    @torch.no_grad()
    def _read(self, obs: Obs, part: str) -> Obs:
        tokens = torch.as_tensor(obs[part], device=self.device)
        told = chunked(lambda some: policy.read(self.state_estimator, {part: some}, part), tokens)
        return {READINGS[part]: told.cpu().numpy()}
