"""Keeps the module and command names of before version 0.2 importable, with a warning, for one version."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

MODULES: dict[str, tuple[str, ...]] = {
    "dream_env.columns": ("dream_env.data.parquet",),
    "dream_env.lerobot": ("dream_env.data.lerobot",),
    "dream_env.joined": ("dream_env.data.concat",),
    "dream_env.episodes": ("dream_env.data.episodes",),
    "dream_env.bank": ("dream_env.initial_states", "dream_env.nicol.initial_states"),
    "dream_env.real": ("dream_env.nicol.env",),
    "dream_env.rehearsal": ("dream_env.nicol.goal_renderer",),
    "dream_env.tasks": ("dream_env.nicol.tasks",),
    "dream_env.tensors": ("dream_env.engine",),
    "dream_env.readout": ("dream_env.world_models.readout",),
    "dream_env.sb3": ("dream_env.adapters.sb3",),
    "dream_env.skrl": ("dream_env.adapters.skrl",),
    "dream_env.contract": ("dream_env.nicol.constants", "dream_env.rewards", "dream_env.checks"),
    "dream_env.world_models.latent": ("dream_env.nicol.world_model.model",),
    "dream_env.world_models.predictor": ("dream_env.nicol.world_model.predictor",),
    "dream_env.world_models.interaction": ("dream_env.nicol.world_model.object_dynamics",),
    "dream_env.world_models.reader": ("dream_env.nicol.world_model.state_estimator",),
    "dream_env.world_models.sketch": ("dream_env.nicol.world_model.arm_renderer",),
    "dream_env.world_models.metric": ("dream_env.nicol.world_model.metric",),
    "dream_env.world_models.rows": ("dream_env.world_models.batching",),
    "dream_env.agents.policy": ("dream_env.agents.nicol.vla",),
    "dream_env.agents.actors": ("dream_env.agents.policies.actors",),
    "dream_env.agents.critic": ("dream_env.agents.nicol.critic",),
    "dream_env.agents.regressor": ("dream_env.agents.nicol.regressor",),
    "dream_env.agents.ppo": ("dream_env.agents.policies.ppo",),
    "dream_env.agents.eyes": ("dream_env.agents.policies.encoder_id",),
    "dream_env.agents.reading": ("dream_env.agents.nicol.object_state",),
    "dream_env.agents.behaviors": ("dream_env.agents.data.behaviors",),
    "dream_env.agents.latents": ("dream_env.agents.nicol.encoded_dataset",),
    "dream_env.agents.starts": ("dream_env.agents.nicol.physics_starts",),
    "dream_env.agents.outcomes": ("dream_env.agents.eval.results",),
    "dream_env.agents.statistics": ("dream_env.agents.eval.statistics",),
    "dream_env.agents.rollouts": ("dream_env.agents.nicol.rollouts",),
    "dream_env.agents.pictures": ("dream_env.agents.eval.pictures",),
    "dream_env.agents.pool": ("dream_env.agents.run.workers",),
    "dream_env.agents.settings": ("dream_env.agents.run.config",),
    "dream_env.agents.sources": ("dream_env.agents.run.hashing",),
    "dream_env.agents.hyperparams": ("dream_env.agents.run.zoo_ppo",),
    "dream_env.agents.hyperparams_sac": ("dream_env.agents.run.zoo_sac",),
}
"""Maps the old name of a module to the modules that now contain its names."""
COMMANDS = {
    "ablate": "studies.ablation",
    "bench": "studies.bench",
    "experiment": "studies.transfer",
    "gate": "studies.reward_audit",
    "phrasings": "studies.phrasings",
}
"""Maps old to new command names."""
CLASSES = {
    "StartBank": "InitialStates",
    "LatentModel": "StateGroundedModel",
    "LatentConfig": "StateGroundedConfig",
    "TensorDreams": "DreamEngine",
}
"""Maps old to new names of classes in the modules above."""


class _Loader(Loader):
    """Creates a stand-in module for an old name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns a module whose attributes are looked up in the new modules; warns."""
        old, new = spec.name, MODULES.get(spec.name, ())
        words = f"{old} is {' and '.join(new)} now; the old name will be removed in the next version"
        warnings.warn(words, DeprecationWarning, stacklevel=2)
        module = ModuleType(old, words)

        def lookup(name: str) -> Any:
            for place in new:
                try:
                    found = import_module(place)
                except ModuleNotFoundError:
                    continue
                for known in (name, CLASSES.get(name, name)):
                    if hasattr(found, known):
                        return getattr(found, known)
            raise AttributeError(f"module {old!r} has no {name!r}; {words}")

        module.__getattr__ = lookup  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module has no code of its own."""

    def get_code(self, name: str) -> CodeType:
        """Returns the code that `python -m` runs for the old name of a command."""
        command = name.rpartition(".")[2]
        return compile(f"from dream_env.agents.run.cli import run_old\nrun_old({command!r})\n", name, "exec")


class _Finder(MetaPathFinder):
    """Resolves old names after all other finders have failed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns a module spec if `name` is an old name, else None."""
        package, _, last = name.rpartition(".")
        if name in MODULES or (package in ("agents", "dream_env.agents") and last in COMMANDS):
            return ModuleSpec(name, _Loader(), origin="dream_env.deprecated")
        return None


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
