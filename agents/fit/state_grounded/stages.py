"""Stages of `agents.fit` for perception (auto-encoder, state estimator) and for the success head and the metric.

Each function returns a `Stage`: the module to train, the loss on random batches, and a report. The stages for motion
are in `dynamics`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.agents.eval.rank_correlation import metric_figures
from dream_env.agents.eval.statistics import auc
from dream_env.agents.fit import distributed
from dream_env.agents.fit.state_grounded import losses
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.hindsight import Hindsight
from dream_env.agents.fit.state_grounded.pairs import PICTURE, Pairs
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, Episodes, recorded_truth, true_object_state
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.state_estimator import HAND, OBJECT_STATE, SCALE, StateEstimator

MOVED = 1.0
"""Distance in cm from its earlier position above which a cube counts as moved."""
HARD = 3 / 8
"""Share of the state estimator's frames that show, in equal parts, a held cube or a moved one. Both are rare, and
harder to estimate than a cube that lies where it was put."""


def autoencoder_stage(
    args: Arguments, model: StateGroundedModel, episodes: Episodes, rows: Tensor, held_rows: Tensor
) -> Stage:
    """Returns the stage that trains the auto-encoder on single pictures of episodes `rows`.

    The state estimator is trained jointly, because reconstruction alone does not make tokens locate the hand as
    precisely as they could.
    """
    autoencoder, estimator = model.autoencoder, model.state_estimator if args.placing_weight else None
    module: nn.Module = autoencoder if estimator is None else nn.ModuleList([autoencoder, estimator])
    truth = () if estimator is None else true_object_state(recorded_truth(episodes, rows.numpy()))

    def pictures(generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
        n = torch.randint(len(rows), (count,), generator=generator)
        frame = torch.randint(episodes.images.shape[1], (count,), generator=generator)
        return torch.from_numpy(episodes.images[rows[n].numpy(), frame.numpy()]), *(part[n, frame] for part in truth)

    def begin() -> None:
        if not args.init:
            autoencoder.prepare(pictures(torch.Generator().manual_seed(args.seed), 400)[0])

    @torch.no_grad()
    def finish() -> None:
        """Fixes the statistics that give the tokens unit variance."""
        autoencoder.train()
        autoencoder.normalize.reset_running_stats()
        autoencoder.normalize.momentum = None  # a plain mean over the batches
        generator = torch.Generator().manual_seed(args.seed)
        for _ in range(20):
            autoencoder.encode(pictures(generator, 100)[0])

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        images, *object_state = distributed.share(*pictures(generator, args.autoencoder_batch), device=args.device)
        weights = args.pixel_weight, args.token_noise, args.placing_weight
        return losses.autoencoder_loss(autoencoder, images, generator, *weights, estimator, *object_state)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        real, drawn = drawn_again(model, episodes, held_rows)
        error = (drawn.float() - real.float()).square().mean().sqrt()
        return {"rms_error_of_255": float(error), "pictures": strip(real, drawn)}

    return Stage(
        "autoencoder",
        module,
        loss,
        args.updates("autoencoder"),
        args.autoencoder_rate,
        args.share("autoencoder"),
        args.average,
        begin,
        finish,
        report,
    )


def state_estimator_stage(
    args: Arguments, estimator: StateEstimator, train: EncodedDataset, held_out: EncodedDataset
) -> Stage:
    """Returns the stage that trains the state estimator on encoded frames, with the simulator's state as the target."""
    truth, known = true_object_state(train)
    episodes, frames = truth.shape[:2]
    away = (train.cubes - train.cubes[:, :1]).norm(dim=-1).nan_to_num() > MOVED
    rare = [each.any(-1).nonzero() for each in (train.held, away)]
    count = round(HARD / len(rare) * args.state_estimator_batch)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        n = torch.randint(episodes, (args.state_estimator_batch,), generator=generator)
        t = torch.randint(frames, (args.state_estimator_batch,), generator=generator)
        for k, shown in enumerate(rare):
            if len(shown):
                part = slice(k * count, (k + 1) * count)
                n[part], t[part] = shown[torch.randint(len(shown), (count,), generator=generator)].T
        batch = train.tokens[n, t].float(), truth[n, t], known[n, t]
        tokens, *true = distributed.share(*batch, device=args.device)
        return losses.object_state_loss(estimator(tokens), *true)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        truth, known = true_object_state(held_out)
        error = (estimator(held_out.tokens.flatten(0, 1).float()) - truth.flatten(0, 1)).abs() * torch.tensor(SCALE)
        known = known.flatten(0, 1)
        return {name: float(error[known[:, i], i].median()) for i, name in enumerate(OBJECT_STATE)}

    return Stage(
        "state_estimator",
        estimator,
        loss,
        args.state_estimator_updates,
        args.state_estimator_rate,
        args.share("state_estimator"),
        args.average,
        report=report,
    )


class Dreams(NamedTuple):
    """Rollouts of the world model from the first frames of training episodes, each in one of its colorings.

    Attributes:
        rows: Indices of the training episodes, `(N,)`.
        tokens: Predicted tokens, `(N, T + 1, tokens, C)` float16.
        object_state: Predicted object states, `(N, T + 1, R)`.
    """

    rows: Tensor
    tokens: Tensor
    object_state: Tensor


class States(NamedTuple):
    """Training and held-out data of the success head and the metric.

    Attributes:
        train: Encoded training episodes: all of them in one coloring, then all in the next.
        estimated: Object states estimated from their tokens, see `estimate`.
        dreams: Rollouts of the world model under the same actions.
        held_out: Held-out episodes, encoded.
    """

    train: EncodedDataset
    estimated: Tensor
    dreams: Dreams
    held_out: EncodedDataset


def dream(model: StateGroundedModel, train: EncodedDataset, count: int) -> Dreams:
    """Rolls out the world model for `count` episodes, under their recorded actions.

    Where a step has several possible outcomes, the rollout takes the recorded one (teacher forcing).

    Args:
        model: The world model.
        train: Encoded episodes: `count` of them in one coloring, then the same in the next. Each rollout uses one of
            the colorings.
        count: Number of episodes.
    """
    rows = torch.arange(count)
    rows = rows + count * (rows % (len(train.tokens) // count))

    def rollouts(rows: Tensor) -> list[Tensor]:
        states = model_metrics.posterior_rollout(model, train.take(rows))
        return [states["tokens"], states["object_state"]]

    return Dreams(rows, *distributed.spread(rollouts, rows))


def success_stage(
    args: Arguments, model: StateGroundedModel, states: States, hindsight: Hindsight, rows: Tensor
) -> Stage:
    """Returns the stage that trains the success head on states, half encoded and half from rollouts.

    The instructions and labels are drawn by `hindsight`, for the episodes `rows`.
    """
    train, estimated, dreams, held_out = states
    colorings, frames = train.condition.shape

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        half = args.success_batch // 2
        n = torch.randint(colorings, (half,), generator=generator)
        k = torch.randint(len(rows), (half,), generator=generator)
        t = torch.randint(frames, (2 * half,), generator=generator)
        tokens = torch.cat([train.tokens[n, t[:half]].float(), dreams.tokens[k, t[half:]].float()])
        object_state = torch.cat([estimated[n, t[:half]], dreams.object_state[k, t[half:]]])
        n = torch.cat([n, dreams.rows[k]])
        instruction, answer = hindsight.ask(rows[n % len(rows)], t, n // len(rows), generator)
        tokens = tokens + args.rollout_noise * torch.randn(tokens.shape, generator=generator)
        # Without the object state half of the time, so that the head also learns to attend to tokens; policies are
        # initialized with that part of it (`agents.clone.vla_clone.ground`).
        object_state = object_state * (torch.rand(2 * half, 1, generator=generator) < 0.5)
        batch = tokens, train.proprio[n, t], instruction, answer, object_state
        return losses.success_loss(model.success_head, *distributed.share(*batch, device=args.device))

    def report() -> dict[str, Any]:
        probability = model_metrics.success_on(model, held_out)
        return {"auc": auc(probability.flatten(), held_out.condition.flatten())}

    return Stage(
        "success",
        model.success_head,
        loss,
        args.success_updates,
        args.success_rate,
        args.share("success"),
        args.average,
        report=report,
    )


def metric_stage(
    args: Arguments, model: StateGroundedModel, states: States, pairs: Pairs, truth: Tensor, tasks: np.ndarray
) -> Stage:
    """Returns the stage that trains the metric on the object states of pairs of a state and a goal.

    Args:
        args: See `Arguments`.
        model: The world model.
        states: Episodes, encoded and as rollouts.
        pairs: Pairs within the training episodes.
        truth: True steps to go in the held-out episodes, `(N, T + 1)`.
        tasks: Tasks of the held-out episodes, `(N,)`.
    """
    train, estimated, dreams, held_out = states
    head, goal, count = model.metric_head, estimate(model.state_estimator, train.goal), len(dreams.rows)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        half = args.metric_batch // 2
        n, t, frame, steps = pairs.draw(2 * half, generator)
        m, hand, cubes, mixed_steps = pairs.mix(half, generator)
        coloring = torch.randint(len(goal) // count, (2 * half,), generator=generator)
        dreamt = n[half:]
        n = torch.cat([n[:half] + count * coloring[:half], dreams.rows[dreamt]])
        m = m + count * coloring[half:]
        starts = torch.cat([estimated[n[:half], t[:half]], dreams.object_state[dreamt, t[half:]]])
        goals = torch.where((frame == PICTURE)[:, None], goal[n], estimated[n, frame])
        mixed = torch.cat([estimated[m, hand, : len(HAND)], estimated[m, cubes, len(HAND) :]], dim=1)
        pair = torch.cat([starts, mixed]), torch.cat([goals, goal[m]]), torch.cat([steps, mixed_steps])
        start, end, steps = distributed.share(*pair, device=args.device)
        vectors, goal_vectors = head(torch.cat([start, end])).chunk(2)
        return losses.metric_loss(vectors, goal_vectors, steps)

    def report() -> dict[str, Any]:
        figures = metric_figures(model, held_out, truth, tasks)
        return {f"{task}_{name}": value for task, row in figures.items() for name, value in row.items()}

    return Stage(
        "metric",
        head,
        loss,
        args.metric_updates,
        args.metric_rate,
        args.share("metric"),
        args.average,
        report=report,
    )


@torch.no_grad()
def estimate(estimator: StateEstimator, tokens: Tensor) -> Tensor:
    """Estimates object states `(..., R)` from tokens `(..., T, C)`."""
    parts = tokens.flatten(0, -3).split(1024)
    return torch.cat([estimator(part.float()) for part in parts]).unflatten(0, tokens.shape[:-2])


def drawn_again(model: StateGroundedModel, episodes: Episodes, rows: Tensor, most: int = 8) -> tuple[Tensor, Tensor]:
    """Returns the middle frames of the first `most` episodes of `rows` and their reconstructions.

    Both are `(F, H, W, 3)` uint8.
    """
    frames = episodes.images[rows[:most].numpy(), episodes.images.shape[1] // 2]
    real = torch.from_numpy(np.array(frames))
    return real, model.decode(model.encode({"pixels": real}))["pixels"]


def strip(real: Tensor, drawn: Tensor) -> np.ndarray:
    """Arranges pictures `(F, H, W, 3)` uint8 in two rows: real ones above, drawn ones below."""
    rows = [torch.cat(list(pictures), dim=1) for pictures in (real, drawn)]
    return torch.cat(rows, dim=0).numpy()
