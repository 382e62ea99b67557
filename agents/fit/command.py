"""Fits the default world model to recorded episodes: `python -m agents.fit --data DIR --out DIR`.

Stages, each on the frozen result of those before: the auto-encoder; a reader of the situation; the predictor, first its
sketch of the arm and what moves the cubes, then all of it; the success head and the metric, on encoded and on dreamt
states, so that they are right where they are used. A killed run goes on when the same command is given again.

Several processes, on one machine or more, fit one model: see `dream_env.agents.fit.distributed`.

With 0 updates a stage keeps what --init has, so a single one can be fitted anew, or a metric added to an old model:
`--init CHECKPOINT --autoencoder-updates 0 --predictor-updates 0 --success-updates 0`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor

from dream_env.agents import model_metrics
from dream_env.agents.fit import distributed, dynamics, stages
from dream_env.agents.fit.calibrate import calibrate_disagreement, calibrate_success
from dream_env.agents.fit.card import card
from dream_env.agents.fit.hindsight import Hindsight
from dream_env.agents.fit.joint import joint_stage
from dream_env.agents.fit.pairs import Pairs, own_steps
from dream_env.agents.fit.trainer import Run
from dream_env.agents.gate.order import metric_figures
from dream_env.agents.latents import Episodes, Latents, encode_episodes
from dream_env.agents.outcomes import write_text
from dream_env.agents.phrasings import sentences
from dream_env.bank import StartBank
from dream_env.contract import check_choice
from dream_env.episodes import KINDS, EpisodeDataset
from dream_env.language import COLORS
from dream_env.world_models import checkpoint
from dream_env.world_models.latent import PREDICTOR, LatentConfig, LatentWorldModel

SHARES = {
    "autoencoder": 0.2,
    "reader": 0.07,
    "sketch": 0.05,
    "interaction": 0.16,
    "predictor": 0.36,
    "success": 0.1,
    "metric": 0.06,
}
"""Parts of `--minutes` that the stages get; those of stages without updates go to the others."""
Objective = Literal["pixels", "latent", "both"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Arguments:
    """Fits a world model to recorded episodes: auto-encoder, predictor, success head, metric."""

    data: tuple[Path, ...]
    """Folders of the episodes, written by `python -m agents.collect`."""
    out: Path
    """Folder of the checkpoint, of metrics.json, the curves (tensorboard/) and the run's state (last/)."""
    init: Path | None = None
    """Checkpoint to start from, with its architecture; None starts from random weights. With
    --autoencoder-updates 0 the embedding stays what it was, so policies keep their eyes."""
    new_predictor: bool = False
    """With --init: makes the predictor anew, by --model; all else stays what it was, as do policies that see by it."""
    autoencoder: Path | None = None
    """Checkpoint whose auto-encoder is kept as it is, while the rest is made anew with --model."""
    kinds: str | None = None
    """Kinds of episodes to train on, separated by commas; None takes all. Those held out are of all kinds."""
    episodes: int | None = None
    """Number of episodes to draw --kinds from; None takes all but those held out."""
    objective: Objective = "pixels"
    """What the encoder learns from: drawing its pictures; predicting its own tokens, some steps ahead, together with
    the predictor, while the decoder only looks on; or both."""
    minutes: float | None = None
    """Length of the fit in minutes instead of updates; such a run cannot be repeated exactly."""
    cpu_time: bool = False
    """Counts --minutes in CPU time of this process, whatever else the machine is doing."""
    autoencoder_updates: int = 1200
    """Updates of the auto-encoder; 0 keeps that of --init."""
    reader_updates: int = 3000
    """Updates of the reader on encoded frames; 0 keeps that of --init."""
    sketch_updates: int = 800
    """Updates of a new predictor's sketch of the arm, before the rest of it."""
    interaction_updates: int = 1500
    """Updates of what moves the cubes in a predictor that is trained, before the rest of it."""
    predictor_updates: int = 2000
    """Updates of the predictor; 0 keeps that of --init."""
    success_updates: int = 6000
    """Updates of the success head; 0 keeps that of --init."""
    metric_updates: int = 2500
    """Updates of the metric; 0 keeps that of --init."""
    autoencoder_batch: int = 64
    """Pictures per update."""
    reader_batch: int = 512
    """Frames per update."""
    sketch_batch: int = 512
    """Pairs of frames per update."""
    interaction_batch: int = 2048
    """Steps of the cubes per update: windows times their length."""
    predictor_batch: int = 512
    """Predicted steps per update: windows times their length."""
    success_batch: int = 256
    """States per update, half encoded and half dreamt."""
    metric_batch: int = 512
    """Pairs of a state and a goal per update, half of the states dreamt; half as many mixed situations come to them."""
    interaction_horizons: tuple[int, ...] = (4, 8, 16, 24)
    """Lengths of the interaction's rollouts, for equal parts of the stage."""
    horizons: tuple[int, ...] = (2, 4, 8, 12)
    """Lengths of the predictor's rollouts, for equal parts of the stage."""
    recolor: int = 1
    """How often reader, predictor, success head and metric see every episode again with its cubes in other colors, 0 to
    3: what happens to a cube does not depend on its color. 0 for pictures in which more than the cubes is colored."""
    moving: float = 0.5
    """Share of the predictor's windows that are drawn from those in which a cube moves; the others are any."""
    reading_weight: float = 3.0
    """Weight of what the reader reads off predicted tokens, beside the tokens' own error."""
    pixel_weight: float = 16.0
    """Weight of pixels that differ from the background."""
    placing_weight: float = 0.3
    """Weight of what a reader reads off the encoder's tokens, beside the pictures: where hand and cubes are."""
    token_noise: float = 0.1
    """Noise on the tokens that the decoder sees."""
    rollout_noise: float = 0.05
    """Noise on the first tokens of a rollout."""
    autoencoder_rate: float = 2e-3
    """Peak learning rate of the auto-encoder."""
    reader_rate: float = 6e-3
    """Peak learning rate of the reader."""
    sketch_rate: float = 3e-2
    """Peak learning rate of the sketch."""
    interaction_rate: float = 1.2e-2
    """Peak learning rate of the interaction."""
    predictor_rate: float = 1.2e-2
    """Peak learning rate of the predictor."""
    success_rate: float = 3e-3
    """Peak learning rate of the success head."""
    metric_rate: float = 3e-3
    """Peak learning rate of the metric."""
    average: float = 0.995
    """Decay of the averaged weights that are kept."""
    held_out: float = 0.05
    """Part of the episodes that is measured on and not trained on."""
    test: Path | None = None
    """Folder of other episodes to take the final figures on; None takes the held-out ones."""
    false_positives: float = 0.015
    """Rate of false alarms in dreamt states at which success_threshold is set, in the task with the most of them; less
    than the 2 % that `agents.fidelity` asks for, as other episodes may have more."""
    probe_updates: int = 500
    """Updates of each probe of the final measurement."""
    bank: int = 300
    """Episodes per task whose starts and goals are kept beside the weights, for dreams to begin with."""
    seed: int = 0
    """Seed of weights, batches and split."""
    split_seed: int | None = None
    """Seed of the split into episodes to train on and held-out ones; None takes --seed."""
    processes: int = 1
    """Processes on this machine that share the work, with the curves of one; as many as there are idle cores. Several
    machines: `torchrun`, see docs/scaling.md."""
    threads: int | None = None
    """Threads of torch in each process; None takes two for a process that is alone, and one for each of several."""
    device: Device = "cpu"
    """Device of the updates; episodes are encoded, and the model measured, on the CPU."""
    bfloat16: bool | None = None
    """Trains in mixed precision; None does so where the processor has instructions for it, or on a GPU."""
    muon: bool = True
    """Trains matrices by Muon; False takes AdamW for everything."""
    model: LatentConfig = field(default_factory=LatentConfig)
    """Architecture; with --init only of a new predictor, and of the metric, which is made anew where it differs."""

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run, JSON-able."""
        values = {k: v for k, v in asdict(self).items() if k not in ("out", "processes", "threads", "device")}
        paths = {name: str(getattr(self, name)) for name in ("init", "autoencoder", "test")}
        return values | paths | {"data": [str(folder.resolve()) for folder in self.data]}

    def updates(self, stage: str) -> int:
        """Returns the updates of a stage; 0 leaves it out."""
        trained = (self.init and not self.new_predictor) or not self.predictor_updates
        kept = {
            "autoencoder": self.autoencoder,
            "sketch": trained,
            "interaction": not self.predictor_updates,
        }
        return 0 if kept.get(stage) else int(getattr(self, f"{stage}_updates"))

    def share(self, stage: str) -> float | None:
        """Returns the minutes of a stage; None where it counts updates."""
        if self.minutes is None or not self.updates(stage):
            return None
        return self.minutes * SHARES[stage] / sum(SHARES[each] for each in SHARES if self.updates(each))


class Fitted(NamedTuple):
    """A world model after its last stage, and what to measure it on.

    Attributes:
        model: The world model, in eval mode.
        train: Episodes it was trained on.
        held_out: Episodes that are measured on.
        steps: True steps to go of these, `(N, T + 1)`.
        tasks: Names of their tasks, N of them.
        minutes: How long each stage took.
    """

    model: LatentWorldModel
    train: Latents
    held_out: Latents
    steps: Tensor
    tasks: np.ndarray
    minutes: dict[str, float]


def split(args: Arguments, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """Returns which episodes are trained on and which are held out; what is held out depends on data and seed alone.

    Raises:
        ValueError: If there are fewer than two episodes, a kind is unknown, or there is none to train on.
    """
    count = len(episodes.images)
    if count < 2:
        raise ValueError(f"data={_names(args.data)} holds {count} episodes; accepted: at least 2")
    seed = args.seed if args.split_seed is None else args.split_seed
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    held = max(1, round(args.held_out * count))
    rows = order[held:][: args.episodes]
    if args.kinds is not None:
        kinds = args.kinds.split(",")
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
    encode: Callable[[LatentWorldModel, Episodes, Tensor, int], Latents] = encode_episodes,
) -> Fitted:
    """Trains a world model through its stages; `args.out` gets the run's state and its curves.

    Args:
        args: See `Arguments`.
        episodes: The data; `args.data` only names it.
        save_seconds: Time between two saves of the run's state.
        encode: Encodes the episodes of some rows, see `encode_episodes`.

    Raises:
        ValueError: If the data are too few, --init or --autoencoder do not fit, or `args.out` holds a run with other
            settings.
    """
    check_choice("objective", args.objective, Objective)
    check_choice("recolor", args.recolor, range(len(COLORS)))
    check_choice("device", args.device, Device)
    rows, held_rows = split(args, episodes)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads or (2 if distributed.world() == 1 else 1))
    model = _initial(args)
    run = Run(
        model,
        args.out,
        args.settings(),
        seed=args.seed,
        bfloat16=args.bfloat16,
        save_seconds=save_seconds,
        cpu_time=args.cpu_time,
        device=args.device,
        muon=args.muon,
    )
    if (interaction := model.predictor.interaction) is not None:
        interaction.requires_grad_(False)  # only its own stage trains it
    first = stages.autoencoder_stage if args.objective == "pixels" else joint_stage
    run.train(first(args, model, episodes, rows, held_rows))
    model.eval()

    def encoded(rows: Tensor, recolored: int = 0) -> Latents:
        return Latents(*distributed.spread(lambda own: encode(model, episodes, own, recolored), rows))

    again = args.recolor if any(map(args.updates, ("reader", "predictor", "success", "metric"))) else 0
    colorful = Latents.concatenate([encoded(rows, places) for places in range(again + 1)])
    latents, held_out = colorful.take(slice(len(rows))), encoded(held_rows)
    seen: Tensor | None = None
    if (reader := model.reader) is not None:
        run.train(stages.reader_stage(args, reader, colorful, held_out))
        reader.requires_grad_(False)
        model.eval()
        every = torch.arange(len(colorful.tokens))
        (seen,) = distributed.spread(lambda some: [stages.read(reader, colorful.tokens[some])], every)
    if (sketch := model.predictor.sketch) is not None:
        run.train(dynamics.sketch_stage(args, model.predictor, latents, held_out))
        sketch.requires_grad_(False)  # from here on
        model.eval()
    if interaction is not None and reader is not None and seen is not None:
        run.train(dynamics.interaction_stage(args, interaction, reader, colorful, seen, held_out))
        interaction.requires_grad_(False)
        model.eval()
    run.train(dynamics.predictor_stage(args, model, colorful, held_out, episodes.images[int(held_rows[0])]))
    model.eval()
    steps, tasks = own_steps(episodes, held_rows), episodes.task[held_rows.numpy()]
    if args.success_updates or args.metric_updates:
        hindsight = Hindsight(episodes, model.instruction)
        watched = stages.Watched(colorful, seen, stages.dream(model, colorful, len(rows)), held_out)
        if args.success_updates:
            run.train(stages.success_stage(args, model, watched, hindsight, rows))
            model.eval()
        if args.metric_updates:
            pairs = Pairs(episodes, rows, hindsight.conditions)
            run.train(stages.metric_stage(args, model, watched, pairs, steps, tasks))
            model.eval()
    if args.success_updates or args.predictor_updates:
        calibrate_success(model, held_out, tasks, args.false_positives)
    calibrate_disagreement(model, held_out)
    minutes = {name: round(seconds / 60, 4) for name, seconds in run.seconds.items()}
    return Fitted(model, latents, held_out, steps, tasks, minutes)


def fit(args: Arguments, episodes: Episodes, save_seconds: float = 60.0) -> dict[str, Any]:
    """Fits a world model, writes it into `args.out` and returns its figures; arguments and errors as in `train`.

    Of several processes the first alone measures and writes; the others return no figures. `wall_minutes` are those of
    this call, from the first picture encoded to the last figure; a run that was resumed took longer.
    """
    began = time.monotonic()
    model, latents, held_out, steps, tasks, minutes = train(args, episodes, save_seconds)
    if distributed.rank():
        return {}
    torch.set_num_threads(args.threads or 2)  # the others are done
    if args.test:
        other = EpisodeDataset.load(args.test)
        held_out, tasks = encode_episodes(model, other), other.task
        steps = own_steps(other, torch.arange(len(tasks)))
    threshold = model.config.success_threshold
    figures = {
        "episodes": {"train": len(latents.tokens), "held_out": len(held_out.tokens)},
        "parameters": sum(p.numel() for p in model.parameters()),
        **model_metrics.measure(model, latents, held_out, threshold, args.probe_updates),
        "metric": metric_figures(model, held_out, steps, tasks),
        "minutes": minutes,
        "wall_minutes": round((time.monotonic() - began) / 60, 2),
    }
    checkpoint.save(model, args.out, card(args, figures))
    write_text(args.out / "metrics.json", json.dumps(figures, indent=2) + "\n")
    return figures


def _initial(args: Arguments) -> LatentWorldModel:
    """Builds the model that a fit begins with: a new one, or that of --init, with new parts if it is to get them.

    Raises:
        ValueError: If arguments exclude each other, or do not fit the checkpoint.
    """
    if args.new_predictor and not args.init:
        raise ValueError("new_predictor=True without init; accepted: with init, whose other parts are kept")
    if args.init and args.autoencoder:
        raise ValueError(f"init={args.init} with autoencoder={args.autoencoder}; accepted: one of them")
    if args.init:
        trained = checkpoint.load(args.init)
        config, weights = trained.config, trained.state_dict()
        if args.metric_updates:
            reads = trained.success_head.named is not None  # a head that was made without a reader stays without
            interaction = config.interaction if trained.predictor.interaction is not None else 0  # so does a predictor
            metric = {"metric_dim": args.model.metric_dim, "metric_widths": args.model.metric_widths}
            config = replace(config, success_reads=reads, interaction=interaction, **metric)
        if args.new_predictor:
            config = replace(config, **{name: getattr(args.model, name) for name in PREDICTOR})
            weights = {name: value for name, value in weights.items() if not name.startswith("predictor.")}
        model = LatentWorldModel(config)
        fresh = model.state_dict()
        kept = {name for name in weights.keys() & fresh.keys() if weights[name].shape == fresh[name].shape}
        model.load_state_dict({name: weights[name] if name in kept else fresh[name] for name in fresh})
        return model
    model = LatentWorldModel(args.model)
    if model.words:
        model.words.fit(sentence.words for sentence in sentences("train"))
    if args.autoencoder:
        try:
            model.autoencoder.load_state_dict(checkpoint.load(args.autoencoder).autoencoder.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"autoencoder={args.autoencoder} does not fit --model: {error}; accepted: a checkpoint with the same "
                "grid, channels and autoencoder_widths"
            ) from error
    return model


def _names(folders: tuple[Path, ...]) -> str:
    return ", ".join(map(str, folders))


def main(arguments: Arguments | None = None) -> None:
    """Runs the command."""
    args = arguments or tyro.cli(Arguments, prog="python -m agents.fit")
    if args.processes < 1:
        raise ValueError(f"processes={args.processes}; accepted: 1 or more")
    if args.processes > 1:
        distributed.launch(_work, args.processes, replace(args, processes=1))
    else:
        _work(args)


def _work(args: Arguments) -> None:
    """Does a process's part, and writes what it came to if it is the first."""
    episodes = EpisodeDataset.concatenate([EpisodeDataset.load(folder) for folder in args.data])
    with distributed.processes(args.device) as first:
        figures = fit(args, episodes)
    if not first:
        return
    StartBank.from_episodes(episodes, limit=args.bank, seed=args.seed).save(args.out / "bank.npz")
    print(json.dumps(figures, indent=2))
    print(f"World model: {args.out.resolve()}")
