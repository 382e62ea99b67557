"""A simple baseline: behavior cloning from the image, the goal image and the remaining steps to the action.

It uses neither language nor a world model's predictions nor rewards: the goal image defines the task (goal-conditioned
behavior cloning with a horizon: GCSL, Ghosh et al. 2021, section 3). A policy that is trained with a world model should
be better than this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.agents.nicol.vla import mlp
from dream_env.nicol.constants import ACTION_NAMES, EPISODE_STEPS, PROPRIO_NAMES
from dream_env.nicol.spec import SPEC
from dream_env.observations import observation_space
from dream_env.progress import progress_bar
from dream_env.world_models.precision import insulated

INPUTS = ("embedding", "goal", "proprio")
"""Parts of the observation that the regressor reads."""


@dataclass(frozen=True)
class RegressorConfig:
    """Sizes of the regressor.

    Attributes:
        embedding_dim: Length of an embedding.
        hidden: Width of the two hidden layers.
        world_model: Name or folder of the world model whose encoder makes the embeddings.
    """

    embedding_dim: int = 1024
    hidden: int = 256
    world_model: str = "state_grounded"


class Regressor(nn.Module):
    """An MLP from the embedding, the goal, the set-point and the number of remaining steps to the next action.

    Args:
        config: Sizes; None for the defaults.
    """

    kind = "regressor"
    config_class = RegressorConfig
    inputs = INPUTS

    def __init__(self, config: RegressorConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegressorConfig()
        space: spaces.Dict = observation_space(SPEC, self.config.embedding_dim, ("proprio",))  # type: ignore[assignment]
        self.observation_space = spaces.Dict({name: space[name] for name in INPUTS})
        hidden = self.config.hidden
        self.seen = mlp(2 * self.config.embedding_dim + len(PROPRIO_NAMES), hidden)
        # Next to two embeddings, the time would be one of many inputs and learned last, so it enters a later layer.
        self.layers = mlp(hidden + EPISODE_STEPS, hidden)
        self.action = nn.Linear(hidden, len(ACTION_NAMES))
        self.reset()

    def reset(self) -> None:
        """Resets the counter of the remaining steps."""
        self._memory: Any = None

    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Chooses actions `(B, 4)` for observations `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`."""
        action, self._memory = self.predict(observation, self._memory)
        return action

    def forward(self, obs: Mapping[str, Tensor], left: Tensor) -> Tensor:
        """Maps a batch of observations and the remaining steps `(B,)` int64, 1 to 24, to actions `(B, 4)`."""
        seen = self.seen(torch.cat([obs[name] for name in INPUTS], dim=-1))
        return torch.tanh(self.action(self.layers(torch.cat([seen, one_hot(left - 1, EPISODE_STEPS)], dim=-1))))

    @insulated
    @torch.no_grad()
    def predict(
        self,
        observation: Mapping[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Chooses actions, with the signature of stable-baselines3's `predict`.

        Args:
            observation: A batch of observations of the dream or of physics.
            state: The state returned by the previous call: the steps taken, `(B,)`; None at the start of episodes.
            episode_start: Which rows start a new episode, `(B,)` bool.
            deterministic: Ignored; the policy is always deterministic.

        Returns:
            Actions `(B, 4)` in [-1, 1], and the next state.
        """
        obs = {name: torch.as_tensor(np.asarray(observation[name], np.float32)) for name in INPUTS}
        taken = np.zeros(len(obs["proprio"]), np.int64) if state is None else state[0]
        if episode_start is not None:
            taken = np.where(episode_start, 0, taken)
        left = torch.from_numpy((EPISODE_STEPS - taken).clip(1))
        return self(obs, left).numpy(), (taken + 1,)


def regress(
    demos: EncodedDataset,
    labels: Tensor,
    config: RegressorConfig,
    updates: int = 3000,
    rate: float = 1e-3,
    token_noise: float = 0.2,
    held_out: float = 0.1,
    seed: int = 0,
) -> Regressor:
    """Trains a regressor on demonstrated actions and returns the weights with the smallest held-out error.

    Args:
        demos: Encoded demonstrations, N episodes of T steps.
        labels: The expert's actions, `(N, T, 4)`.
        config: Sizes.
        updates: Number of updates of 256 frames.
        rate: Initial learning rate of AdamW, with cosine decay to 0.
        token_noise: Standard deviation of the noise on both embeddings, as in `dream_env.agents.clone`.
        held_out: Fraction of the demonstrations used for validation.
        seed: Seed of weights, batches and split.
    """
    torch.manual_seed(seed)
    episodes, steps = labels.shape[:2]
    obs = {
        "embedding": demos.tokens[:, :steps].flatten(2),
        "goal": demos.goal.flatten(1)[:, None].expand(-1, steps, -1),
        "proprio": demos.proprio[:, :steps],
    }
    left = (EPISODE_STEPS - torch.arange(steps)).expand(episodes, -1)
    order = torch.randperm(episodes)
    aside = max(1, round(held_out * episodes))

    def batch(n: Tensor, t: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return {name: part[n, t].float() for name, part in obs.items()}, left[n, t], labels[n, t]

    def error() -> float:
        inputs, rest, wanted = batch(order[:aside].repeat_interleave(steps), torch.arange(steps).repeat(aside))
        with torch.no_grad():
            return ((model(inputs, rest) - wanted) ** 2).mean().item()

    model = Regressor(config)
    best, least = model.state_dict(), float("inf")
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for update in progress_bar(range(updates), desc="regressor", unit="update"):
        n = order[aside:][torch.randint(episodes - aside, (256,))]
        inputs, rest, wanted = batch(n, torch.randint(steps, (256,)))
        for name in ("embedding", "goal"):
            inputs[name] += token_noise * torch.randn_like(inputs[name])
        loss = ((model(inputs, rest) - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (update + 1) % 250 == 0 or update + 1 == updates:
            if (now := error()) < least:
                least, best = now, {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(best)
    return model.eval()
