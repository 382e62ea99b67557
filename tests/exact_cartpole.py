"""CartPole's own equations as a world model, with a little noise: what evolves in its dreams must work in the real one.

Importing this module makes the kind known; `save(folder)` writes it as a checkpoint with initial states.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from dream_env.initial_states import InitialStates
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import Prediction

SPEC = WorldSpec.of_env(gym.make("CartPole-v1"))


@dataclass(frozen=True)
class ExactConfig:
    """What fixes it: the size of the noise on velocities."""

    noise: float = 0.01


class ExactCartPole(nn.Module):
    """Moves a state of four numbers as Gymnasium does."""

    kind = "exact_cartpole"
    config_class = ExactConfig
    noise_dim, embedding_dim, observed = 1, 4, ()

    def __init__(self, config=None, spec=SPEC):
        super().__init__()
        self.config, self.spec = config or ExactConfig(), spec
        self.register_buffer("unit", torch.ones(1))

    @property
    def device(self):
        """Device of the weights."""
        return self.unit.device

    def encode(self, observation, previous=None):
        """Takes the numbers as they are."""
        return {"code": observation["state"].float()}

    def restore(self, observation):
        """Takes the embedding as it is."""
        return {"code": observation["embedding"]}

    def step(self, state, action, noise=None, temperature=1.0):
        """Euler's method, as `gymnasium.envs.classic_control.cartpole`."""
        x, v, angle, turn = state["code"].unbind(-1)
        force = 20.0 * action.float() - 10
        push = (force + 0.05 * turn.square() * angle.sin()) / 1.1
        bend = (9.8 * angle.sin() - angle.cos() * push) / (0.5 * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
        speed = push - 0.05 * bend * angle.cos() / 1.1
        jolt = 0 if noise is None else temperature * self.config.noise * (2 * noise[:, 0] - 1)
        after = torch.stack([x + 0.02 * v, v + 0.02 * speed, angle + 0.02 * turn, turn + 0.02 * bend + jolt], -1)
        ended = (after[:, 0].abs() > 2.4) | (after[:, 2].abs() > 0.2095)
        return {"code": after}, Prediction(reward=torch.ones_like(x), terminated=ended.float())

    def embedding(self, state):
        """Is the state."""
        return state["code"]

    def decode(self, state):
        """Is the state."""
        return {"state": state["code"]}


def save(folder):
    """Writes it with initial states, and returns the folder as a str."""
    checkpoint.save(ExactCartPole(), folder, "CartPole for tests.")
    states = np.random.default_rng(0).uniform(-0.05, 0.05, (64, 4)).astype(np.float32)
    zeros, none = np.zeros(64, np.int64), np.full(64, "")
    InitialStates({"state": states}, {}, zeros, none, none, zeros).save(Path(folder) / "initial_states.npz")
    return str(folder)


checkpoint.KINDS["exact_cartpole"] = "exact_cartpole:ExactCartPole"
