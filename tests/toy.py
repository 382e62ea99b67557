"""A world model small enough to check by hand: fixed random projections, ready in milliseconds.

`save(folder)` writes it as a checkpoint with initial states, so tests can name it where users name a
folder. Importing this module makes the kind known, which also serves `rl_zoo3 --gym-packages toy`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dream_env.initial_states import InitialStates
from dream_env.nicol import constants
from dream_env.nicol.spec import SPEC
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import Prediction

GRID, PATCH = 8, constants.IMAGE_SIZE // 8
TASKS = ("lift", "push", "reach")
COLORS = {"red": (220, 20, 20), "green": (10, 150, 40), "blue": (20, 60, 220)}


@dataclass(frozen=True)
class ToyConfig:
    """What fixes a toy."""

    channels: int = 16
    seed: int = 0
    success_threshold: float = 0.5


class ToyWorldModel(nn.Module):
    """Tokens are random projections of patches; an action shifts them all, more where the token's weight is larger.

    Only element-wise sums touch the batch axis apart from patch projections, so rows are
    independent bit for bit.
    """

    kind = "toy"
    config_class = ToyConfig
    noise_dim = 1
    observed = ("proprio",)

    def __init__(self, config=None, spec=SPEC):
        super().__init__()
        self.spec = spec
        self.config = config = config or ToyConfig()
        self.embedding_dim = GRID * GRID * config.channels
        rng = torch.Generator().manual_seed(config.seed)
        patch = 3 * PATCH**2
        self.patch = nn.Parameter(torch.randn(patch, config.channels, generator=rng) / patch**0.5)
        self.shift = nn.Parameter(torch.randn(4, GRID * GRID, config.channels, generator=rng) / 5)
        self.register_buffer("step_size", torch.from_numpy(constants.STEP), persistent=False)

    @property
    def device(self):
        """Device of the weights."""
        return self.patch.device

    def encode(self, observation, previous=None):
        """Projects every 8 x 8 patch of the centered picture."""
        pixels = (observation["pixels"].float() - 127.5) / 64
        patches = pixels.reshape(-1, GRID, PATCH, GRID, PATCH, 3).transpose(2, 3).flatten(3).flatten(1, 2)
        return self.state_of(patches @ self.patch, observation.get("proprio"), observation.get("instruction"))

    def state_of(self, tokens, proprio=None, instruction=None):
        """Makes a state of its parts."""
        state = {"tokens": tokens, "proprio": tokens.new_zeros(len(tokens), 4) if proprio is None else proprio}
        return state if instruction is None else state | {"instruction": instruction}

    def step(self, state, action, noise=None, temperature=1.0):
        """Decays tokens a little and shifts them by the action and the set-point."""
        drive = action + 0.1 * state["proprio"]
        shift = (drive[:, :, None, None] * self.shift).sum(1)
        if noise is not None:
            shift = shift * (1 + temperature * (noise[:, :, None] - 0.5))
        doubt = action.abs().sum(-1) * state["tokens"].square().mean((1, 2))
        proprio = constants.integrate(state["proprio"], action, self.step_size)
        state = {**state, "tokens": 0.98 * state["tokens"] + shift, "proprio": proprio}
        success = self.success(state) if "instruction" in state else None
        return state, Prediction(success=success, disagreement=doubt)

    def embedding(self, state):
        """Flattens the tokens."""
        return state["tokens"].flatten(1)

    def metric(self, state):
        """Is the embedding itself."""
        return self.embedding(state)

    def decode(self, state):
        """Inverts the projection, roughly, by its transpose."""
        pixels = (state["tokens"] @ self.patch.T).reshape(-1, GRID, GRID, PATCH, PATCH, 3)
        image = pixels.transpose(2, 3).reshape(-1, constants.IMAGE_SIZE, constants.IMAGE_SIZE, 3)
        return {"pixels": (image * 64 + 127.5).clamp(0, 255).byte(), "proprio": state["proprio"]}

    def success(self, state):
        """Probable where tokens are small; the instruction tips the balance."""
        return torch.sigmoid(2 - 4 * state["tokens"].square().mean((1, 2)) + state["instruction"].sum(-1) / 8)


def initial_states(rows=24, seed=0):
    """Makes starts with a random cube each, goals with the cube elsewhere; every second row is a mid-episode state."""
    rng = np.random.default_rng(seed)
    names = list(COLORS)
    color = rng.integers(len(names), size=rows)
    task = np.array([TASKS[(i // 2) % len(TASKS)] for i in range(rows)])

    def pictures(count, colors):
        images = rng.integers(180, 200, (count, 64, 64, 3)).astype(np.uint8)
        for image, c in zip(images, colors, strict=True):
            x, y = rng.integers(0, 54, 2)
            image[x : x + 10, y : y + 10] = COLORS[names[c]]
        return images

    return InitialStates(
        observation={
            "pixels": pictures(rows, color),
            "proprio": rng.uniform(-1, 1, (rows, 4)).astype(np.float32),
        },
        goal_observation={"pixels": pictures(rows // 2, color[::2])},
        goal=np.arange(rows) // 2,
        task=task,
        instruction=np.array([f"{t} the {names[c]} cube" for t, c in zip(task, color, strict=True)]),
        step=np.where(np.arange(rows) % 2, 7, 0),
    )


def save(folder, model=None):
    """Writes a toy and its initial states as a checkpoint folder and returns its path as a str."""
    checkpoint.save(model or ToyWorldModel(), folder, "A toy for tests.")
    initial_states().save(Path(folder) / "initial_states.npz")
    return str(folder)


checkpoint.KINDS["toy"] = "toy:ToyWorldModel"
