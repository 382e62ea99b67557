"""Batches for behavior cloning: demonstrations, further data and hindsight frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dream_env.agents.clone.encoded_frames import EncodedFrames
from dream_env.agents.clone.transformer_arguments import Arguments
from dream_env.agents.fit.instructions import with_noise
from dream_env.agents.policies.latents import TransformerVLAConfig, Trunk
from dream_env.agents.policies.transformer_vla import TransformerVLA


class Batches:
    """Draws the batch of each update from demonstrations, further data and hindsight frames, in their shares.

    Args:
        args: See `Arguments`.
        own: Demonstrations.
        more: Demonstrations of the further folders; None if there are none.
        every: All recorded episodes; None without hindsight.
    """

    def __init__(
        self, args: Arguments, own: EncodedFrames, more: EncodedFrames | None, every: EncodedFrames | None
    ) -> None:
        self.args, self.own, self.more, self.every = args, own, more, every
        self.sizes = [round(args.batch * share) for share in (args.share, args.hindsight)]

    def loss(self, policy: TransformerVLA, generator: torch.Generator) -> Tensor:
        """Returns the loss of one fresh batch."""
        further, later = self.sizes
        parts: list[Any] = []
        if self.args.batch > further + later:
            parts.append(self._drawn(self.own, self.args.batch - further - later, policy, generator))
        if self.more is not None and further:
            parts.append(self._drawn(self.more, further, policy, generator))
        if self.every is not None and later:
            parts.append(self._drawn(self.every, later, policy, generator, hindsight=True))
        obs = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
        chunk, known = (torch.cat([part[i] for part in parts]) for i in (1, 2))
        return policy.loss(self.noisy(obs, policy.trunk, generator), chunk, known, generator).mean()

    def noisy(self, obs: dict[str, Tensor], trunk: Trunk, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns observations with noise added to their embeddings, and to those of their instructions."""
        noise = torch.randn(obs["embedding"].shape, generator=generator)
        spread = trunk.scale.repeat(trunk.config.tokens)
        return obs | {
            "embedding": obs["embedding"] + self.args.noise * spread * noise,
            "instruction": with_noise(obs["instruction"], self.args.instruction_noise, generator),
        }

    def _drawn(
        self, frames: EncodedFrames, count: int, policy: TransformerVLA, generator: torch.Generator, **how: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        rows = frames.acted[torch.randint(len(frames.acted), (count,), generator=generator)]
        if how.get("hindsight"):
            obs = frames.hindsight(rows, generator)
        else:
            obs = shown(frames.observed(rows), policy.config)
        return obs, *frames.chunks(rows, policy.config.chunk)


def shown(obs: dict[str, Tensor], config: TransformerVLAConfig) -> dict[str, Tensor]:
    """Keeps the goals in observations only if the policy reads them; if it only has weights for goals, sets NaN."""
    rest = {name: part for name, part in obs.items() if name != "goal"}
    if config.goal:
        return obs
    return rest | {"goal": torch.full_like(obs["embedding"], torch.nan)} if config.compares else rest


@torch.no_grad()
def error(policy: TransformerVLA, frames: EncodedFrames) -> float:
    """Returns the mean squared error of the first actions, in units of half the action range."""
    errors = []
    for rows in frames.acted.split(512):
        errors.append(((policy(frames.observed(rows)) - frames.target[rows]) / policy.span).square().mean(1))
    return float(torch.cat(errors).mean())
