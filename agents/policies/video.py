"""A policy with a generative model of futures: it imagines a future observation, and acts to reach it.

A flow generates the world model's embedding `ahead` steps later (`dream_env.agents.policies.future_flow`). It is the
goal of a VLA that was trained to reach later observations (`dream_env.agents.policies.transformer_vla`). This follows
video policies (Du et al. 2023, "Learning universal policies via text-guided video generation"; Hu et al. 2024, "Video
prediction policy", whose idea is used in `feature="onepass"`), with embeddings instead of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.policies.future_flow import FutureFlow
from dream_env.agents.policies.latents import TransformerVLAConfig
from dream_env.agents.policies.transformer_vla import TransformerVLA
from dream_env.checks import check_choice, check_number
from dream_env.world_models.precision import insulated

Feature = Literal["full", "onepass"]


@dataclass(frozen=True)
class VideoVLAConfig(TransformerVLAConfig):
    """Config of a policy: observations, sizes, and what it imagines. Further attributes as in the base class.

    Attributes:
        ahead: Control steps from an observation to the imagined embedding.
        end: Whether the embedding at the end of the episode is imagined, too.
        steps: Integration steps of the flow.
        feature: Embedding that it acts on: "full" is a generated one, "onepass" the result of a single pass of the
            generator, which is approximately the mean of the futures.
        displaced: Name of a vector whose change per step is the action. If given, the next values of this vector are
            generated, and the actions are computed from them alone. None if the world has no such vector.
        per_action: Change of each number of `displaced` under an action of 1.

    Raises:
        ValueError: If a value is not accepted.
    """

    ahead: int = 8
    end: bool = False
    steps: int = 4
    feature: Feature = "full"
    displaced: str | None = None
    per_action: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        for name in ("ahead", "steps"):
            check_number(name, getattr(self, name), 1)
        check_choice("feature", self.feature, get_args(Feature))
        if not self.compares:
            raise ValueError("compares=False; accepted: True, because the imagined embedding is a goal")
        if self.displaced is not None:
            check_choice("displaced", self.displaced, [*self.vectors])
            numbers = len(self.action_low)
            if self.vectors[self.displaced] != numbers or len(self.per_action) != numbers or self.head != "gaussian":
                raise ValueError(
                    f"displaced={self.displaced!r} of {self.vectors[self.displaced]} numbers, per_action of "
                    f"{len(self.per_action)}, head={self.head!r}; accepted: as many as an action has, {numbers}, and "
                    "'gaussian'"
                )


class VideoVLA(TransformerVLA):
    """The policy, see the module; implements the same protocols as `TransformerVLA`.

    Reinforcement learning trains how it acts, not what it imagines. The goal of an observation, if the policy reads
    one, is an input of the generator only.
    """

    kind = "video"
    config_class = VideoVLAConfig
    config: VideoVLAConfig

    def __init__(self, config: VideoVLAConfig) -> None:
        super().__init__(config)
        seen = {name: getattr(config, name) for name in TransformerVLAConfig.__dataclass_fields__}
        numbers = config.chunk * len(config.action_low) if config.displaced else 0
        self.flow = FutureFlow(TransformerVLAConfig(**{**seen, "compares": config.goal}), 1 + config.end, numbers)
        self.register_buffer("per_action", torch.tensor(config.per_action), persistent=False)

    per_action: Tensor

    def imagined(self, obs: Mapping[str, Tensor], noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Generates futures for a batch of observations.

        Args:
            obs: Observations; goals that are missing or NaN are masked.
            noise: Start of the flow, standard normal `(B, D)`; None starts at zero.

        Returns:
            Embeddings `(B, M, E)` `ahead` steps later and, with `config.end`, at the end of the episode; and the paths
            of the vector `config.displaced`, relative to its current value, `(B, P)`.
        """
        changes, path = self.flow.unpacked(self.flow.generate(obs, 1 if self._single else self.config.steps, noise))
        return obs["embedding"][:, None] + changes, path

    @property
    def _single(self) -> bool:
        return self.config.feature == "onepass" and not self.config.displaced

    def _own(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = super()._own(obs)
        with torch.no_grad():
            return own | {"goal": self.imagined(own)[0][:, 0]}

    def reaching(self, obs: Mapping[str, Tensor], goal: Tensor) -> Tensor:
        """Returns the first actions `(B, A)` towards goal embeddings `(B, E)` that are `ahead` steps away."""
        return self._units(self.head.likeliest(self.trunk({**obs, "goal": goal})))[:, 0]

    @insulated
    @torch.no_grad()
    def imagine(self, observation: Mapping[str, np.ndarray], end: bool = False) -> np.ndarray:
        """Returns the imagined embeddings `(B, E)` for observations `(B, ...)`.

        Args:
            observation: Arrays `(B, ...)` by name.
            end: Whether to return the embedding at the end of the episode instead of the one `ahead` steps later.

        Raises:
            ValueError: If `end` is given, but the policy does not imagine the end of episodes.
        """
        if end and not self.config.end:
            raise ValueError("end=True, and this policy imagines no ends; accepted: False, or one cloned with --end")
        return self.imagined(self._tensors(observation))[0][:, int(end)].cpu().numpy()

    # --- actions from a generated path

    def _displacing(self, path: Tensor) -> Tensor:
        """Returns the chunks `(B, chunk, A)` in units of actions that move the vector along a path `(B, P)`."""
        places = path.unflatten(1, (self.config.chunk, -1))
        wanted = torch.diff(places, dim=1, prepend=torch.zeros_like(places[:, :1])) / self.per_action
        return self.center + torch.minimum(torch.maximum(wanted - self.center, -self.span), self.span)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to the first actions `(B, A)` of the most likely chunks."""
        if self.config.displaced is None:
            return super().forward(obs)
        return self._displacing(self.imagined(super()._own(obs))[1])[:, 0]

    @property
    def has_modes(self) -> bool:
        """Whether proposals can be different modes, and not only noise around one chunk."""
        return self.config.displaced is not None or super().has_modes

    @property
    def noise_numbers(self) -> int:
        """Number of standard normal numbers that determine a proposal."""
        return super().noise_numbers if self.config.displaced is None else self.flow.numbers

    @insulated
    @torch.no_grad()
    def propose(self, observation: Mapping[str, np.ndarray], count: int, noise: Tensor | None = None) -> np.ndarray:
        """Proposes several chunks, see `TransformerVLA.propose`."""
        if self.config.displaced is None:
            return super().propose(observation, count, noise)
        obs = self._tensors(observation)
        size = len(obs["embedding"]), count, self.flow.numbers
        drawn = (torch.randn(size) if noise is None else noise.clone()).to(self.device).transpose(0, 1)
        drawn[0] = 0
        return torch.stack([self._displacing(self.imagined(obs, one)[1]) for one in drawn], 1).cpu().numpy()
