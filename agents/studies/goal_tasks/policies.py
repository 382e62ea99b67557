"""Trains and evaluates the policies; a cell is a method, a number of demonstrations, and a training seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from dream_env.agents.clone.transformer_arguments import Arguments as Clone
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import save_results
from dream_env.agents.evaluate.command import Settings, evaluate
from dream_env.agents.studies.goal_tasks.arguments import EVERY_SEED, SHIFTED, Arguments
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json
from dream_env.world_models import checkpoint

DREAMS = 128
"""Parallel dreams in practice: half the usual number, since episodes are nearly twice as long."""
PHYSICS_ENVS = 16
"""Parallel physics environments for practice in physics, one process each."""


def cells(args: Arguments) -> Iterator[Cell]:
    """Yields the cells by importance: clones and practice before the controls."""
    every, once = ([m for m in args.methods if (m in EVERY_SEED) == often] for often in (True, False))
    for demos in args.demos:
        yield from (Cell(method, demos, seed) for seed in args.seeds for method in every)
    yield from (Cell(method, args.demos[0], args.seeds[0]) for method in once)


def parts(cell: Cell) -> tuple[str, str]:
    """Returns the policy and the condition of a cell; the condition is empty for the standard one."""
    policy, _, condition = cell.row.partition("/")
    return policy, condition


def play(cell: Cell, args: Arguments) -> None:
    """Trains and evaluates a cell, unless it is finished."""
    file = cell.folder(args.work) / EPISODES
    if file.is_file():
        return
    policy, (_, condition) = make(cell, args), parts(cell)
    settings = Settings(
        {cell.row: str(policy)},
        args.tasks,
        args.episodes,
        args.first_seed,
        args.world_model,
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
    practise(cell, args, out) if cell.row in ("dream", "physics") else imitate(cell, args, out)
    write_json(out.parent / "minutes.json", round((time.process_time() - began) / 60, 2))
    return out


def imitate(cell: Cell, args: Arguments, out: Path) -> None:
    """Clones the demonstrations of all tasks together."""
    form = Clone(
        args.data,
        out,
        world_model=args.world_model,
        per_task=cell.demos,
        imitates="expert",
        goal=cell.row == "clone",
        hindsight=args.hindsight,
        std=args.std,
        noise=args.noise,
        language="sentence",
        depth=1,
        latents=4,
        updates=args.updates,
        seed=cell.seed,
    )
    clone(form, [_episodes(args.data)], checkpoint.load(args.world_model))


def practise(cell: Cell, args: Arguments, out: Path) -> None:
    """Practises the clone in the dream, or in physics for as many steps as the data contain."""
    physics = cell.row == "physics"
    form = Practice(
        out=out,
        init=str(make(Cell("clone", cell.demos, cell.seed), args)),
        world_model=args.world_model,
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
    train.train(form, train.make_env(form), None)


@lru_cache(maxsize=1)
def _episodes(data: tuple[Path, ...]) -> EpisodeDataset:
    return EpisodeDataset.load(*data)
