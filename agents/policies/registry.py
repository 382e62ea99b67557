"""Registry of all kinds of policies, and their saving and loading: `config.json`, `model.safetensors` and a card."""

from __future__ import annotations

import copy
from functools import lru_cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import torch

from dream_env import hub, plugins
from dream_env.observations import ObsType
from dream_env.paths import located, shown
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import check_device
from dream_env.world_models.weights import config_of, fill, read_config

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
GROUP = "dream_env.policies"
"""Entry-point group in which other packages add kinds, see `dream_env.plugins`."""
SHIPPED = {
    "default": "policy",
    "unlabelled": "policy_unlabelled",
    "place_stack": "policy_place_stack",
    "state_grounded": "policy_state_grounded",
    "bc5": "policy_bc5",
}
"""Shipped policies and their folders: behavior clones of 100 and of 5 demonstrations per task for the world model
"unlabelled"; one of 25 of `place` and `stack`, for "place_stack"; and of 100 and of 5 for "state_grounded"."""
ALIASES = {"few": "bc5"}
"""Former names of shipped policies, and their current names."""
_REMEDY = "`python -m agents.clone --out FOLDER` makes one, or `python -m agents.train`"


def is_shipped(name: str | Path | None) -> bool:
    """Returns whether a name refers to a shipped policy, and is not a path."""
    return ALIASES.get(str(name), str(name)) in SHIPPED


def resolve(path: str | Path) -> Path:
    """Returns the folder of a policy, given its name, its path, or its address on the Hub, `hf://user/name`."""
    name = ALIASES.get(str(path), str(path))
    if name in SHIPPED:
        return Path(str(resources.files("dream_env.assets"))) / SHIPPED[name]
    return Path(hub.folder(path))


def save(policy: Any, path: str | Path, card: str) -> None:
    """Saves a policy to a folder; each file is written atomically."""
    checkpoint.save(policy, path, card)


def load(path: str | Path = "default", device: str | torch.device = "cpu") -> Any:
    """Loads a policy of any kind.

    Args:
        path: Folder written by `save`; name of a shipped policy, see `SHIPPED`; `hf://user/name@revision`, see
            `dream_env.hub`; .json file of a planner or a foresight; or .zip of Stable-Baselines3, which is a pickle:
            load only files that you trust.
        device: Device of the weights.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged, or of an unknown kind.
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
    if isinstance(named := values.get("world_model"), str):
        values["world_model"] = located(named, folder, checkpoint.SHIPPED)
    kind = values.pop("kind")
    if kind not in [*KINDS] and kind not in (known := [*plugins.kinds(KINDS, GROUP)]):
        raise ValueError(f"policy={str(path)!r}: kind is {kind!r}; accepted: {', '.join(known)}; {_REMEDY}")
    policy_class = class_of(kind)
    renamed = getattr(policy_class, "RENAMED_WEIGHTS", {})
    weights, spec = folder / checkpoint.WEIGHTS, folder / checkpoint.SPEC
    about = (WorldSpec.load(spec),) if spec.is_file() else ()  # policies that are also world models have a spec
    policy = fill(
        lambda: policy_class(config_of(policy_class.config_class, values), *about), weights, "policy", _REMEDY, renamed
    )
    return policy.eval().to(check_device(device))


def from_pretrained(repo: str, revision: str | None = None, device: str | torch.device = "cpu") -> Any:
    """Loads a policy from the Hugging Face Hub, see `dream_env.world_models.checkpoint.from_pretrained`."""
    return load(hub.pull(repo, "model", revision), device)


def load_once(path: str) -> Any:
    """Loads a policy to the CPU, once per process unless its files have been written again.

    Callers share the weights, so they must not modify them; each gets a copy with a state of its own, freshly reset.
    """
    folder = resolve(path)
    files = (folder / checkpoint.CONFIG, folder / checkpoint.WEIGHTS) if folder.is_dir() else (folder,)
    policy = copy.copy(_load(path, *(file.stat().st_mtime_ns for file in files if file.is_file())))
    policy.reset()
    return policy


def world_model_of(path: str) -> str | None:
    """Returns the world model that a saved policy names; None if it names none.

    Raises:
        FileNotFoundError: If that world model is a folder that does not exist.
    """
    named = getattr(getattr(load_once(path), "config", None), "world_model", None)
    if named is not None and not checkpoint.resolve(named).exists():
        raise FileNotFoundError(
            f"world_model={named!r}, named by the policy {str(path)!r}, does not exist; give --world-model"
        )
    return named


def obs_type_of(policy: Any) -> ObsType:
    """Returns which observations a loaded policy reads, see `dream_env.observations.ObservationBuilder`.

    The policy or its config names them as `obs_type`; otherwise the names of its inputs tell.
    """
    for named in (policy, getattr(policy, "config", None)):
        if found := getattr(named, "obs_type", None):
            return found
    kinds: tuple[ObsType, ...] = ("pixels", "words")
    return next((kind for kind in kinds if kind in policy.inputs), "embedding")


def env_kwargs_of(policy: Any, spec: WorldSpec) -> dict[str, Any]:
    """Returns the arguments `obs_type` and `goal_env` of environments that show a loaded policy what it reads."""
    goal_env = "desired_goal" in policy.inputs and "desired_goal" not in spec.observation.spaces
    return {"obs_type": "embedding" if goal_env else obs_type_of(policy), "goal_env": goal_env}


def check_encoder(policy: Any, world_model: str) -> None:
    """Raises ValueError if a loaded policy was trained in another world, or with another encoder, as far as known."""
    config = getattr(policy, "config", None)
    own, given = _spec_of(getattr(config, "world_model", None)), _spec_of(world_model)
    if own and given and own.shapes != given.shapes:
        raise ValueError(
            f"world_model={world_model!r} is of {given.name}, and the policy was trained in one of {own.name}; "
            f"accepted: a world model of {own.name}"
        )
    if hasattr(config, "check_encoder"):
        config.check_encoder(world_model)  # type: ignore[union-attr]


def _spec_of(world_model: str | None) -> WorldSpec | None:
    """Returns the spec of a world model's world without loading the model; None if its folder has none."""
    if world_model is None or hub.is_hub_name(world_model):
        return None
    file = checkpoint.resolve(world_model) / checkpoint.SPEC
    return WorldSpec.load(file) if file.is_file() else None


def suiting(policy: str | None, world_model: str) -> str | None:
    """Returns the shipped clone for a shipped world model if `policy` is "default", else `policy`."""
    other = world_model in SHIPPED and world_model not in ("default", checkpoint.DEFAULT)
    return world_model if policy == "default" and other else policy


def named_world_model(world_model: str, policy: str | Path | None) -> str:
    """Returns the world model that a policy names if `world_model` is "default", else `world_model`.

    Args:
        world_model: Name or folder of a world model.
        policy: Name or path of a policy; None for none.

    Raises:
        FileNotFoundError: If the policy names a world model that does not exist.
    """
    own = None if world_model != "default" or policy is None else world_model_of(str(policy))
    if own in (None, "default", checkpoint.DEFAULT):
        return checkpoint.lasting(world_model)
    print(f"world model: {shown(str(own))}, which the policy names")
    return shown(str(own))


@lru_cache(maxsize=32)
def _load(path: str, *written: int) -> Any:
    return load(path)


def class_of(kind: str) -> Any:
    """Imports and returns the class of a kind."""
    return plugins.find(kind, KINDS, GROUP)
