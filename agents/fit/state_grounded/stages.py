"""The stages of `agents.fit` that learn what is seen, and what it is worth; how it moves: `dynamics`.

Each says what it trains, on which batches, and what it reports on the way.
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
"""A cube that is further than this (cm) from where it was has moved."""
HARD = 3 / 8
"""Share of the state estimator's frames, in equal parts, that show a held cube and one that was moved: both are rare,
and harder to tell than a cube that lies where it was put."""


def autoencoder_stage(
    args: Arguments, model: StateGroundedModel, episodes: Episodes, rows: Tensor, held_rows: Tensor
) -> Stage:
    """Trains the auto-encoder on single pictures of episodes `rows`, and freezes the tokens' statistics.

    The state estimator learns beside it: to draw a picture, a token need not tell the hand's place as well as it could.
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
        """Freezes the statistics that give the tokens unit variance."""
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
    """Trains the state estimator on encoded frames, with recorded truth."""
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
    """Training episodes as they are dreamt from their first frame, each in one of its colorings.

    Attributes:
        rows: Which training episodes, `(N,)`.
        tokens: Their tokens, `(N, T + 1, tokens, C)` float16.
        object_state: Their object states, `(N, T + 1, R)`.
    """

    rows: Tensor
    tokens: Tensor
    object_state: Tensor


class States(NamedTuple):
    """What success head and metric are trained and measured on.

    Attributes:
        train: Encoded episodes, one coloring of all of them after the other.
        estimated: Their object states, see `estimate`.
        dreams: The same episodes, dreamt.
        held_out: Episodes that are only measured on.
    """

    train: EncodedDataset
    estimated: Tensor
    dreams: Dreams
    held_out: EncodedDataset


def dream(model: StateGroundedModel, train: EncodedDataset, count: int) -> Dreams:
    """Dreams `count` episodes that stand in `train` one coloring after the other; of what may come, what came."""
    rows = torch.arange(count)
    rows = rows + count * (rows % (len(train.tokens) // count))

    def some(rows: Tensor) -> list[Tensor]:
        states = model_metrics.posterior_rollout(model, train.take(rows))
        return [states["tokens"], states["object_state"]]

    return Dreams(rows, *distributed.spread(some, rows))


def success_stage(
    args: Arguments, model: StateGroundedModel, states: States, hindsight: Hindsight, rows: Tensor
) -> Stage:
    """Trains the success head on questions about states, seen or dreamt; they are of `rows` of `hindsight`."""
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
        # Half of the time it has to see for itself: policies begin with how it looks (`agents.clone.ground`).
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
    """Trains the metric head on the object states of pairs of a state, seen or dreamt, and a goal.

    Args:
        args: Arguments of the fit.
        model: The world model.
        states: Episodes, encoded and dreamt.
        pairs: Pairs within the training episodes.
        truth: True steps to go of the held-out episodes, `(N, T + 1)`.
        tasks: Their tasks, `(N,)`.
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
    """Returns the middle frames of some episodes, and what the model draws of them, `(F, H, W, 3)` uint8 each."""
    frames = episodes.images[rows[:most].numpy(), episodes.images.shape[1] // 2]
    real = torch.from_numpy(np.array(frames))
    return real, model.decode(model.encode({"pixels": real}))["pixels"]


def strip(real: Tensor, drawn: Tensor) -> np.ndarray:
    """Lays pictures `(F, H, W, 3)` uint8 in a row, the real ones above the drawn ones."""
    rows = [torch.cat(list(pictures), dim=1) for pictures in (real, drawn)]
    return torch.cat(rows, dim=0).numpy()
