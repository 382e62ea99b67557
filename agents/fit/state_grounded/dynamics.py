"""Stages of `agents.fit` for motion: the arm renderer, the object dynamics and the predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.eval.open_loop import open_loop
from dream_env.agents.fit import distributed
from dream_env.agents.fit.state_grounded import losses
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.stages import MOVED, strip
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, true_object_state
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.predictor import Predictor
from dream_env.nicol.world_model.projection import Projection
from dream_env.nicol.world_model.state_estimator import HAND, StateEstimator, cubes


def arm_renderer_stage(
    args: Arguments, renderer: ArmRenderer, train: EncodedDataset, held_out: EncodedDataset
) -> Stage:
    """Returns the stage that trains the arm renderer on pairs of consecutive frames, before the predictor."""
    episodes, steps = train.action.shape[:2]
    renderer.requires_grad_(True)

    def numbers(latents: EncodedDataset) -> Tensor:
        return torch.cat([latents.proprio, true_object_state(latents)[0][..., : len(HAND)]], dim=-1)

    arm, middle = numbers(train), torch.arange(2) + steps // 2
    shown = held_out.tokens[:, middle].float(), numbers(held_out)[:, middle]

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        n = torch.randint(episodes, (args.arm_renderer_batch, 1), generator=generator)
        t = torch.randint(steps, (args.arm_renderer_batch, 1), generator=generator) + torch.arange(2)
        pair = distributed.share(train.tokens[n, t].float(), arm[n, t], device=args.device)
        return losses.arm_renderer_loss(renderer, *pair)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        return {"error": float(losses.arm_renderer_loss(renderer, *shown))}

    return Stage(
        "arm_renderer",
        renderer,
        loss,
        args.updates("arm_renderer"),
        args.arm_renderer_rate,
        args.share("arm_renderer"),
        args.average,
        report=report,
    )


def object_dynamics_stage(
    args: Arguments, model: StateGroundedModel, train: EncodedDataset, estimated: Tensor, held_out: EncodedDataset
) -> Stage:
    """Returns the stage that trains the object dynamics, from `estimated` object states `(N, T + 1, R)`."""
    module, steps = model.object_dynamics, train.action.shape[1]
    lengths = [min(length, steps) for length in args.object_dynamics_horizons]
    windows = Windows(train.cubes, lengths, args.moving)
    truth, known = true_object_state(train)
    module.requires_grad_(True)
    share = shares(len(estimated), len(module), args.seed)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        length = lengths[int(progress * len(lengths))]
        count = max(1, args.object_dynamics_batch // length)
        n, t = windows.draw(length, count, generator)
        batch = estimated[n[:, 0], t[:, 0]], train.proprio[n, t], truth[n, t], known[n, t], share[n[:, 0]]
        return losses.object_dynamics_loss(module, *distributed.share(*batch, device=args.device))

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        first = model.state_estimator(held_out.tokens[:, 0].float())
        error = losses.object_dynamics_loss(module, first, held_out.proprio, *true_object_state(held_out))
        return {"error": float(error)}

    return Stage(
        "object_dynamics",
        module,
        loss,
        args.updates("object_dynamics"),
        args.object_dynamics_rate,
        args.share("object_dynamics"),
        args.average,
        report=report,
    )


def predictor_stage(
    args: Arguments,
    model: StateGroundedModel,
    train: EncodedDataset,
    held_out: EncodedDataset,
    pictures: np.ndarray,
) -> Stage:
    """Returns the stage that trains the predictor on windows of encoded episodes.

    Its report draws a rollout of the first held-out episode below `pictures` `(T + 1, 64, 64, 3)`, its recorded frames.
    """
    predictor = model.predictor
    episodes, steps = train.action.shape[:2]
    lengths = [min(length, steps) for length in args.horizons]
    windows = Windows(train.cubes, lengths, args.moving)
    truth, known = true_object_state(train)
    share = shares(episodes, len(predictor.heads), args.seed)

    def begin() -> None:
        if args.init and not args.new_predictor:
            return
        sample = train.take(torch.arange(min(episodes, 200)))
        fit_hand_projection(predictor, sample.tokens.float(), sample.proprio)
        if predictor.cube_projection is not None:
            fit_cube_projection(predictor.cube_projection, model.state_estimator, sample)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        length = lengths[int(progress * len(lengths))]
        count = max(1, args.predictor_batch // length)
        n, t = windows.draw(length, count, generator)
        shown = train.tokens[n, t].float(), train.proprio[n, t], train.action[n, t[:, :-1]]
        batch = *shown, truth[n, t], known[n, t], share[n[:, 0]]
        tokens, proprio, action, *rest = distributed.share(*batch, device=args.device)
        weights = args.rollout_noise, args.object_state_weight
        return losses.rollout_loss(model, tokens, proprio, action, generator, *weights, *rest)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        dream, _ = open_loop(model, model_metrics.first(model, held_out), held_out.action)
        errors = model_metrics.rollout_errors(held_out.tokens, dream["tokens"])["predicted"]
        frames = torch.arange(0, steps + 1, 3)
        drawn = model.decode({name: part[0, frames].float() for name, part in dream.items()})["pixels"]
        shown = strip(torch.from_numpy(np.array(pictures))[frames], drawn)
        return {f"error_at_{h}": e for h, e in errors.items()} | {"dream": shown}

    return Stage(
        "predictor",
        predictor,
        loss,
        args.predictor_updates,
        args.predictor_rate,
        args.share("predictor"),
        args.average,
        begin,
        report=report,
    )


def shares(episodes: int, ensemble: int, seed: int) -> Tensor:
    """Draws the weights of episodes in the loss of each ensemble member, `(episodes, ensemble)`.

    Each member gives a random half of the episodes three times the weight of the others. The members therefore disagree
    where the data are sparse (a mild form of the bootstrap of PETS: Chua et al. 2018, section 4).
    """
    if ensemble == 1:
        return torch.ones(episodes, 1)
    return 0.5 + torch.randint(0, 2, (episodes, ensemble), generator=torch.Generator().manual_seed(seed))


class Windows:
    """Draws windows of episodes, with an increased share of windows in which a cube moves.

    Args:
        cubes: Positions of the cubes in cm, `(N, T + 1, cubes, 3)`; NaN for a cube that is not there.
        lengths: Possible lengths of a window in steps, T at most.
        share: Share of windows that are drawn from those in which a cube moves; the others are random.
    """

    def __init__(self, cubes: Tensor, lengths: Sequence[int], share: float) -> None:
        self.episodes, self.frames, self.share = len(cubes), cubes.shape[1], share
        self.moving = {length: moving_windows(cubes, length) for length in set(lengths)}

    def draw(self, length: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws windows of one of the lengths, as episodes `(count, 1)` and frames `(count, length + 1)`."""
        n = torch.randint(self.episodes, (count, 1), generator=generator)
        t = torch.randint(self.frames - length, (count, 1), generator=generator)
        moving = self.moving[length]
        if chosen := min(round(self.share * count), count) if len(moving) else 0:
            drawn = torch.randint(len(moving), (chosen,), generator=generator)
            n[:chosen], t[:chosen] = moving[drawn].split(1, dim=1)
        return n, t + torch.arange(length + 1)


def moving_windows(cubes: Tensor, length: int) -> Tensor:
    """Finds the windows in which a cube moves.

    Args:
        cubes: Positions of the cubes in cm, `(N, T + 1, cubes, 3)`; NaN for a cube that is not there.
        length: Length of a window in steps.

    Returns:
        Episode and first frame of each window, `(M, 2)`.
    """
    starts = cubes.shape[1] - length
    halves = [cubes[:, k : k + starts] - cubes[:, :starts] for k in (length // 2, length)]
    return (torch.stack(halves).norm(dim=-1).nan_to_num() > MOVED).any(-1).any(0).nonzero()


def fit_hand_projection(predictor: Predictor, tokens: Tensor, proprio: Tensor) -> None:
    """Fits the projection of the hand to the center of the changes in the token map between two frames.

    Args:
        predictor: The predictor.
        tokens: Encoded episodes `(N, T + 1, tokens, C)` float32.
        proprio: Set-points `(N, T + 1, 4)`.
    """
    change = tokens.diff(dim=1).square().mean(-1).flatten(0, 1)
    total = change.sum(1, keepdim=True)
    moving = total[:, 0] > total.median()
    centers = (change @ predictor.position / total.clamp_min(1e-6))[moving]
    between = ((proprio[:, 1:] + proprio[:, :-1]) / 2).flatten(0, 1)[moving]
    predictor.hand_projection.fit(between, centers)


@torch.no_grad()
def fit_cube_projection(projection: Projection, estimator: StateEstimator, some: EncodedDataset) -> None:
    """Fits the projection of the cubes to the positions that the state estimator attends to.

    Of a color's attention maps, the one whose position varies most is used; others may stay on the background.

    Args:
        projection: The projection to fit.
        estimator: The state estimator.
        some: Encoded episodes.
    """
    attended = estimator.attended_places(some.tokens.flatten(0, 1).float())
    truth, known = (part.flatten(0, 1) for part in true_object_state(some))
    places, present = cubes(truth), cubes(known.float())[..., 0] > 0
    seen: list[Tensor] = []
    for color in range(len(COLORS)):
        centers = attended[present[:, color], color]
        seen.append(centers[:, centers.var(0).sum(-1).argmax()])
    projection.fit(places.transpose(0, 1)[present.T], torch.cat(seen))
