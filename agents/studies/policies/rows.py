"""Trains the policies of the study, evaluates them, and saves both; a cell is one policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.clone.kinds import KINDS
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.policies import registry
from dream_env.agents.studies.policies import one_network
from dream_env.agents.studies.policies.arguments import SIZES, Arguments
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

FIGURES = "figures.json"
"""File of a cell's parameters, training time and time per action."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        what: One-line description.
        kind: Kind of policy for `agents.clone`.
        options: Options of `agents.clone`, in addition to those of all rows.
        control: Row that is the same without the world model's contribution; gains are computed over it.
        practised: Whether the policy of row `begins` is practiced in the dream, instead of cloning one.
        begins: Row whose policies practice starts from.
        make: Function that trains the policy of a cell in another way, into its folder policy/, and returns the CPU
            minutes.
        is_world: Whether the policy's folder is also the world model that encodes its observations.
    """

    what: str
    kind: str = "transformer"
    options: Mapping[str, Any] = field(default_factory=dict)
    control: str | None = None
    practised: bool = False
    begins: str = "plain"
    make: Callable[[Cell, Arguments], float] | None = None
    is_world: bool = False


ROWS: dict[str, Row] = {
    "plain": Row("the general VLA, cloned from the demonstrations alone"),
    "latent": Row(
        "foresees the embedding 8 steps on, learned from all episodes; nothing of it runs in acting",
        "latent",
        {"future_weight": 0.5},
        control="plain",
    ),
    "latent, no world loss": Row(
        "latent, without what it foresees: of the same weights as plain", "latent", {"future_weight": 0.0}
    ),
    "plain, hindsight": Row(
        "the plain one that also learns from all episodes which actions led where", options={"hindsight": 0.5}
    ),
    "plain, successes": Row(
        "the plain one that also clones, half of every batch, what was done in the other episodes that succeeded",
        options={"share": 0.5},
    ),
    "video": Row(
        "generates the embedding 8 steps on, learned from episodes that succeeded, and acts to get there",
        "video",
        {},
        control="plain, hindsight",
    ),
    "latent, hindsight": Row(
        "latent that also learns from all episodes which actions led where",
        "latent",
        {"future_weight": 0.5, "hindsight": 0.5},
        control="plain, hindsight",
    ),
    "video, one pass": Row(
        "video, with one pass of the generator, about the mean of the futures",
        "video",
        {"feature": "onepass"},
        control="plain, hindsight",
    ),
    "video, demonstrations": Row(
        "video, with a generator that learned from the demonstrations alone",
        "video",
        {"videos": "demonstrations"},
        control="plain, hindsight",
    ),
    "video, own dynamics": Row(
        "video, acting by the generated next set-points of the hand", "video", {"displaced": "proprio"}
    ),
    "plain, dream RL": Row("the plain one, practiced in the dream by the distance to the goal", practised=True),
    "latent, dream RL": Row(
        "latent, practiced in the dream by the distance to the goal", practised=True, begins="latent"
    ),
    "unified": Row(
        "predicts next tokens of all episodes and actions of the demonstrations, one network",
        make=one_network.unified,
        control="unified, no world loss",
        is_world=True,
    ),
    "unified, no world loss": Row("unified, without next tokens", make=one_network.alone, is_world=True),
    "fused": Row(
        "one network, taught by the plain one after dream RL and by its dreams",
        make=one_network.fused,
        control="plain, dream RL",
        is_world=True,
    ),
}
"""Rows by name; add new rows here, see `Row.make`."""


def cells(args: Arguments) -> Iterator[Cell]:
    """Yields the cells of a run: seed by seed, with all rows for each number of demonstrations."""
    for seed in args.seeds:
        for demos in args.demos:
            yield from (Cell(row, demos, seed) for row in args.policies)


def found(group: Path) -> dict[Cell, list[EpisodeResult]]:
    """Returns all finished cells of a group with their episodes, in the order of `ROWS`."""
    demos = sorted(int(path.name.removeprefix("demos")) for path in group.glob("demos*"))
    seeds = range(
        1 + max((int(path.parent.name.rpartition("-")[2]) for path in group.glob(f"*/*/{EPISODES}")), default=0)
    )
    every = (Cell(row, count, seed) for count in demos for row in ROWS for seed in seeds)
    return {cell: episodes for cell in every if (episodes := cell.played(group))}


@lru_cache(maxsize=1)
def recorded(data: tuple[Path, ...], tasks: tuple[str, ...], most: int, others: int) -> EpisodeDataset:
    """Returns the first `most` demonstrations of each task, and `others` other episodes spread evenly over the data.

    Raises:
        ValueError: If there are too few demonstrations.
    """
    everything = EpisodeDataset.load(*data)
    among = np.isin(everything.task, tasks)
    demo = everything.kind == "demo"
    rows = [np.flatnonzero((everything.task == task) & demo)[:most] for task in tasks]
    if short := [task for task, own in zip(tasks, rows, strict=True) if len(own) < most]:
        raise ValueError(f"demos={most}: data hold fewer demonstrations of {short[0]}; accepted: as many as there are")
    rest = np.flatnonzero(among & ~demo)
    spread = np.unique(np.linspace(0, len(rest) - 1, min(others, len(rest))).round().astype(int))
    return everything.take(np.sort(np.concatenate([*rows, rest[spread]])))


def episodes_of(cell: Cell, args: Arguments) -> EpisodeDataset:
    """Returns the training episodes of a cell."""
    episodes = recorded(args.data, args.tasks, max(args.demos), args.others)
    if cell.demos < max(args.demos):  # no row uses further demonstrations
        keep = episodes.kind != "demo"
        for task in args.tasks:
            keep[np.flatnonzero((episodes.kind == "demo") & (episodes.task == task))[: cell.demos]] = True
        episodes = episodes.take(keep)
    return episodes


def cloned(cell: Cell, args: Arguments) -> float:
    """Clones the policy of a cell, and returns the CPU minutes."""
    row = ROWS[cell.row]
    arguments, command = (import_module(name) for name in KINDS[row.kind])
    given: dict[str, Any] = {"per_task": cell.demos, "seed": cell.seed, "updates": args.updates, "goal": args.goal}
    given |= {"imitates": "expert", "tasks": args.tasks, "world_model": args.world_model, **SIZES, **row.options}
    share = row.options.get("share", 0.0)
    folders = args.data[:1] * (2 if share else 1)  # the episodes themselves are passed below
    clone_args = arguments.Arguments(data=folders, out=cell.folder(args.group) / "policy", **given)
    episodes = episodes_of(cell, args)
    before = time.process_time()
    data = [episodes, episodes.take(episodes.kind != "demo")] if share else [episodes]
    clone(clone_args, data, checkpoint.load(args.world_model), command.Cloning)
    return (time.process_time() - before) / 60


def practised(cell: Cell, args: Arguments) -> float:
    """Practices the policy of another row in the dream, and returns the CPU minutes of cloning and practice."""
    from dream_env.agents.train.arguments import Arguments as Practice
    from dream_env.agents.train.command import train
    from dream_env.agents.train.learners import make_env

    begins = replace(cell, row=ROWS[cell.row].begins)
    made(begins, args)
    before = time.process_time()
    practice = Practice(
        out=cell.folder(args.group) / "policy",
        init=str(begins.folder(args.group) / "policy"),
        world_model=args.world_model,
        task=args.tasks[0] if len(args.tasks) == 1 else "all",
        reward="energy",
        steps=args.practice,
        validation_episodes=0,
        validate_every=args.practice,
        seed=cell.seed,
    )
    train(practice, make_env(practice), None, progress=False)
    return made(begins, args) + (time.process_time() - before) / 60


def made(cell: Cell, args: Arguments) -> float:
    """Trains the policy of a cell unless it exists, saves the CPU minutes, and returns them."""
    file = cell.folder(args.group) / "minutes.json"
    if not file.is_file():
        row = ROWS[cell.row]
        make = row.make or (practised if row.practised else cloned)
        write_json(file, make(cell, args))
    return float(json.loads(file.read_text(encoding="utf-8")))


def run(cell: Cell, args: Arguments) -> None:
    """Trains and evaluates a cell, unless it is finished."""
    folder = cell.folder(args.group)
    if (folder / EPISODES).is_file():
        return
    minutes = made(cell, args)
    policy = registry.load(folder / "policy")
    world = str(folder / "policy") if ROWS[cell.row].is_world else args.world_model
    seen = policy.base.parameters() if ROWS[cell.row].is_world else ()  # the encoder, which is not counted in any row
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    results: list[EpisodeResult] = []
    for task in args.tasks:
        for seed in progress_bar(seeds, f"{cell.row}, {task}", unit="episode", leave=False):
            batch = Batch(str(folder / "policy"), cell.row, "physics", task, (seed,), world)
            results += play(batch)
    times = [one.milliseconds for one in results if one.milliseconds is not None]
    figures = {
        "parameters": sum(part.numel() for part in policy.parameters()) - sum(part.numel() for part in seen),
        "train_cpu_minutes": round(minutes, 3),
        "ms_per_action": round(float(np.median(times)), 3),
    }
    write_json(folder / FIGURES, figures)
    save_results(results, folder / EPISODES)
