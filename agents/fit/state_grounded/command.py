"""Fits a world model to recorded episodes: `python -m agents.fit --data DIR --out DIR`.

This kind of world model, state_grounded, is the default for NICOL and uses labels from its simulator; `--model` selects
another kind: dynamics (the default for other environments), slots, vmc or unified. It is trained in stages, each on the
frozen result of the stages before: the auto-encoder; the state estimator; the arm renderer; the object dynamics; the
predictor; then the painter, the success head and the metric, which are trained on both encoded states and states of
rollouts, because they are used on both. Give the same command again to resume a run that was killed.

Several processes, on one or more machines, can fit one model: see `dream_env.agents.fit.distributed`. With --init, a
stage with 0 updates keeps its part of that model, so that a single stage can be trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.eval.rank_correlation import metric_figures
from dream_env.agents.fit import distributed
from dream_env.agents.fit.peak import peak_memory
from dream_env.agents.fit.state_grounded import dynamics, stages
from dream_env.agents.fit.state_grounded.arguments import Arguments, Device
from dream_env.agents.fit.state_grounded.calibrate import calibrate_disagreement, calibrate_success
from dream_env.agents.fit.state_grounded.card import card
from dream_env.agents.fit.state_grounded.hindsight import Hindsight
from dream_env.agents.fit.state_grounded.joint import joint_stage
from dream_env.agents.fit.state_grounded.painting import WIDTH, painter_stage
from dream_env.agents.fit.state_grounded.pairs import Pairs, own_steps
from dream_env.agents.fit.trainer import CHECKSUM, Run
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, Episodes, encode_episodes
from dream_env.agents.nicol.sentences import sentences
from dream_env.agents.run.config import check_out
from dream_env.checks import check_choice
from dream_env.files import write_text
from dream_env.initial_states import FILE
from dream_env.nicol.episodes import KINDS, EpisodeDataset
from dream_env.nicol.initial_states import from_episodes
from dream_env.nicol.tasks import TASKS
from dream_env.nicol.world_model.config import DYNAMICS
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.world_models import checkpoint


class Fitted(NamedTuple):
    """A world model after its last stage, and the data to measure it on.

    Attributes:
        model: The world model, in eval mode.
        train: Training episodes, encoded.
        held_out: N held-out episodes, encoded.
        steps: True steps to go in the held-out episodes, `(N, T + 1)`.
        tasks: Names of the tasks of the held-out episodes, `(N,)`.
        minutes: Duration of each stage in minutes.
    """

    model: StateGroundedModel
    train: EncodedDataset
    held_out: EncodedDataset
    steps: Tensor
    tasks: np.ndarray
    minutes: dict[str, float]


def split(args: Arguments, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """Returns the indices of training and of held-out episodes; the latter depend only on the data and the seed.

    Raises:
        ValueError: If there are fewer than two episodes, a kind is unknown, or none is left to train on.
    """
    count = len(episodes.images)
    if count < 2:
        raise ValueError(f"data={_names(args.data)} holds {count} episodes; accepted: at least 2")
    seed = args.seed if args.split_seed is None else args.split_seed
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    held = max(1, round(args.held_out * count))
    if held == count:
        raise ValueError(f"held_out={args.held_out} leaves none of {count} episodes to train on; accepted: less")
    rows = order[held:][: args.episodes]
    if args.kinds is not None:
        kinds = [kind.strip() for kind in args.kinds.split(",")]
        for kind in kinds:
            check_choice("kinds", kind, KINDS)
        rows = rows[torch.from_numpy(np.isin(episodes.kind[rows.numpy()], kinds))]
        if not len(rows):
            raise ValueError(f"kinds={args.kinds} leaves no episode to train on; accepted: kinds that are in the data")
    return rows, order[:held]


def train(
    args: Arguments,
    episodes: Episodes,
    save_seconds: float = 60.0,
    encode: Callable[[StateGroundedModel, Episodes, Tensor, int], EncodedDataset] = encode_episodes,
) -> Fitted:
    """Trains a world model through all stages, and writes the state of the run and its curves to `args.out`.

    Args:
        args: See `Arguments`.
        episodes: The data; `args.data` only names it.
        save_seconds: Seconds between two saves of the run's state.
        encode: Encodes the episodes at given rows, see `encode_episodes`.

    Raises:
        ValueError: If there are too few episodes, --init or --autoencoder do not fit, or `args.out` holds something
            else or a run with other settings.
    """
    check_out(args.out, StateGroundedModel.kind, *args.data, args.init, args.autoencoder, args.test)
    check_tasks(episodes.task.tolist())
    check_choice("device", args.device, Device)
    rows, held_rows = split(args, episodes)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads or (2 if distributed.world() == 1 else 1))
    model = _initial(args)
    run = Run(
        model,
        args.out,
        # Another number is split differently.
        args.settings() | {"recorded": len(episodes.images), CHECKSUM: episodes.checksum},
        seed=args.seed,
        bfloat16=args.bfloat16,
        save_seconds=save_seconds,
        cpu_time=args.cpu_time,
        device=args.device,
        muon=args.muon,
    )
    model.object_dynamics.requires_grad_(False)  # only its own stage trains it
    first = stages.autoencoder_stage if args.objective == "pixels" else joint_stage
    run.train(first(args, model, episodes, rows, held_rows))
    model.eval()

    def encoded(rows: Tensor, recolored: int = 0) -> EncodedDataset:
        return EncodedDataset(*distributed.spread(lambda own: encode(model, episodes, own, recolored), rows))

    again = args.recolor if any(map(args.updates, ("state_estimator", "predictor", "success", "metric"))) else 0
    colorful = EncodedDataset.concatenate([encoded(rows, places) for places in range(again + 1)])
    latents, held_out = colorful.take(slice(len(rows))), encoded(held_rows)
    estimator = model.state_estimator
    run.train(stages.state_estimator_stage(args, estimator, colorful, held_out))
    estimator.requires_grad_(False)
    model.eval()
    every = torch.arange(len(colorful.tokens))
    (estimated,) = distributed.spread(lambda some: [stages.estimate(estimator, colorful.tokens[some])], every)
    if (renderer := model.predictor.arm_renderer) is not None:
        run.train(dynamics.arm_renderer_stage(args, renderer, latents, held_out))
        renderer.requires_grad_(False)  # from here on
        model.eval()
    run.train(dynamics.object_dynamics_stage(args, model, colorful, estimated, held_out))
    model.object_dynamics.requires_grad_(False)
    model.eval()
    run.train(dynamics.predictor_stage(args, model, colorful, held_out, episodes.images[int(held_rows[0])]))
    model.eval()
    if args.painter_updates:
        run.train(painter_stage(args, model, episodes, rows, latents, held_rows))
        model.eval()
    steps, tasks = own_steps(episodes, held_rows), episodes.task[held_rows.numpy()]
    if args.success_updates or args.metric_updates:
        hindsight = Hindsight(episodes, model.instruction)
        states = stages.States(colorful, estimated, stages.dream(model, colorful, len(rows)), held_out)
        if args.success_updates:
            run.train(stages.success_stage(args, model, states, hindsight, rows))
            model.eval()
        if args.metric_updates:
            pairs = Pairs(episodes, rows, hindsight.conditions)
            run.train(stages.metric_stage(args, model, states, pairs, steps, tasks))
            model.eval()
    if args.success_updates or args.predictor_updates:
        calibrate_success(model, held_out, tasks, args.false_positives)
    if args.predictor_updates or model.config.disagreement_threshold is None:
        calibrate_disagreement(model, held_out)
    minutes = {name: round(seconds / 60, 4) for name, seconds in run.seconds.items()}
    return Fitted(model, latents, held_out, steps, tasks, minutes)


def check_tasks(tasks: Iterable[str]) -> None:
    """Raises ValueError for tasks whose goal is given only by a picture, as labels do not say how far it is."""
    if refused := sorted({str(task) for task in tasks if str(task) in TASKS and TASKS[str(task)].destinations}):
        raise ValueError(
            f"data hold episodes of {', '.join(refused)}, whose goals are given only by a picture; accepted: data of "
            "other tasks, or --model slots"
        )


def fit(args: Arguments, episodes: Episodes, save_seconds: float = 60.0) -> dict[str, Any]:
    """Fits a world model, writes it to `args.out` and returns its figures; arguments and errors as in `train`.

    With several processes, only the first one measures and writes; the others return an empty dict. `wall_minutes` is
    the duration of this call, which leaves out earlier parts of a resumed run. `peak_memory_gib` is the sum of the peak
    memory of all processes.
    """
    test = EpisodeDataset.load(args.test) if args.test else None  # loaded first, so that errors show before training
    began = time.monotonic()
    with peak_memory() as peak:
        fitted = train(args, episodes, save_seconds)
        own = peak()
        others = distributed.total(own) - own
        if distributed.rank():
            return {}
        torch.set_num_threads(args.threads or 2)  # the other processes are done
        figures = _figures(args, fitted, test)
        figures |= {
            "wall_minutes": round((time.monotonic() - began) / 60, 2),
            "peak_memory_gib": round(others + peak(), 2),
        }
    checkpoint.save(fitted.model, args.out, card(args, figures))
    write_text(args.out / "metrics.json", json.dumps(figures, indent=2) + "\n")
    return figures


def _figures(args: Arguments, fitted: Fitted, test: EpisodeDataset | None) -> dict[str, Any]:
    """Measures a world model on its held-out episodes, or on the episodes of --test."""
    model, latents, held_out, steps, tasks, minutes = fitted
    if test is not None:
        held_out, tasks = encode_episodes(model, test), test.task
        steps = own_steps(test, torch.arange(len(tasks)))
    threshold = model.config.success_threshold
    return {
        "episodes": {"train": len(latents.tokens), "held_out": len(held_out.tokens)},
        "parameters": sum(p.numel() for p in model.parameters()),
        **model_metrics.measure(model, latents, held_out, threshold, args.probe_updates),
        "metric": metric_figures(model, held_out, steps, tasks),
        "minutes": minutes,
    }


def _initial(args: Arguments) -> StateGroundedModel:
    """Returns the model that training starts from: a new one, or that of --init, with new parts where requested.

    Raises:
        ValueError: If the arguments do not fit the checkpoint.
    """
    if args.init:
        trained = checkpoint.load(args.init)
        config, weights = trained.config, trained.state_dict()
        if args.metric_updates:
            config = replace(config, metric_dim=args.model.metric_dim, metric_widths=args.model.metric_widths)
        if args.new_predictor:
            config = replace(config, **{name: getattr(args.model, name) for name in DYNAMICS})
            made = ("predictor.", "object_dynamics.")
            weights = {name: value for name, value in weights.items() if not name.startswith(made)}
        if args.painter_updates and not config.painter_width:
            config = replace(config, painter_width=WIDTH)
        model = StateGroundedModel(config)
        fresh = model.state_dict()
        kept = {name for name in weights.keys() & fresh.keys() if weights[name].shape == fresh[name].shape}
        model.load_state_dict({name: weights[name] if name in kept else fresh[name] for name in fresh})
        return model
    paints = args.painter_updates and not args.model.painter_width
    model = StateGroundedModel(replace(args.model, painter_width=WIDTH) if paints else args.model)
    if model.words:
        model.words.fit(sentence.words for sentence in sentences("train"))
    if args.autoencoder:
        try:
            model.autoencoder.load_state_dict(checkpoint.load(args.autoencoder).autoencoder.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"autoencoder={args.autoencoder} does not fit --model: {error}; accepted: a checkpoint with the same "
                "channels and autoencoder_widths"
            ) from error
    return model


def _names(folders: tuple[Path, ...]) -> str:
    return ", ".join(map(str, folders))


def main(args: Arguments) -> None:
    """Runs the command."""
    if not args.data:  # checked here, because callers of `fit` pass episodes themselves
        raise ValueError("data=(); accepted: one folder or more, written by `python -m agents.collect`")
    if args.processes > 1:
        distributed.launch(_work, args.processes, args)
    else:
        _work(args)


def _work(args: Arguments) -> None:
    """Fits in this process, as one of several or alone; the first process writes the initial states and prints."""
    episodes = EpisodeDataset.load(*args.data)
    with distributed.processes(args.device) as first:
        starts = None
        if first and args.initial_states:  # before training, as it fails without starts
            starts = from_episodes(episodes, limit=args.initial_states, seed=args.seed)
        figures = fit(args, episodes)
    if not first:
        return
    if starts is not None:
        starts.save(args.out / FILE)
    print(json.dumps(figures, indent=2))
    print(f"World model: {args.out.resolve()}")
