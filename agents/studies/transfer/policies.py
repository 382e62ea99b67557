"""The policies of the transfer experiment on disk: what each depends on, where it stands, and what it took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dream_env.agents import clone, train
from dream_env.agents.studies.transfer.meter import Meter
from dream_env.agents.studies.transfer.plan import MODEL_FREE, Spec
from dream_env.world_models import checkpoint

EYES = ("autoencoder.", "words.", "reader.", "success_head.readout.", "success_head.named.")
"""Weights of a world model by which policies see, or which they begin with, see `dream_env.agents.clone.ground`."""
CLONES = ("clone", "clone_ungrounded", "clone_looking")
"""Methods that imitate, and need nothing else."""
DREAMERS = ("dream", "dream_coevolved", "untrained_dream", "clone_equal_compute")
"""Methods that depend on all of the world model: what dreams are like, or how long they take."""


@dataclass(frozen=True)
class Setup:
    """Everything that fixes how policies are made.

    Attributes:
        data: Folders of the episodes that the world model was fitted to, the first one with the demonstrations.
        runs: Folder of all policies and results.
        recipe: Arguments of `agents.train` for RL in a dream.
        physics_recipe: Arguments of `agents.train` for PPO in physics.
        world_model: Checkpoint of the frozen world model.
        clone_updates: Updates of a clone.
        coevolution_episodes: Physics episodes of the policy that the world model is refitted to.
        refit_updates: Updates of each part in the refit.
        physics_steps: Physics steps after which the model-free learners are looked at.
        equal_time: Looks at them after the CPU time of the dream RL too.
        physics_envs: Physics envs side by side in a model-free learner, in one process.
    """

    data: tuple[Path, ...]
    runs: Path
    recipe: Mapping[str, Any]
    physics_recipe: Mapping[str, Any]
    world_model: str = "default"
    clone_updates: int = clone.Arguments.updates
    coevolution_episodes: int = 200
    refit_updates: int = 800
    physics_steps: tuple[int, ...] = (4_800, 19_200)
    equal_time: bool = True
    physics_envs: int = 10


@dataclass(frozen=True)
class Made:
    """A policy, and what it took.

    Attributes:
        path: Folder or file of the policy.
        world_model: Checkpoint of the dream that it is evaluated in, where that is its own; None for the setup's.
        practice_steps: Physics steps after the demonstrations: recorded, practiced or validated.
        practice_cpu_s: CPU time of all that came after the clone, or of its own training where it has no clone.
        practice_wall_s: The same in wall time.
        cpu_s: CPU time of everything, clone included.
        wall_s: Wall time of everything.
    """

    path: str
    world_model: str | None
    practice_steps: int
    practice_cpu_s: float
    practice_wall_s: float
    cpu_s: float
    wall_s: float


def practice(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all that fixes a practice, defaults of `agents.train` too, apart from what differs between policies."""
    every = asdict(train.Arguments(Path(), **recipe))
    return {key: value for key, value in every.items() if key not in ("out", "init", "world_model", "bank", "seed")}


def settings(spec: Spec, setup: Setup) -> dict[str, Any]:
    """Returns what the policy depends on, JSON-able; a change of anything makes another policy.

    The world model stands for the episodes that it was fitted to, wherever they lie; demonstrations are the first ones.
    """
    method, model_free = spec.method, spec.method in MODEL_FREE
    parts: dict[str, Any] = {**asdict(spec), "eyes": digest(setup.world_model, EYES)}
    if method in DREAMERS:
        parts["dream"] = digest(setup.world_model)
    if method != "sac_her_physics":
        parts["clone_updates"] = setup.clone_updates
    if method not in (*CLONES, "regressor") and (not model_free or setup.equal_time):
        parts["recipe"] = practice(setup.recipe)
    if method == "dream_coevolved":
        parts["coevolution"] = [setup.coevolution_episodes, setup.refit_updates]
    if model_free:
        parts["physics"] = [setup.physics_steps, setup.equal_time, setup.physics_envs]
    if method == "ppo_physics":
        parts["practice"] = practice(setup.physics_recipe)
    return parts


@lru_cache
def digest(world_model: str, parts: tuple[str, ...] = ()) -> str:
    """Returns a digest of the weights whose names begin with one of `parts`; of the whole world model if none do."""
    weights = checkpoint.load(world_model).state_dict()
    chosen = {name: value for name, value in weights.items() if name.startswith(parts)}
    found = hashlib.sha256()
    if not chosen:
        found.update((checkpoint.resolve(world_model) / checkpoint.CONFIG).read_bytes())  # thresholds
    for name, value in sorted((chosen or weights).items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def folder(spec: Spec, setup: Setup) -> Path:
    """Returns the folder of a policy: its method, demonstrations, seed, and a digest of all that it depends on."""
    digest = hashlib.sha256(json.dumps(settings(spec, setup), sort_keys=True, default=str).encode()).hexdigest()[:8]
    return setup.runs / f"{spec.method}-{spec.demos}-{spec.seed}-{digest}"


def read(spec: Spec, setup: Setup) -> dict[str, Made] | None:
    """Returns a policy by the budgets at which it is looked at, None where it is not made yet."""
    file = folder(spec, setup) / "made.json"
    if not file.is_file():
        return None
    return {budget: Made(**values) for budget, values in json.loads(file.read_text()).items()}


def needs(spec: Spec, setup: Setup) -> list[Spec]:
    """Lists the policies that one is made from, or measured by."""
    methods = {
        **dict.fromkeys((*CLONES, "regressor"), ()),
        "dream": ("clone",),
        "untrained_dream": ("clone",),
        "ppo_physics": ("clone", "dream") if setup.equal_time else ("clone",),
        "sac_her_physics": ("dream",) if setup.equal_time else (),
    }.get(spec.method, ("clone", "dream"))
    return [Spec(method, spec.demos, spec.seed) for method in methods]


def need(spec: Spec, setup: Setup, method: str) -> Made:
    """Returns what one is made from, which has been made before."""
    made = read(Spec(method, spec.demos, spec.seed), setup)
    assert made is not None, "`methods.make` makes what is needed first"
    return made[""]


def after(base: Made, meter: Meter, path: Path, steps: int = 0, world_model: str | None = None) -> Made:
    """Returns what comes of a policy by practicing for as long as the meter has counted."""
    return Made(
        path=str(path),
        world_model=world_model,
        practice_steps=base.practice_steps + steps,
        practice_cpu_s=base.practice_cpu_s + meter.cpu_s,
        practice_wall_s=base.practice_wall_s + meter.wall_s,
        cpu_s=base.cpu_s + meter.cpu_s,
        wall_s=base.wall_s + meter.wall_s,
    )
