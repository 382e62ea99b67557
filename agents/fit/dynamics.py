# mypy: disable-error-code="arg-type,assignment,attr-defined,call-arg,operator,unreachable"
"""The stages of `agents.fit` that learn how things move: the sketch of the arm, the interaction, the predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.data.encoded_dataset import EncodedDataset, true_readings
from dream_env.agents.eval import model_metrics
from dream_env.agents.eval.open_loop import open_loop
from dream_env.agents.fit import distributed, losses
from dream_env.agents.fit.arguments import Arguments
from dream_env.agents.fit.stages import MOVED, read, strip
from dream_env.agents.fit.trainer import Stage
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import Camera
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import ObjectDynamics
from dream_env.nicol.world_model.predictor import Predictor
from dream_env.nicol.world_model.state_estimator import HAND, StateEstimator, cubes


def sketch_stage(args: Arguments, predictor: Predictor, train: EncodedDataset, held_out: EncodedDataset) -> Stage:
    """Trains the predictor's sketch of the arm by itself, on pairs of frames in a row: the trunk begins with an arm."""
    episodes, steps = train.action.shape[:2]
    sketch = predictor.sketch
    assert sketch is not None
    sketch.requires_grad_(True)

    def tells(latents: EncodedDataset) -> Tensor:
        if predictor.interaction is None:
            return latents.proprio
        return torch.cat([latents.proprio, true_readings(latents)[0][..., : len(HAND)]], dim=-1)

    arm, middle = tells(train), torch.arange(2) + steps // 2
    shown = held_out.tokens[:, middle].float(), tells(held_out)[:, middle]

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        n = torch.randint(episodes, (args.sketch_batch, 1), generator=generator)
        t = torch.randint(steps, (args.sketch_batch, 1), generator=generator) + torch.arange(2)
        tokens, told = distributed.share(train.tokens[n, t].float(), arm[n, t], device=args.device)
        return losses.sketch_loss(sketch, tokens, told)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        return {"error": float(losses.sketch_loss(sketch, *shown))}

    return Stage(
        "sketch",
        sketch,
        loss,
        args.updates("sketch"),
        args.sketch_rate,
        args.share("sketch"),
        args.average,
        report=report,
    )


def interaction_stage(
    args: Arguments,
    interaction: ObjectDynamics,
    reader: StateEstimator,
    train: EncodedDataset,
    seen: Tensor,
    held_out: EncodedDataset,
) -> Stage:
    """Trains what moves the cubes by itself, from what the reader has `seen`: the trunk is told where they will be."""
    steps = train.action.shape[1]
    lengths = [min(length, steps) for length in args.interaction_horizons]
    windows = Windows(train.cubes, lengths, args.moving)
    truth, known = true_readings(train)
    interaction.requires_grad_(True)
    share = shares(len(seen), len(interaction), args.seed)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        length = lengths[int(progress * len(lengths))]
        count = max(1, args.interaction_batch // length)
        n, t = windows.draw(length, count, generator)
        batch = seen[n[:, 0], t[:, 0]], train.proprio[n, t], truth[n, t], known[n, t], share[n[:, 0]]
        return losses.interaction_loss(interaction, *distributed.share(*batch, device=args.device))

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        first, told = read(reader, held_out.tokens[:, 0]), true_readings(held_out)
        return {"error": float(losses.interaction_loss(interaction, first, held_out.proprio, *told))}

    return Stage(
        "interaction",
        interaction,
        loss,
        args.updates("interaction"),
        args.interaction_rate,
        args.share("interaction"),
        args.average,
        report=report,
    )


def predictor_stage(
    args: Arguments,
    model: StateGroundedModel,
    train: EncodedDataset,
    held_out: EncodedDataset,
    film: np.ndarray,
) -> Stage:
    """Trains the predictor on windows of encoded episodes; `film` `(T + 1, 64, 64, 3)` is the first held-out one."""
    predictor = model.predictor
    reader = model.reader if args.reading_weight or predictor.interaction is not None else None
    episodes, steps = train.action.shape[:2]
    lengths = [min(length, steps) for length in args.horizons]
    windows = Windows(train.cubes, lengths, args.moving)
    told: tuple[Tensor, ...] = () if reader is None else true_readings(train)
    share = shares(episodes, len(predictor.heads), args.seed)

    def begin() -> None:
        if args.init and not args.new_predictor:
            return
        some = train.take(torch.arange(min(episodes, 200)))
        aim_camera(predictor, some.tokens.float(), some.proprio)
        if reader is not None and predictor.table is not None:
            aim_table(predictor.table, reader, some)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        length = lengths[int(progress * len(lengths))]
        count = max(1, args.predictor_batch // length)
        n, t = windows.draw(length, count, generator)
        shown = train.tokens[n, t].float(), train.proprio[n, t], train.action[n, t[:, :-1]]
        batch = *shown, share[n[:, 0]], *(part[n, t] for part in told)
        tokens, proprio, action, counts, *readings = distributed.share(*batch, device=args.device)
        truth, known = readings or (None, None)
        noise, weight = args.rollout_noise, args.reading_weight
        return losses.rollout_loss(
            predictor, tokens, proprio, action, generator, noise, weight, reader, truth, known, counts
        )

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        dream, _ = open_loop(model, model_metrics.first(model, held_out), held_out.action)
        errors = model_metrics.rollout_errors(held_out.tokens, dream["tokens"])["predicted"]
        frames = torch.arange(0, steps + 1, 3)
        drawn = model.decode({name: part[0, frames].float() for name, part in dream.items()})["pixels"]
        pictures = strip(torch.from_numpy(np.array(film))[frames], drawn)
        return {f"error_at_{h}": e for h, e in errors.items()} | {"dream": pictures}

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
    """Draws how much each episode counts for every part of an ensemble, `(episodes, ensemble)`.

    Each part counts its own half of the episodes thrice: the parts differ where few episodes tell what happens (a mild
    form of the bootstrap of PETS: Chua et al. 2018, section 4).
    """
    if ensemble == 1:
        return torch.ones(episodes, 1)
    return 0.5 + torch.randint(0, 2, (episodes, ensemble), generator=torch.Generator().manual_seed(seed))


class Windows:
    """Draws windows of episodes in which, more often than not, a cube moves.

    Args:
        cubes: Places of the cubes, `(N, T + 1, cubes, 3)` cm; NaN for one that is not there.
        lengths: Steps that a window may have, T at most.
        share: Share of windows drawn from those in which a cube moves; the others are any.
    """

    def __init__(self, cubes: Tensor, lengths: Sequence[int], share: float) -> None:
        self.episodes, self.frames, self.share = len(cubes), cubes.shape[1], share
        self.moving = {length: moving_windows(cubes, length) for length in set(lengths)}

    def draw(self, length: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws windows of one of the lengths: episodes `(count, 1)` and frames `(count, length + 1)`."""
        n = torch.randint(self.episodes, (count, 1), generator=generator)
        t = torch.randint(self.frames - length, (count, 1), generator=generator)
        moving = self.moving[length]
        if chosen := min(round(self.share * count), count) if len(moving) else 0:
            drawn = torch.randint(len(moving), (chosen,), generator=generator)
            n[:chosen], t[:chosen] = moving[drawn].split(1, dim=1)
        return n, t + torch.arange(length + 1)


def moving_windows(cubes: Tensor, length: int) -> Tensor:
    """Finds the windows of some steps in which a cube moves.

    Args:
        cubes: Places of the cubes, `(N, T + 1, cubes, 3)` cm; NaN for one that is not there.
        length: Steps of a window.

    Returns:
        Episode and first frame of each, `(M, 2)`.
    """
    starts = cubes.shape[1] - length
    halves = [cubes[:, k : k + starts] - cubes[:, :starts] for k in (length // 2, length)]
    return (torch.stack(halves).norm(dim=-1).nan_to_num() > MOVED).any(-1).any(0).nonzero()


def aim_camera(predictor: Predictor, tokens: Tensor, proprio: Tensor) -> None:
    """Aims the hand camera at the middle of what changes in the map between two frames.

    Args:
        predictor: The predictor.
        tokens: Encoded episodes `(N, T + 1, tokens, C)` float32.
        proprio: Their set-points `(N, T + 1, 4)`.
    """
    change = tokens.diff(dim=1).square().mean(-1).flatten(0, 1)
    total = change.sum(1, keepdim=True)
    moving = total[:, 0] > total.median()
    centers = (change @ predictor.position / total.clamp_min(1e-6))[moving]
    between = ((proprio[:, 1:] + proprio[:, :-1]) / 2).flatten(0, 1)[moving]
    predictor.camera.fit(between, centers)


@torch.no_grad()
def aim_table(table: Camera, reader: StateEstimator, some: EncodedDataset) -> None:
    """Aims the camera that marks the cubes at where the reader looks for them.

    Of a color's looks it takes the one that moves about most: another may rest on the background.
    """
    looks = reader.looks_at(some.tokens.flatten(0, 1).float())
    readings, known = (part.flatten(0, 1) for part in true_readings(some))
    places, present = cubes(readings), cubes(known.float())[..., 0] > 0
    seen: list[Tensor] = []
    for color in range(len(COLORS)):
        centers = looks[present[:, color], color]
        seen.append(centers[:, centers.var(0).sum(-1).argmax()])
    table.fit(places.transpose(0, 1)[present.T], torch.cat(seen))
