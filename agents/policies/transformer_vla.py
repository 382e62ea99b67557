"""A VLA for any robot, which attends to a world model's embedding and to the words of the instruction.

A few latents summarize the observation (`dream_env.agents.policies.latents`), and an action head maps them to a chunk
of actions (Zhao et al. 2023, "Learning fine-grained bimanual manipulation", section 4). Nothing here is specific to one
robot, and the policy has no inputs beyond the outputs of the world model's encoder, the instruction and the goal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.agents.policies.action_heads import make_head
from dream_env.agents.policies.latents import Critic, TransformerVLAConfig, Trunk
from dream_env.language import embedder, word_rows
from dream_env.observations import to_tensors
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated


class TransformerVLA(nn.Module):
    """The policy, see the module; implements `dream_env.agents.policies.protocol.Policy` and `Practicable`.

    Args:
        config: Its observations and its sizes.
    """

    kind = "transformer"
    config_class = TransformerVLAConfig

    def __init__(self, config: TransformerVLAConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config)
        numbers = config.chunk * len(config.action_low)
        self.head = make_head(config.head, config.hidden, numbers, config.std, config.modes)
        low, high = (torch.tensor(bound, dtype=torch.float32) for bound in (config.action_low, config.action_high))
        self.register_buffer("center", (low + high) / 2, persistent=False)
        self.register_buffer("span", (high - low) / 2, persistent=False)
        self.reset()

    center: Tensor
    span: Tensor

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        language = {"words": ("words",), "sentence": ("instruction",), "none": ()}[self.config.language]
        return ("embedding", *self.config.vectors, *language, *(["goal"] if self.config.goal else []))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.center.device

    def _own(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the parts of observations that the network reads when acting."""
        return {name: obs[name] for name in self.inputs}

    def _units(self, chunks: Tensor) -> Tensor:
        """Converts chunks `(..., D)` in [-1, 1] to actions `(..., chunk, A)` in the units of the action space."""
        return self.center + self.span * chunks.unflatten(-1, (self.config.chunk, -1))

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to the first actions `(B, A)` of the most likely chunks."""
        return self._units(self.head.likeliest(self.trunk(self._own(obs))))[:, 0]

    def loss(
        self, obs: Mapping[str, Tensor], chunk: Tensor, known: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns the imitation loss `(B,)`.

        Unlike when acting, the network reads every goal in the observations if `config.compares`.

        Args:
            obs: Observations.
            chunk: Recorded chunks of actions `(B, chunk, A)`.
            known: Which steps of the chunks were recorded, `(B, chunk)`.
            generator: Source of random numbers of a head that needs some; None uses torch's global generator.
        """
        target = ((chunk - self.center) / self.span).clamp(-1, 1).flatten(1)
        steps = known.to(target.dtype)[..., None].expand_as(chunk).flatten(1)
        return self.head.loss(self.trunk(obs), target, steps, generator)

    # --- reinforcement learning, see `dream_env.agents.policies.protocol.Practicable`

    def distribution(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns mean `(B, A)` and standard deviation `(A,)` of a Gaussian over the first action."""
        return self(obs), self.config.std * self.span

    def critic(self, space: spaces.Dict) -> nn.Module:
        """Creates a critic for observations of a space, whose trunk starts with the policy's weights."""
        goal = "goal" in space.spaces
        critic = Critic(replace(self.config, goal=goal, compares=goal or self.config.compares))
        known, own = self.trunk.state_dict(), critic.trunk.state_dict()
        critic.trunk.load_state_dict(own | {n: part for n, part in known.items() if part.shape == own[n].shape})
        return critic

    # --- acting

    @property
    def noise_numbers(self) -> int:
        """Number of standard normal numbers that determine a proposal."""
        return self.config.chunk * len(self.config.action_low)

    @property
    def has_modes(self) -> bool:
        """Whether proposals can be different modes, and not only noise around one chunk."""
        return self.config.head != "gaussian"

    def reset(self) -> None:
        """Discards the rest of the current chunks."""
        self._left: list[np.ndarray] = []

    def _tensors(self, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        if missing := [name for name in self.inputs if name not in observation]:
            raise ValueError(f"observation lacks {missing}; a policy of this kind reads {self.inputs}")
        lengths = {"embedding": self.config.tokens * self.config.channels, **self.config.vectors}
        arrays = {name: np.asarray(observation[name], np.float32) for name in self.inputs}
        for name, length in lengths.items():
            if arrays[name].ndim != 2 or arrays[name].shape[1] != length:
                raise ValueError(f"observation[{name!r}] has shape {arrays[name].shape}; accepted: (B, {length})")
        return {name: torch.from_numpy(array.copy()).to(self.device) for name, array in arrays.items()}

    @insulated
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, A)`, see `dream_env.agents.policies.protocol.Policy`.

        Samples with torch's global generator.
        """
        if not self._left or len(self._left[0]) != len(observation["embedding"]):
            if deterministic:
                chunk = self.propose(observation, 1)[:, 0]
            else:
                chunk = self.propose(observation, 2)[:, 1] if self.config.head != "k" else self._drawn(observation)
            self._left = list(np.swapaxes(chunk, 0, 1)[: self.config.execute])
        return self._left.pop(0)

    @torch.no_grad()
    def _drawn(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Samples chunks `(B, chunk, A)` from a mixture, according to its weights."""
        features = self.trunk(self._own(self._tensors(observation)))
        several = self.head.draw(features, 2 * self.config.modes)[:, self.config.modes :]
        weights = self.head.logit(features).sort(1, descending=True).values.softmax(1)  # type: ignore[operator]
        rows = torch.arange(len(several), device=several.device)
        return self._units(several[rows, torch.multinomial(weights, 1)[:, 0]]).cpu().numpy()

    @insulated
    @torch.no_grad()
    def propose(self, observation: Mapping[str, np.ndarray], count: int, noise: Tensor | None = None) -> np.ndarray:
        """Proposes several chunks, for planning and foresight.

        Args:
            observation: Arrays `(B, ...)` by name.
            count: Number of proposals K.
            noise: Standard normal numbers `(B, K, noise_numbers)` that determine the proposals; None uses torch's
                global generator.

        Returns:
            Chunks `(B, K, chunk, A)` in units of actions; the first of each row is the most likely one.
        """
        drawn = None if noise is None else noise.to(self.device)
        return (
            self._units(self.head.draw(self.trunk(self._own(self._tensors(observation))), count, drawn)).cpu().numpy()
        )

    @insulated
    @torch.no_grad()
    def act_on(self, seen: Mapping[str, Any], sentence: str = "", goal: Mapping[str, Any] | None = None) -> np.ndarray:
        """Returns an action `(A,)` for the current readings of a robot's cameras and sensors.

        A world model with memory gets this observation only; use `dream_env.wrappers.WorldModelWrapper` to keep the
        memory.

        Args:
            seen: The parts that the world model's spec names: pictures `(H, W, 3)` uint8, vectors `(n,)`.
            sentence: The instruction.
            goal: Observation of the goal, as `seen`; its vectors may be missing.

        Raises:
            ValueError: If the world model now has another encoder than the one that the policy was trained with.
        """
        self.config.check_encoder(self.config.world_model)
        model = checkpoint.load(self.config.world_model, str(self.device))
        words = {"instruction": embedder(model)(sentence)} if model.spec.instructions else {}
        state = model.encode(to_tensors({**seen, **words}, self.device))
        obs = {"embedding": model.embedding(state), **{name: state[name] for name in self.config.vectors}}
        if goal is not None:
            obs["goal"] = model.embedding(model.encode(to_tensors({**goal, **words}, self.device)))
        found = {name: part.cpu().numpy() for name, part in obs.items()}
        language = {name: vector[None] for name, vector in words.items()} | {"words": word_rows(sentence)[None]}
        return self.act({**found, **language})[0]
