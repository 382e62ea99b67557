"""Continues to fit a world model with new episodes; one function per kind.

The encoder stays fixed in every kind, so that existing policies still fit. What `dynamics` and `vmc` keep in a
recurrent memory changes, and with it the embedding of a world without goals.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.coevolve.arguments import Arguments
from dream_env.agents.fit.dynamics import command as dynamics_fit
from dream_env.agents.fit.dynamics.arguments import Arguments as DynamicsArguments
from dream_env.agents.fit.slots import command as slots_fit
from dream_env.agents.fit.slots.arguments import Arguments as SlotsArguments
from dream_env.agents.fit.state_grounded import command as state_grounded_fit
from dream_env.agents.fit.state_grounded.arguments import Arguments as StateGroundedArguments
from dream_env.agents.fit.vmc import command as vmc_fit
from dream_env.agents.fit.vmc.arguments import Arguments as VMCArguments
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import FILE
from dream_env.nicol import episodes as nicol
from dream_env.world_models import checkpoint

AHEAD = 12
"""Length in steps of the windows that a refit predicts open-loop: policies exploit errors that grow with time."""


def state_grounded(args: Arguments, recorded: Path, out: Path) -> None:
    """Refits object dynamics, predictor, success head and metric; keeps the initial states."""
    settings = StateGroundedArguments(
        data=(*args.data, recorded),
        out=out,
        init=str(checkpoint.resolve(args.world_model)),
        autoencoder_updates=0,
        state_estimator_updates=0,
        object_dynamics_updates=args.updates,
        object_dynamics_rate=4e-3,
        object_dynamics_horizons=(12, 24),
        predictor_updates=args.updates,
        predictor_rate=4e-3,
        horizons=(12, 24),
        success_updates=args.updates,
        metric_updates=args.updates,
        painter_updates=0,
        held_out=0.15,  # enough episodes to set thresholds on
        seed=args.seed,
        threads=args.threads,
    )
    out.mkdir(parents=True, exist_ok=True)
    # Copied before the fit, because its metrics.json marks the refit as complete.
    shutil.copy(checkpoint.resolve(args.world_model) / FILE, out / FILE)
    state_grounded_fit.fit(settings, _joined(args, recorded, nicol.EpisodeDataset))


def slots(args: Arguments, recorded: Path, out: Path) -> None:
    """Refits dynamics and success; the embedding, and what the robot and the objects look like, stay."""
    tells: bool = checkpoint.load(args.world_model).config.success
    how: dict[str, Any] = {"distance_updates": args.updates, "keep_embedding": True, "use_success": tells}
    settings = SlotsArguments(**_usual(args, recorded, out), ahead=AHEAD, **how)
    slots_fit.fit(settings, _joined(args, recorded, EpisodeDataset))


def dynamics(args: Arguments, recorded: Path, out: Path) -> None:
    """Refits memory, ensemble and head; the auto-encoders stay."""
    episodes, goals = _joined(args, recorded, EpisodeDataset), checkpoint.load(args.world_model).spec.goals
    how: dict[str, Any] = {"picture_updates": 0, "ends_as_goals": goals and not episodes.goal, "ahead": AHEAD}
    usual = _usual(args, recorded, out)
    if not episodes.spec.pictures:  # its matrices are so small that a second thread slows the fit
        usual["threads"] = 1
    dynamics_fit.fit(DynamicsArguments(**usual, **how), episodes)


def vmc(args: Arguments, recorded: Path, out: Path) -> None:
    """Refits M; V stays."""
    settings = VMCArguments(**_usual(args, recorded, out), picture_updates=0)
    vmc_fit.fit(settings, _joined(args, recorded, EpisodeDataset))


REFITS: dict[str, Callable[[Arguments, Path, Path], None]] = {
    "state_grounded": state_grounded,
    "slots": slots,
    "dynamics": dynamics,
    "vmc": vmc,
}
"""Refit of every kind of world model that can be fitted on."""


def _usual(args: Arguments, recorded: Path, out: Path) -> dict[str, Any]:
    """Returns the arguments that all of these fits have."""
    return {
        "data": (*args.data, recorded),
        "out": out,
        "init": str(checkpoint.resolve(args.world_model)),
        "updates": args.updates,
        "seed": args.seed,
        "threads": args.threads,
    }


def _joined(args: Arguments, recorded: Path, dataset: Any) -> Any:
    """Returns some old episodes, as many as `args.rehearsed`, and all new ones."""
    old = dataset.load(*args.data)
    rows = np.random.default_rng(args.seed).permutation(len(old))[: args.rehearsed]
    return dataset.concatenate([old.take(np.sort(rows)), dataset.load(recorded)])
