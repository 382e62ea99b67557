"""Trains a video policy: `python -m agents.clone --policy video --data DIR --world-model W --out DIR`.

There are two stages. First, a generator learns to generate the embedding `--ahead` steps later, from episodes that
fulfil their instruction, without their actions. Second, the action head learns to reach it: from all recorded episodes,
which actions led to the embedding that was observed later (hindsight), and from demonstrations, which action to take
for a generated embedding. If the world model can decode embeddings to pictures, imagined.png shows generated futures
next to what was recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.agents.clone import batches, transformer_clone
from dream_env.agents.clone.batches import shown
from dream_env.agents.clone.encoded_frames import EncodedFrames
from dream_env.agents.clone.video_arguments import Arguments
from dream_env.agents.eval import imagined
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.policies import registry
from dream_env.agents.policies.video import VideoVLA
from dream_env.data.episodes import EpisodeDataset
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import WorldModel

PICTURE = "imagined.png"
"""File in the policy's folder."""


class Batches(batches.Batches):
    """Batches of both stages.

    Args:
        args: See `Arguments`.
        own: Demonstrations.
        more: Demonstrations of the further folders; None if there are none.
        every: All recorded episodes; None if only demonstrations are needed.
        videos: Episodes that the generator is trained on.
    """

    args: Any

    def __init__(
        self,
        args: Any,
        own: EncodedFrames,
        more: EncodedFrames | None,
        every: EncodedFrames | None,
        videos: EncodedFrames,
    ) -> None:
        super().__init__(args, own, more, every)
        self.videos = videos

    def imagine_loss(self, policy: VideoVLA, generator: torch.Generator) -> Tensor:
        """Returns the generator's loss on one fresh batch."""
        acted = self.videos.acted
        rows = acted[torch.randint(len(acted), (self.args.batch,), generator=generator)]
        target = policy.flow.packed(*futures(self.videos, rows, policy))
        obs = self.noisy(shown(self.videos.observed(rows), policy.flow.config), policy.flow.trunk, generator)
        return policy.flow.loss(obs, target, generator).mean()

    def _drawn(
        self, frames: EncodedFrames, count: int, policy: Any, generator: torch.Generator, **how: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        rows = frames.acted[torch.randint(len(frames.acted), (count,), generator=generator)]
        obs = frames.observed(rows)
        if how.get("hindsight"):
            obs["goal"] = frames.later(rows, self.args.ahead)
            if not frames.bound:  # the instruction that would fit this goal is not known
                obs |= {name: torch.zeros_like(obs[name]) for name in ("instruction", "words")}
        else:
            noise = torch.randn(count, policy.flow.numbers, generator=generator)
            noise *= torch.rand(count, 1, generator=generator) < 0.5  # the policy acts from zero noise
            with torch.no_grad():
                obs["goal"] = policy.imagined(shown(obs, policy.flow.config), noise)[0][:, 0]
        return obs, *frames.chunks(rows, policy.config.chunk)


def futures(frames: EncodedFrames, rows: Tensor, policy: VideoVLA) -> tuple[Tensor, Tensor]:
    """Returns futures of frames `(B,)`, relative to the present: embeddings `(B, M, E)` and a path `(B, P)`.

    The path holds the next values of the vector `displaced`, if the policy has one.
    """
    config, now = policy.config, frames.embedding[rows].float()
    moments = [frames.later(rows, config.ahead)]
    if config.end:
        moments.append(frames.embedding[frames.last[frames.episode[rows]]].float())
    path = now.new_zeros(len(rows), 0)
    if config.displaced is not None:
        vector, end = frames.vectors[config.displaced], frames.last[frames.episode[rows]][:, None]
        reach = torch.minimum(rows[:, None] + 1 + torch.arange(config.chunk), end)
        path = (vector[reach] - vector[rows][:, None]).flatten(1)
    return torch.stack(moments, 1) - now[:, None], path


class Cloning(transformer_clone.Cloning):
    """How a `VideoVLA` is cloned."""

    policy_class = VideoVLA

    @property
    def from_all(self) -> bool:
        """Whether it learns from all recorded episodes."""
        return bool(self.args.hindsight or self.args.videos == "successes")

    def config(self, model: WorldModel) -> Any:
        """Returns the config of the policy."""
        own = {name: getattr(self.args, name) for name in ("ahead", "end", "steps", "feature", "displaced")}
        if self.args.displaced is not None:
            own["per_action"] = per_action(self.data, self.args.displaced)
        return transformer_clone.config_of(
            self.args, model, self.data, self.policy_class.config_class, compares=True, **own
        )

    def videos(self) -> np.ndarray:
        """Returns the indices into `others` of the episodes that the generator is trained on."""
        used = np.isin(self.others, self.rows)
        if self.args.videos == "successes" and self.data.success is not None:
            used |= self.data.solved[self.others]
        return np.flatnonzero(used)

    def batches(
        self, policy: Any, own: EncodedFrames, more: EncodedFrames | None, every: EncodedFrames | None
    ) -> Batches:
        """Returns the batches; first measures the scale of embeddings and of their changes for the policy."""
        made = Batches(self.args, own, more, every, own if every is None else every.take(self.videos()))
        for trunk in (policy.trunk, policy.flow.trunk):
            trunk.measure((own if every is None else every).embedding)
        policy.flow.measure(*futures(made.videos, made.videos.acted, policy))
        return made

    @torch.no_grad()
    def report(self, policy: Any, held_out: EncodedFrames | None) -> dict[str, Any]:
        """Returns errors on held-out demonstrations.

        These are the errors of actions, of generated futures and, with an action head, of actions given the true future
        (held_out_oracle).
        """
        found = super().report(policy, held_out)
        if held_out is None:
            return found
        obs = shown(held_out.observed(held_out.acted), policy.flow.config)
        true = policy.flow.packed(*futures(held_out, held_out.acted, policy))
        made = policy.flow.generate(obs, policy.config.steps)
        found["held_out_future"] = float((made - true).square().mean())
        if policy.config.displaced is None:
            rows = held_out.acted
            acted = policy.reaching(held_out.observed(rows), held_out.later(rows, policy.config.ahead))
            found["held_out_oracle"] = float(((acted - held_out.target[rows]) / policy.span).square().mean())
        return found

    def stages(self, policy: Any, batches: Any, held_out: EncodedFrames | None) -> list[Stage]:
        """Returns the stages of training: first the generator, then the action head."""
        imagine = Stage(
            "imagine",
            policy.flow,
            lambda generator, progress: batches.imagine_loss(policy, generator),
            self.args.imagine_updates or self.args.updates,
            self.args.rate,
            average=0.995,
            report=lambda: self.report(policy, held_out),
        )
        if self.args.displaced is not None:  # actions follow from the generated path; there is no head to train
            return [imagine]
        return [imagine, self.acting(policy, nn.ModuleList([policy.trunk, policy.head]), batches, held_out)]


def per_action(data: EpisodeDataset, name: str) -> tuple[float, ...]:
    """Estimates from recorded episodes by how much each dimension of a vector changes under an action of 1.

    Raises:
        ValueError: If the actions are not displacements of this vector.
    """
    vector = data.observation.get(name)
    if vector is None or vector.shape[1:] != data.action.shape[1:] or vector.ndim != 2:
        known = [key for key, part in data.observation.items() if part.shape[1:] == data.action.shape[1:]]
        raise ValueError(f"displaced={name!r}; accepted: a vector with as many numbers as an action has: {known}")
    acted = np.ones(len(vector), bool)
    acted[data.offsets[1:] - 1] = False
    change, action = np.diff(vector, axis=0)[acted[:-1]], data.action[acted]
    found = []
    for i in range(action.shape[1]):
        much = np.abs(action[:, i]) > 0.2 * np.abs(action[:, i]).max()
        ratios = change[much, i] / action[much, i]
        slope = float(np.median(ratios)) if len(ratios) else 0.0
        fits = np.abs(ratios - slope) < 0.1 * abs(slope)
        if not len(ratios) or not slope or fits.mean() < 0.5:
            raise ValueError(f"displaced={name!r}: number {i} does not move as the actions say; accepted: None")
        found.append(slope)
    return tuple(found)


def main(args: Arguments) -> None:
    """Runs the command."""
    transformer_clone.main(args, Cloning)
    model = checkpoint.load(args.world_model)
    if imagined.can_draw(model):
        data = transformer_clone.load(args)[0]
        how = Cloning(args, data)
        shown = int(how.aside[0] if len(how.aside) else how.rows[0])
        rows, steps = imagined.strip(registry.load(args.out), model, data, shown)
        imagined.labelled(rows, steps, str(data.instruction[shown])).save(args.out / PICTURE)
        print(f"pictures: recorded, generated {args.ahead} steps ahead, recorded then: {args.out / PICTURE}")
