"""Makes the policies of the study, plays their episodes, and keeps both; a cell is one policy."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.clone import command as clone
from dream_env.agents.eval.cells import EPISODES, Cell
from dream_env.agents.eval.results import save_results
from dream_env.agents.evaluate.command import Settings, evaluate
from dream_env.agents.studies.practice_rewards.arguments import CLONE, REWARDS, SHIPPED, Arguments
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.files import write_json
from dream_env.initial_states import FILE
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.world_models import checkpoint

DYNAMICS = ("predictor", "object_dynamics")
"""Parts of the world model that move what is seen; an untrained dream has them at random."""
PHYSICS_ENVS = 16
"""Physics envs side by side, a process each, in the control that practises there."""
MOST_CLONED = 1500
"""Successful episodes that are cloned at most, the first of the data."""


def cells(args: Arguments) -> Iterator[Cell]:
    """Lists the cells in the order in which they are worth having: few demonstrations and early seeds first."""
    for demos in args.demos:
        yield Cell(CLONE, demos, 0)
        for seed in args.seeds:
            yield from (Cell(name, demos, seed) for name in args.rewards)
        yield from (Cell(name, demos, seed) for name in args.controls for seed in args.seeds[:1])


def play(cell: Cell, args: Arguments, workers: int = 1) -> None:
    """Trains and plays a cell, unless that is done."""
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
    """Returns the policy of a cell, trained if it is not there."""
    if cell.row == CLONE:
        return base(cell.demos, args)
    return CONTROL_MAKERS[cell.row](cell, args) if cell.row in CONTROL_MAKERS else practise(cell, args)


def base(demos: int, args: Arguments) -> str | Path:
    """Returns the clone of so many demonstrations: a shipped one, or one that is made."""
    if demos in SHIPPED:
        return SHIPPED[demos]
    return cloned(Cell(CLONE, demos, 0), args)


def practise(cell: Cell, args: Arguments, world_model: str | None = None, **kwargs: Any) -> Path:
    """Practises in the dream under the cell's reward, energy for a control; `kwargs` are other terms of practice."""
    own: dict[str, Any] = {"steps": args.steps, **REWARDS.get(cell.row, REWARDS["energy"]), **kwargs}
    practice = Practice(
        out=cell.folder(args.work) / "policy",
        init=str(base(cell.demos, args)),
        world_model=world_model or args.world_model,
        validation_episodes=0,
        validate_every=own["steps"],
        seed=cell.seed,
        **own,
    )
    if not (practice.out / "config.json").is_file():
        train.train(practice, train.make_env(practice), None)
    return practice.out


# --- controls


def untrained_dream(cell: Cell, args: Arguments) -> Path:
    """Practises in a dream that sees as the true one does, and moves at random."""
    world = cell.folder(args.work) / "world_model"
    model: Any = copy.deepcopy(checkpoint.load(args.world_model))
    torch.manual_seed(cell.seed)
    fresh = type(model)(model.config)
    for name in DYNAMICS:
        getattr(model, name).load_state_dict(getattr(fresh, name).state_dict())
    checkpoint.save(model, world, "# Untrained world model\n\nA control: what moves its dreams has random weights.\n")
    shutil.copy(checkpoint.resolve(args.world_model) / FILE, world / FILE)
    return practise(cell, args, str(world))


@lru_cache(maxsize=1)
def _episodes(data: Path) -> EpisodeDataset:
    return EpisodeDataset.load(data)


def cloned(cell: Cell, args: Arguments, episodes: EpisodeDataset | None = None, **kwargs: Any) -> Path:
    """Clones the cell's number of demonstrations of each task, of `args.data` where no episodes are given."""
    assert args.data is not None
    own: dict[str, Any] = {"per_task": cell.demos, "world_model": args.world_model, "seed": cell.seed}
    form = clone.Arguments((args.data,), cell.folder(args.work) / "policy", **(own | kwargs))
    if not (form.out / "config.json").is_file():
        clone.run(form, episodes or _episodes(args.data), checkpoint.load(args.world_model))
    return form.out


def longer_cloning(cell: Cell, args: Arguments) -> Path:
    """Clones what "clone again" does, for as much longer as practice under energy takes."""
    usual, practice = (replace(cell, row=row) for row in ("clone again", "energy"))
    for needed in (usual, practice):
        play(needed, args)
    took = [json.loads((each.folder(args.work) / "minutes.json").read_text()) for each in (usual, practice)]
    updates = clone.Arguments.updates
    return cloned(cell, args, updates=updates + round(updates * took[1] / took[0]))


def cloned_successes(cell: Cell, args: Arguments) -> Path:
    """Clones what was done in successful episodes, whoever acted, without the expert's labels."""
    assert args.data is not None
    everything = _episodes(args.data)
    chosen = everything.take(np.flatnonzero(everything.success)[:MOST_CLONED])
    write_json(cell.folder(args.work) / "kinds.json", dict(zip(*_counts(chosen.kind), strict=True)))
    taken = replace(chosen, kind=np.full(len(chosen), "demo"), label=chosen.action)
    return cloned(cell, args, taken, per_task=None, demos=len(taken), recolor=0)


def practice_in_physics(cell: Cell, args: Arguments) -> Path:
    """Practises in physics for as many control steps as the data hold."""
    assert args.data is not None
    steps = _episodes(args.data).action[..., 0].size
    write_json(cell.folder(args.work) / "steps.json", steps)
    return practise(cell, args, world="real", steps=steps, n_envs=PHYSICS_ENVS)


def _counts(kinds: np.ndarray) -> tuple[list[str], list[int]]:
    names, counts = np.unique(kinds, return_counts=True)
    return names.tolist(), counts.tolist()


CONTROL_MAKERS: dict[str, Callable[[Cell, Arguments], Path]] = {
    "untrained dream": untrained_dream,
    "clone again": cloned,
    "longer cloning": longer_cloning,
    "cloned successes": cloned_successes,
    "practice in physics": practice_in_physics,
}
"""How each of `CONTROLS` is made."""
