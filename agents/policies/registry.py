"""Every kind of saved policy, and the one way to read and to write them: `config.json`, `model.safetensors`, a card."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import torch

from dream_env import hub
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import check_device
from dream_env.world_models.weights import fill, read_config

KINDS = {
    "vla": "dream_env.agents.nicol.vla:VLA",
    "transformer": "dream_env.agents.policies.transformer_vla:TransformerVLA",
    "latent": "dream_env.agents.policies.latent:LatentVLA",
    "video": "dream_env.agents.policies.video:VideoVLA",
    "regressor": "dream_env.agents.nicol.regressor:Regressor",
    "sb3": "dream_env.agents.policies.sb3:SB3Policy",
    "controller": "dream_env.agents.policies.controller:Controller",
    "unified": "dream_env.agents.policies.unified:UnifiedPolicy",
}
"""Module and class of each kind. The class has `kind`, `config_class` and the methods of
`dream_env.agents.policies.protocol.Policy`, and is built from its config."""
SHIPPED = {"default": "policy", "bc5": "policy_bc5"}
"""Policies that the package ships, and their folders: clones of 100 demonstrations per task, and of 5."""
ALIASES = {"few": "bc5"}
"""Former names of shipped policies."""
_REMEDY = "`python -m agents.clone --out FOLDER` makes one, or `python -m agents.train`"


def is_shipped(name: str | Path | None) -> bool:
    """Tells whether a name stands for a policy of the package, and is no path."""
    return ALIASES.get(str(name), str(name)) in SHIPPED


def resolve(path: str | Path) -> Path:
    """Returns the folder of a policy that is named, whose folder is given, or that is on the Hub, `hf://user/name`."""
    name = ALIASES.get(str(path), str(path))
    if name in SHIPPED:
        return Path(str(resources.files("dream_env.assets"))) / SHIPPED[name]
    return Path(hub.folder(path))


def save(policy: Any, path: str | Path, card: str) -> None:
    """Writes a policy of one of `KINDS` into a folder, each file whole or not at all."""
    checkpoint.save(policy, path, card)


def load(path: str | Path = "default", device: str | torch.device = "cpu") -> Any:
    """Reads a policy that `save` wrote, of any kind.

    Args:
        path: Folder, or one that the package ships, see `SHIPPED`; `hf://user/name@revision`, see `dream_env.hub`; or a
            .zip of Stable-Baselines3, which is a pickle: read only those that you made.
        device: Where to put the weights.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged, or of a kind that is not known.
    """
    folder = resolve(path)
    if folder.suffix == ".zip":
        from dream_env.agents.policies import sb3

        return sb3.load_zip(folder)
    if folder.suffix == ".json":
        return import_module("dream_env.agents.planners").load(str(path))
    if folder.is_file():
        raise ValueError(
            f"policy={str(path)!r} is a file; accepted: a folder with config.json and model.safetensors, or a .zip of "
            "stable-baselines3"
        )
    for name in (checkpoint.CONFIG, checkpoint.WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"policy={str(path)!r}: there is no {folder / name}; accepted: a folder with config.json and "
                f"model.safetensors, {_REMEDY}"
            )
    values = read_config(folder / checkpoint.CONFIG, "policy", _REMEDY)
    kind = values.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"policy={str(path)!r}: kind is {kind!r}; accepted: {', '.join(KINDS)}; {_REMEDY}")
    policy_class = class_of(kind)
    renamed = getattr(policy_class, "RENAMED_WEIGHTS", {})
    weights, spec = folder / checkpoint.WEIGHTS, folder / checkpoint.SPEC
    about = (WorldSpec.load(spec),) if spec.is_file() else ()  # of those that are world models too
    policy = fill(lambda: policy_class(_config(policy_class, values), *about), weights, "policy", _REMEDY, renamed)
    return policy.eval().to(check_device(device))


def from_pretrained(repo: str, revision: str | None = None, device: str | torch.device = "cpu") -> Any:
    """Loads a policy from the Hugging Face Hub, see `dream_env.world_models.checkpoint.from_pretrained`."""
    return load(hub.pull(repo, "model", revision), device)


@lru_cache(maxsize=32)
def load_once(path: str) -> Any:
    """Reads a policy for the CPU once per process; all callers share it."""
    return load(path)


def class_of(kind: str) -> Any:
    """Returns the class of a kind, imported."""
    module, name = KINDS[kind].split(":")
    return getattr(import_module(module), name)


def _config(policy_class: Any, values: dict[str, Any]) -> Any:
    """Builds a config of what JSON holds; fields of before have their names of now (`config_class.RENAMED`)."""
    renamed = getattr(policy_class.config_class, "RENAMED", {})
    given = {renamed.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    known = [one.name for one in fields(policy_class.config_class)]
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"unknown fields {unknown}; accepted: {known}")
    return policy_class.config_class(**given)
