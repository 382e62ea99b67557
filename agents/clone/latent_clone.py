"""Trains a VLA that predicts: `python -m agents.clone --policy latent --data DIR --world-model W --out DIR`.

Works as `--policy transformer`. In addition to the actions of the demonstrations, the policy learns from all recorded
episodes, whatever acted in them, to predict the world model's embedding `--ahead` steps later. This auxiliary loss
needs no actions and no further demonstrations; it helps if demonstrations are few and other episodes are many. The
prediction is left out when the policy acts, so acting takes as long as without it. `--future-weight 0` is the baseline:
the same demonstrations, batches and updates without the prediction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dream_env.agents.clone import batches, transformer_clone
from dream_env.agents.clone.batches import shown
from dream_env.agents.clone.encoded_frames import EncodedFrames
from dream_env.agents.clone.latent_arguments import Arguments
from dream_env.agents.policies.latent import LatentVLA
from dream_env.world_models.protocol import WorldModel


class Batches(batches.Batches):
    """Adds to the batches of `--policy transformer` frames of all episodes with the embedding `ahead` steps later."""

    args: Any

    def __init__(self, args: Any, own: EncodedFrames, more: EncodedFrames | None, every: EncodedFrames | None) -> None:
        super().__init__(args, own, more, every)
        self.starts = foreseeable(every, args.ahead) if args.future_weight and every is not None else own.acted

    def loss(self, policy: Any, generator: torch.Generator) -> Tensor:
        """Returns the sum of the action loss and the weighted prediction loss, each on one fresh batch."""
        acting = super().loss(policy, generator)
        if not self.args.future_weight:
            return acting
        assert self.every is not None
        # A copy of the generator, so that the same demonstrations are drawn with and without prediction.
        own = torch.Generator()
        own.set_state(generator.get_state())
        rows = self.starts[torch.randint(len(self.starts), (self.args.batch,), generator=own)]
        obs = shown(self.every.observed(rows), policy.config)
        seen, later = self.noisy(obs, policy.trunk, own), self.every.later(rows, policy.config.ahead)
        return acting + self.args.future_weight * policy.future_loss(seen, obs["embedding"], later).mean()


def longest(frames: EncodedFrames) -> int:
    """Returns the number of steps of the longest episode."""
    return int(torch.bincount(frames.episode).max()) - 1


def foreseeable(frames: EncodedFrames, ahead: int) -> Tensor:
    """Returns the frames `(F,)` that have at least `ahead` steps left in their episode.

    Raises:
        ValueError: If no episode is that long.
    """
    if longest(frames) < ahead:
        raise ValueError(f"ahead={ahead}: the longest episode has {longest(frames)} steps; accepted: at most these")
    left = frames.last[frames.episode] - torch.arange(len(frames.episode))
    return (left >= ahead).nonzero()[:, 0]


class Cloning(transformer_clone.Cloning):
    """How a `LatentVLA` is cloned."""

    policy_class = LatentVLA

    @property
    def from_all(self) -> bool:
        """Whether it learns from all recorded episodes."""
        return bool(self.args.hindsight or self.args.future_weight)

    def config(self, model: WorldModel) -> Any:
        """Returns the config of the policy."""
        own = {"queries": self.args.queries, "ahead": self.args.ahead}
        return transformer_clone.config_of(self.args, model, self.data, self.policy_class.config_class, **own)

    def batches(
        self, policy: Any, own: EncodedFrames, more: EncodedFrames | None, every: EncodedFrames | None
    ) -> Batches:
        """Returns the batches; first measures the scale of embeddings and of their changes for the policy."""
        super().batches(policy, own, more, every)
        made = Batches(self.args, own, more, every)
        if self.args.future_weight and every is not None:
            policy.measure(every.embedding[made.starts], every.later(made.starts, self.args.ahead))
        return made

    @torch.no_grad()
    def report(self, policy: Any, held_out: EncodedFrames | None) -> dict[str, Any]:
        """Returns the errors of actions and of predictions on held-out demonstrations."""
        found = super().report(policy, held_out)
        if held_out is None or not self.args.future_weight or longest(held_out) < policy.config.ahead:
            return found
        rows = foreseeable(held_out, policy.config.ahead)
        obs = shown(held_out.observed(rows), policy.config)
        later = held_out.later(rows, policy.config.ahead)
        return found | {"held_out_future": float(policy.future_loss(obs, obs["embedding"], later).mean())}


def main(args: Arguments) -> None:
    """Runs the command."""
    transformer_clone.main(args, Cloning)
