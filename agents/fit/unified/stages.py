"""Training of a unified model: next tokens over several steps, and actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.clone.encoded_frames import EncodedFrames
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.stages import MOVING_SHARE, RECALLED
from dream_env.agents.fit.trainer import Stage, ema_decay
from dream_env.agents.fit.unified.arguments import Arguments
from dream_env.agents.fit.unified.frames import KINDS
from dream_env.world_models.unified.model import TOKENS, UnifiedModel

Obs = dict[str, Tensor]
GROWN = 0.6
"""Share of the updates at which windows reach full length. Single steps are learned first; short windows are cheap."""


class NextTokens:
    """Next-token loss on open-loop predictions over several steps.

    Args:
        model: The model.
        data: Episodes with the observations `tokens`, `own` and `visible`.
        batch: Windows per batch, for each head of the dynamics stream.
        ahead: Length of the open-loop part of a window in steps, after the steps that start from recorded tokens.
    """

    def __init__(self, model: UnifiedModel, data: Recorded, batch: int, ahead: int) -> None:
        self.model, self.data, self.batch, self.ahead = model, data, batch, ahead
        self.frames = KINDS[model.config.base]
        self.eventful = self.frames.eventful(model, data, ahead)
        own = data.observation["own"]
        self.scale = (own[data.acted + 1] - own[data.acted]).square().mean(0).sqrt().clamp(min=1e-3)

    def __call__(self, generator: torch.Generator, progress: float) -> Tensor:
        """Returns the loss of a new batch; windows grow until `progress`, in [0, 1), reaches `GROWN`."""
        model, data, most = self.model, self.data, max(RECALLED)
        ahead = max(1, min(self.ahead, round(progress / GROWN * self.ahead)))
        count = self.batch * model.config.members
        begin = data.acted[torch.randint(len(data.acted), (count,), generator=generator)]
        if len(self.eventful):
            chosen = self.eventful[torch.randint(len(self.eventful), (count,), generator=generator)]
            begin = torch.where(torch.rand(count, generator=generator) < MOVING_SHARE, chosen, begin)
        window = data.windows(begin, ahead + most)
        recall = torch.tensor(RECALLED)[torch.randint(len(RECALLED), (count,), generator=generator)]
        truth, visible, mine = (data.observation[name][window.frame] for name in (TOKENS, "visible", "own"))
        unit_action, rows = model.base.normalized(window.action), torch.arange(count)
        head = rows // self.batch  # every head is trained on its own windows
        tokens, own = truth[:, 0], mine[:, 0]
        memory = tokens.new_zeros(*tokens.shape[:2], model.config.memory)
        total, steps = torch.zeros(()), torch.zeros(())
        for k in range(ahead + most):
            if k:
                seen = recall > k - 1
                tokens = torch.where(seen[:, None, None], truth[:, k], tokens)
                own = torch.where(seen[:, None], mine[:, k], own)
            robot = model.tokens.robot_of(own)
            scene = model.trunk(model.tokens.related(tokens, robot), robot)
            heads, own = model.foresee(scene, tokens, memory, own, robot, unit_action[:, k])
            change, memory = model.dream.parts(heads[head, rows])
            tokens = model.tokens.moved(tokens, change)
            error = self.frames.wrong(model, tokens, truth[:, k : k + 2], visible[:, k + 1])
            own_error = F.smooth_l1_loss(own / self.scale, mine[:, k + 1] / self.scale, beta=0.1, reduction="none")
            used = window.known[:, k].float() * (recall + ahead > k)
            total, steps = total + ((error + own_error.sum(-1)) * used).sum(), steps + used.sum()
        return total / steps.clamp(min=1)


@dataclass
class Examples:
    """Training data of the action stream.

    Attributes:
        demos: Demonstrations; None with a teacher.
        every: All episodes, for hindsight relabelling; None without it.
        taught: Observations and the teacher's mean actions for them, `(N, ...)`; None without a teacher.
    """

    demos: EncodedFrames | None = None
    every: EncodedFrames | None = None
    taught: tuple[Obs, Tensor] | None = None

    def draw(self, args: Arguments, chunk: int, generator: torch.Generator) -> tuple[Obs, Tensor, Tensor]:
        """Samples observations, action chunks `(B, chunk, A)` and a mask of the valid actions `(B, chunk)`."""
        if self.taught is not None:
            rows = torch.randint(len(self.taught[1]), (args.examples,), generator=generator)
            obs = {name: part[rows].float() for name, part in self.taught[0].items()}
            return obs, self.taught[1][rows, None], torch.ones(len(rows), 1)
        assert self.demos is not None
        late = round(args.hindsight * args.examples) if self.every is not None else 0
        parts: list[Any] = [self._of(self.demos, args.examples - late, chunk, generator)]
        if late and self.every is not None:
            parts.append(self._of(self.every, late, chunk, generator, hindsight=True))
        obs = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
        obs[TOKENS] = obs[TOKENS] + args.noise * torch.randn(obs[TOKENS].shape, generator=generator)
        chunks, known = (torch.cat([part[i] for part in parts]) for i in (1, 2))
        return obs, chunks, known

    @staticmethod
    def _of(
        frames: EncodedFrames, count: int, chunk: int, generator: torch.Generator, hindsight: bool = False
    ) -> tuple[Obs, Tensor, Tensor]:
        rows = frames.acted[torch.randint(len(frames.acted), (count,), generator=generator)]
        obs = frames.hindsight(rows, generator) if hindsight else frames.observed(rows)
        return obs, *frames.chunks(rows, chunk)


def noisy(model: UnifiedModel, obs: Obs, strength: float, generator: torch.Generator) -> Obs:
    """Adds noise to the inputs of the action stream other than the tokens and the goal.

    Args:
        model: The model, whose action stream has measured the standard deviation of its inputs.
        obs: Observations.
        strength: Standard deviation of the noise, in units of the standard deviation of each input.
        generator: Random generator of the noise.
    """
    assert model.action_stream is not None
    result = dict(obs)
    for name, spread in model.action_stream.spreads().items():
        if name != "goal":
            result[name] = obs[name] + strength * spread * torch.randn(obs[name].shape, generator=generator)
    return result


def action_loss(model: UnifiedModel, obs: Obs, chunk: Tensor, known: Tensor) -> Tensor:
    """Returns half the squared error of mean actions over the action variance.

    For a teacher with the same variance this is its KL divergence, averaged over action dimensions.
    """
    error = (model.chunks(obs) - chunk) / (model.config.std * model.span)
    return (error.square().mean(-1) * known).sum() / known.sum() / 2


def stage(
    model: UnifiedModel,
    args: Arguments,
    recorded: Recorded,
    examples: Examples | None,
    dreamt: Recorded | None,
) -> Stage:
    """Trains the trunk and both streams jointly.

    Args:
        model: The model.
        args: See `Arguments`.
        recorded: Recorded episodes as tokens.
        examples: Training data of the action stream; None trains the world model only.
        dreamt: Rollouts of a teacher as tokens; None without a teacher.
    """
    parts = nn.ModuleList([part for part in (model.trunk, model.dream, model.action_stream) if part is not None])
    real = NextTokens(model, recorded, args.batch, args.ahead)
    dream = None if dreamt is None else NextTokens(model, dreamt, args.batch, args.ahead)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        total, source = torch.zeros(()), real
        if dream is not None and torch.rand((), generator=generator) >= args.recorded_weight:
            source = dream
        if args.token_weight:
            total = args.token_weight * source(generator, progress)
        if examples is not None and args.action_weight:
            obs, *target = examples.draw(args, model.config.chunk, generator)
            if examples.taught is None and args.told_noise:
                obs = noisy(model, obs, args.told_noise, generator)
            total = total + args.action_weight * action_loss(model, obs, *target)
        return total

    return Stage("unified", parts, loss, args.updates, args.learning_rate, average=ema_decay(args.updates))
