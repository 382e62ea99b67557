"""A policy from a generator of futures: it imagines what will be seen some steps later, and acts to get there.

A flow generates the world model's embedding `ahead` steps on (`dream_env.agents.policies.future_flow`), the goal of a
VLA that learned which actions lead to what is seen later (`dream_env.agents.policies.transformer_vla`). As video
policies do (Du et al. 2023, "Learning universal policies via text-guided video generation"; Hu et al. 2024, "Video
prediction policy", of which `feature="onepass"` is the idea), in embeddings instead of pictures.
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
    """What a policy sees, its sizes, and what it imagines.

    Attributes:
        ahead: Control steps to the embedding that is imagined.
        end: Whether the end of the episode is imagined too.
        steps: Steps in which the flow is integrated.
        feature: What it acts on: "full", the generated embedding, or "onepass", a single pass of the generator, which
            is about the mean of the futures.
        displaced: Vector whose change is the action: then its next states are generated and give the actions, and
            nothing else does. None where the world has no such vector.
        per_action: By how much each number of `displaced` changes under an action of 1.

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
            raise ValueError("compares=False; accepted: True, what is imagined is a goal")
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
    """See the module; meets the protocols that `TransformerVLA` does.

    Practice improves how it acts, not what it imagines. Its own goal, where it has one, is for the generator alone.
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
        """Generates futures of a batch.

        Args:
            obs: Observations; NaN or missing goals are not seen.
            noise: Where the flow begins, `(B, D)`; None in its middle.

        Returns:
            Embeddings `ahead` steps on, and at the end if there is one, `(B, M, E)`; and paths of what is displaced,
            relative to now, `(B, P)`.
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
        """Returns the first actions `(B, A)` towards embeddings `(B, E)` that are `ahead` steps away."""
        return self._units(self.head.likeliest(self.trunk({**obs, "goal": goal})))[:, 0]

    @insulated
    @torch.no_grad()
    def imagine(self, observation: Mapping[str, np.ndarray], end: bool = False) -> np.ndarray:
        """Returns the embeddings `(B, E)` that it imagines for observations `(B, ...)`.

        Args:
            observation: Arrays by name.
            end: Those of the episode's end instead of those `ahead` steps on.

        Raises:
            ValueError: If it does not imagine ends.
        """
        if end and not self.config.end:
            raise ValueError("end=True, and this policy imagines no ends; accepted: False, or one cloned with --end")
        return self.imagined(self._tensors(observation))[0][:, int(end)].cpu().numpy()

    # --- acting by what is displaced

    def _displacing(self, path: Tensor) -> Tensor:
        """Returns the chunks `(B, chunk, A)` in units of actions under which a vector goes along a path `(B, P)`."""
        places = path.unflatten(1, (self.config.chunk, -1))
        wanted = torch.diff(places, dim=1, prepend=torch.zeros_like(places[:, :1])) / self.per_action
        return self.center + torch.minimum(torch.maximum(wanted - self.center, -self.span), self.span)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to the first actions `(B, A)` of the likeliest chunks."""
        if self.config.displaced is None:
            return super().forward(obs)
        return self._displacing(self.imagined(super()._own(obs))[1])[:, 0]

    @property
    def has_modes(self) -> bool:
        """Whether its proposals differ by more than noise around one chunk."""
        return self.config.displaced is not None or super().has_modes

    @property
    def noise_numbers(self) -> int:
        """Normal numbers that decide a proposal."""
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
