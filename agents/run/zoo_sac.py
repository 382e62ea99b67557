"""Hyperparameters of SAC for rl_zoo3: `--conf-file dream_env.agents.run.zoo_sac`."""

from __future__ import annotations

from typing import Any

from rl_zoo3 import ALGOS

from dream_env.agents.policies.sac import CloneSAC
from dream_env.agents.run.zoo_ppo import BATCHED, DREAM, PREPARED
from dream_env.agents.train.arguments import usual_terms
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.rewards import DEFAULT_REWARD

ALGOS["sac"] = CloneSAC

hyperparams: dict[str, dict[str, Any]] = {
    "NicoLDream-v0": {
        **DREAM,
        "vec_env_wrapper": [BATCHED, PREPARED],
        "gamma": usual_terms(DEFAULT_REWARD, "sac", EPISODE_STEPS).discount,
        "policy": "dream_env.agents.policies.actors.VLASACPolicy",
        "policy_kwargs": {"clone": "state_grounded"},
        "n_timesteps": 100_000,
        "n_envs": 64,
        "buffer_size": 50_000,
        "learning_rate": 3e-4,
        "learning_starts": 0,
        "batch_size": 256,
        "gradient_steps": 8,
    }
}
