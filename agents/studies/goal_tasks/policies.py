"""Trains and evaluates the policies; a cell is a method, a number of demonstrations, and a training seed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dream_env.agents.clone.transformer_arguments import Arguments as Clone
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.coevolve.arguments import Arguments as Coevolve
from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import save_results
from dream_env.agents.eval.untrained import untrained_dynamics
from dream_env.agents.evaluate.command import Settings, evaluate
from dream_env.agents.studies.goal_tasks.arguments import COMPARED, EVERY_SEED, SHIFTED, Arguments
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json
from dream_env.world_models import checkpoint

DREAMS = 128
"""Parallel dreams in practice: half the usual number, since episodes are nearly twice as long."""
PHYSICS_ENVS = 16
"""Parallel physics environments for practice in physics, one process each."""
CLONES = ("clone", "no goal", "longer cloning")
"""Policies that only imitate."""


def cells(args: Arguments) -> Iterator[Cell]:
    """Yields the cells by importance: clones and practice before the controls."""
    first, *more = args.demos
    compared = [row for row in args.methods if row in COMPARED]
    every, once = ([row for row in args.methods if (row in EVERY_SEED) == often] for often in (True, False))
    yield from (Cell(row, first, seed) for seed in args.seeds for row in every)
    yield from (Cell(row, demos, seed) for demos in more for seed in args.seeds for row in compared)
    yield from (Cell(row, first, args.seeds[0]) for row in once)


def parts(cell: Cell) -> tuple[str, str]:
    """Returns the policy and the condition of a cell; the condition is empty for the standard one."""
    policy, _, condition = cell.row.partition("/")
    return policy, condition


def play(cell: Cell, args: Arguments) -> None:
    """Trains and evaluates a cell, unless it is finished."""
    file = cell.folder(args.work) / EPISODES
    if file.is_file():
        return
    policy, (row, condition) = make(cell, args), parts(cell)
    settings = Settings(
        {cell.row: str(policy)},
        args.tasks,
        args.episodes,
        args.first_seed,
        practised_in(cell, args) if row == "coevolved" else args.world_model,
        instruction="heldout" if condition == "held-out phrasing" else "normal",
        shift=condition if condition in SHIFTED else "none",
        scene="varied" if condition == "varied" else "standard",
        goal="other" if condition == "other goal" else "own",
    )
    save_results(evaluate(settings, args.workers), file)


def make(cell: Cell, args: Arguments) -> Path:
    """Returns the folder of a cell's policy; trains the policy if it does not exist."""
    policy, condition = parts(cell)
    if condition:
        return make(replace(cell, row=policy), args)
    out, began = cell.folder(args.work) / "policy", time.process_time()
    if (out / "config.json").is_file() and (out.parent / "minutes.json").is_file():
        return out
    imitate(cell, args, out) if cell.row in CLONES else practise(cell, args, out)
    write_json(out.parent / "minutes.json", round((time.process_time() - began) / 60, 2))
    return out


def imitate(cell: Cell, args: Arguments, out: Path) -> None:
    """Clones the demonstrations of all tasks together."""
    updates = args.updates
    if cell.row == "longer cloning":
        cloned, practised = (minutes(replace(cell, row=row), args) for row in ("clone", "dream"))
        updates += round(updates * practised / cloned)
    arguments = Clone(
        args.data,
        out,
        world_model=args.world_model,
        per_task=cell.demos,
        imitates="expert",
        goal=cell.row != "no goal",
        hindsight=args.hindsight,
        std=args.std,
        noise=args.noise,
        language="sentence",
        depth=1,
        latents=4,
        updates=updates,
        seed=cell.seed,
    )
    clone(arguments, [_episodes(args.data)], checkpoint.load(args.world_model))


def practise(cell: Cell, args: Arguments, out: Path) -> None:
    """Practices a cell's first policy in its dream, or in physics for as many steps as the data contain."""
    physics = cell.row == "physics"
    first = replace(cell, row="dream" if cell.row == "coevolved" else "clone")
    arguments = Practice(
        out=out,
        init=str(make(first, args)),
        world_model=practised_in(cell, args),
        reward=args.reward,
        world="real" if physics else "dream",
        steps=(args.physics_steps or int(_episodes(args.data).lengths.sum())) if physics else args.steps,
        n_envs=PHYSICS_ENVS if physics else DREAMS,
        kl_coef=args.kl_coef,
        temperature=args.temperature,
        validate_every=10_000 if physics else 100_000,
        validation_episodes=0,
        seed=cell.seed,
    )
    train.train(arguments, train.make_env(arguments), None)


def practised_in(cell: Cell, args: Arguments) -> str:
    """Returns the world model that a cell's policy practices in; makes it if it is not the given one."""
    folder = cell.folder(args.work)
    if cell.row == "untrained dream":
        return str(untrained_dynamics(args.world_model, cell.seed, folder / "world_model"))
    if cell.row == "coevolved":
        policy, count = make(replace(cell, row="dream"), args), args.coevolved_episodes
        how: dict[str, Any] = {"updates": args.refit_updates, "workers": args.workers, "seed": cell.seed}
        refit = Coevolve(policy, args.data, folder / "coevolution", args.world_model, count, **how)
        return str(coevolve.record_and_refit(refit))
    return args.world_model


def minutes(cell: Cell, args: Arguments) -> float:
    """Returns the minutes of CPU time that a cell's policy took to train, without the policy that it began with."""
    return float(json.loads((make(cell, args).parent / "minutes.json").read_text()))


@lru_cache(maxsize=1)
def _episodes(data: tuple[Path, ...]) -> EpisodeDataset:
    return EpisodeDataset.load(*data)
