"""The regressor: actions from picture, goal picture and steps left."""

import numpy as np
import pytest
import recorded
import torch

from dream_env.agents.nicol import regressor, rollouts
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.agents.policies import registry
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.world_models import checkpoint


def test_regressor_learns_from_goal_and_time(tmp_path):
    model, rng = checkpoint.load("state_grounded"), np.random.default_rng(0)
    episodes = recorded.recorded(12)
    demos = encode_episodes(model, episodes)
    wanted = np.zeros((12, EPISODE_STEPS, 4), np.float32)
    wanted[..., 0] = np.linspace(0.8, -0.8, EPISODE_STEPS)  # told by the steps that are left alone
    goal = torch.from_numpy(rng.choice([-1.0, 1.0], 12).astype(np.float32))
    demos = demos._replace(
        tokens=torch.zeros_like(demos.tokens), goal=torch.ones_like(demos.goal) * goal[:, None, None]
    )
    wanted[..., 1] = 0.8 * goal[:, None].numpy()
    config = regressor.RegressorConfig(model.embedding_dim, world_model="state_grounded")
    fitted = regressor.regress(demos, torch.from_numpy(wanted), config, updates=250)
    checkpoint.save(fitted, tmp_path, "A regressor for tests.")
    act = rollouts.make_actor(str(tmp_path), [0, 1])
    obs = {
        "embedding": demos.tokens[:2, 0].flatten(1).float().numpy(),
        "goal": np.stack([np.full(model.embedding_dim, sign, np.float32) for sign in (-1, 1)]),
        "proprio": demos.proprio[:2, 0].numpy(),
    }
    actions = np.stack([act(obs) for _ in range(EPISODE_STEPS)])
    assert np.abs(actions[:, 0, 0] - wanted[0, :, 0]).mean() < 0.15, "it counts its own steps"
    assert (actions[:, 0, 1] < -0.5).all() and (actions[:, 1, 1] > 0.5).all()
    assert np.array_equal(rollouts.make_actor(str(tmp_path), [0, 1])(obs), actions[0])
    assert rollouts.env_kwargs(str(tmp_path), "default")["goal_env"] is False
    elsewhere = regressor.Regressor(regressor.RegressorConfig(world_model="../model"))
    (tmp_path / "model").mkdir()
    checkpoint.save(elsewhere, tmp_path / "other", "A regressor that sees by another encoder.")
    assert rollouts.env_kwargs(str(tmp_path / "other"), "default")["world_model"] == str((tmp_path / "model").resolve())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is damaged"):
        registry.load(tmp_path)
