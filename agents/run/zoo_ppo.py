"""Hyperparameters of PPO for rl_zoo3: `--conf-file dream_env.agents.run.zoo_ppo`.

    python -m rl_zoo3.train --algo ppo --env NicoLDream-v0 --gym-packages dream_env
        --conf-file dream_env.agents.run.zoo_ppo

Its `ppo` is `dream_env.agents.policies.ppo.ClonePPO` then. The zoo keeps one configuration per algorithm: SAC's is
`dream_env.agents.run.zoo_sac`.
"""

from __future__ import annotations

from typing import Any

from rl_zoo3 import ALGOS

from dream_env.adapters.sb3 import OUTCOME_DISCOUNT
from dream_env.agents.policies.ppo import ClonePPO

ALGOS["ppo"] = ClonePPO  # which holds the divergence to the clone in its loss

DREAM: dict[str, Any] = {
    # One batch instead of `n_envs` single dreams, paid for success, once, at the end of an episode; prepared once, too.
    "vec_env_wrapper": [
        "dream_env.adapters.sb3.BatchedDream",
        "dream_env.adapters.sb3.OutcomeReward",
        {"dream_env.agents.nicol.object_state.ObjectStateVecEnv": {"clone": "default"}},
    ],
    "monitor_kwargs": {"info_keywords": ("is_success",)},
    "env_kwargs": {"task": "all", "starts": "any", "reward": "success"},
    "gamma": OUTCOME_DISCOUNT,
    "kl_coef": 0.02,
}
"""What both algorithms take."""

hyperparams: dict[str, dict[str, Any]] = {
    "NicoLDream-v0": {
        **DREAM,
        "policy": "dream_env.agents.policies.actors.VLAPolicy",
        "policy_kwargs": {"clone": "default"},
        "n_timesteps": 3_000_000,
        "n_envs": 256,
        "n_steps": 24,
        "batch_size": 512,
        "n_epochs": 2,
        "gae_lambda": 0.95,
        "learning_rate": "lin_3e-4",  # falls to zero
        "target_kl": 0.03,
    }
}
