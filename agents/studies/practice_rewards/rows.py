"""Trains the policies of the study, evaluates them, and saves both; a cell is one policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import save_results
from dream_env.agents.eval.untrained import untrained_dynamics
from dream_env.agents.evaluate.command import Settings, evaluate
from dream_env.agents.studies.practice_rewards.arguments import CLONE, REWARDS, UNTRAINED, Arguments
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.files import write_json
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.world_models import checkpoint

PHYSICS_ENVS = 16
"""Parallel physics environments, one process each, in the control that practices in physics."""
MOST_CLONED = 1500
"""Largest number of successful episodes to clone; the first ones in the data are taken."""


def cells(args: Arguments) -> Iterator[Cell]:
    """Yields the cells in the order in which they are run: in the given order of demonstrations and seeds."""
    for demos in args.demos:
        yield Cell(CLONE, demos, 0)
        for seed in args.seeds:
            yield from (Cell(name, demos, seed) for name in args.rewards)
        for name in args.controls:
            yield from (Cell(name, demos, seed) for seed in (args.seeds if name == UNTRAINED else args.seeds[:1]))


def play(cell: Cell, args: Arguments, workers: int = 1) -> None:
    """Trains and evaluates a cell, unless it is finished."""
    folder = cell.folder(args.work)
    if (folder / EPISODES).is_file():
        return
    began = time.process_time()
    policy = make(cell, args)
    if cell.row != CLONE:
        write_json(folder / "minutes.json", (time.process_time() - began) / 60)
    settings = Settings(
        {cell.row: str(policy)}, episodes=args.episodes, seed=args.first_seed, world_model=args.world_model
    )
    save_results(evaluate(settings, workers), folder / EPISODES)


def make(cell: Cell, args: Arguments) -> str | Path:
    """Returns the policy of a cell; trains it if it does not exist."""
    if cell.row == CLONE:
        return base(cell.demos, args)
    return CONTROL_MAKERS[cell.row](cell, args) if cell.row in CONTROL_MAKERS else practise(cell, args)


def base(demos: int, args: Arguments) -> str | Path:
    """Returns the clone of a number of demonstrations: a shipped one, or one cloned from the data."""
    if demos in args.shipped:
        return args.shipped[demos]
    return cloned(Cell(CLONE, demos, 0), args)


def practise(cell: Cell, args: Arguments, world_model: str | None = None, **kwargs: Any) -> Path:
    """Practices with the cell's reward (energy for a control); `kwargs` are other options of `agents.train`."""
    own: dict[str, Any] = {"steps": args.steps, **REWARDS.get(cell.row, REWARDS["energy"]), **kwargs}
    practice = Practice(
        out=cell.folder(args.work) / "policy",
        init=str(base(cell.demos, args)),
        world_model=world_model or args.world_model,
        validation_episodes=0,
        validate_every=own["steps"],
        temperature=args.temperature,
        seed=cell.seed,
        **own,
    )
    if not (practice.out / "config.json").is_file():
        train.train(practice, train.make_env(practice), None)
    return practice.out


# --- controls


def untrained_dream(cell: Cell, args: Arguments) -> Path:
    """Practices in a dream with the trained encoder and untrained dynamics, which predict hardly any change."""
    world = untrained_dynamics(args.world_model, cell.seed, cell.folder(args.work) / "world_model")
    return practise(cell, args, str(world))


@lru_cache(maxsize=1)
def _episodes(data: Path) -> EpisodeDataset:
    return EpisodeDataset.load(data)


def cloned(cell: Cell, args: Arguments, episodes: EpisodeDataset | None = None, **kwargs: Any) -> Path:
    """Clones the cell's number of demonstrations per task, from `args.data` if no episodes are given."""
    assert args.data is not None
    own: dict[str, Any] = {"per_task": cell.demos, "world_model": args.world_model, "seed": cell.seed}
    clone_args = clone.Arguments((args.data,), cell.folder(args.work) / "policy", **(own | kwargs))
    if not (clone_args.out / "config.json").is_file():
        clone.run(clone_args, episodes or _episodes(args.data), checkpoint.load(args.world_model))
    return clone_args.out


def longer_cloning(cell: Cell, args: Arguments) -> Path:
    """Clones as "clone again" does, with additional updates for the CPU time of practice with energy."""
    usual, practice = (replace(cell, row=row) for row in ("clone again", "energy"))
    for needed in (usual, practice):
        play(needed, args)
    took = [json.loads((each.folder(args.work) / "minutes.json").read_text()) for each in (usual, practice)]
    updates = clone.Arguments.updates
    return cloned(cell, args, updates=updates + round(updates * took[1] / took[0]))


def cloned_successes(cell: Cell, args: Arguments) -> Path:
    """Clones the actions of successful episodes of any behavior, without the expert's labels."""
    assert args.data is not None
    everything = _episodes(args.data)
    chosen = everything.take(np.flatnonzero(everything.success)[:MOST_CLONED])
    write_json(cell.folder(args.work) / "kinds.json", dict(zip(*_counts(chosen.kind), strict=True)))
    taken = replace(chosen, kind=np.full(len(chosen), "demo"), label=chosen.action)
    return cloned(cell, args, taken, per_task=None, demos=len(taken), recolor=0)


def practice_in_physics(cell: Cell, args: Arguments) -> Path:
    """Practices in physics for as many control steps as the data contain."""
    assert args.data is not None
    steps = _episodes(args.data).action[..., 0].size
    write_json(cell.folder(args.work) / "steps.json", steps)
    return practise(cell, args, world="real", steps=steps, n_envs=PHYSICS_ENVS)


def _counts(kinds: np.ndarray) -> tuple[list[str], list[int]]:
    names, counts = np.unique(kinds, return_counts=True)
    return names.tolist(), counts.tolist()


CONTROL_MAKERS: dict[str, Callable[[Cell, Arguments], Path]] = {
    UNTRAINED: untrained_dream,
    "clone again": cloned,
    "longer cloning": longer_cloning,
    "cloned successes": cloned_successes,
    "practice in physics": practice_in_physics,
}
"""Functions that train the policy of each of `CONTROLS`."""
