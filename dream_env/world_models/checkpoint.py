"""Saves and loads world models: a folder with `config.json`, `model.safetensors` and a card, without pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dream_env import hub, plugins
from dream_env.files import replacing
from dream_env.paths import recorded
from dream_env.spec import WorldSpec
from dream_env.world_models.precision import check_device, standard
from dream_env.world_models.weights import config_of, fill, read_config

KINDS = {
    "state_grounded": "dream_env.nicol.world_model.model:StateGroundedModel",
    "dynamics": "dream_env.world_models.dynamics:DynamicsModel",
    "slots": "dream_env.world_models.slots.model:SlotModel",
    "vmc": "dream_env.world_models.vmc:VMCModel",
    "unified": "dream_env.world_models.unified.model:UnifiedModel",
}
"""Module and class of each kind of world model. The class has `kind`, `config_class` (a dataclass) and `config`, and is
constructed from its config and the spec of its world. Checkpoints of older versions load through the class attributes
`RENAMED_WEIGHTS` of the class and `RENAMED` of its config, see `weights`."""
GROUP = "dream_env.world_models"
"""Entry-point group in which other packages add kinds, see `dream_env.plugins`."""

DEFAULT = "unlabelled"
"""World model that the name "default" stands for."""
SHIPPED = {
    "default": DEFAULT,
    "unlabelled": "unlabelled",
    "state_grounded": "state_grounded",
    "place_stack": "place_stack",
}
"""NICOL world models that ship with the package, and their folders in `assets`; the default one has two names."""
CONFIG, WEIGHTS, CARD, SPEC = "config.json", "model.safetensors", "README.md", "spec.json"
_ACCEPTED = f"{', '.join(map(repr, SHIPPED))}, a folder written by `python -m agents.fit`, or hf://user/name"
_REMEDY = "make a world model with: python -m agents.fit --data EPISODES --out FOLDER"


def lasting(name: str | Path) -> str:
    """Returns the name to store in files: that of the model which "default", whose meaning may change, stands for."""
    return DEFAULT if str(name) == "default" else str(name)


def save(model: Any, path: str | Path, card: str) -> None:
    """Saves a world model to a folder; each file is written atomically, and other files in the folder are kept.

    Args:
        model: A model of one of `KINDS`.
        path: Folder; created if needed.
        card: Text of the card: command, data, seed, measured figures.
    """
    folder = Path(path)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    config = {"kind": model.kind, **{key: hub.named(value) for key, value in asdict(model.config).items()}}
    if isinstance(named := config.get("world_model"), str | Path):  # of a policy
        config["world_model"] = recorded(lasting(named), folder, SHIPPED)
    with replacing(folder / WEIGHTS) as part:
        save_file(tensors, part)
    if hasattr(model, "spec"):  # world models have a spec, policies do not
        model.spec.save(folder / SPEC)
    for name, text in ((CONFIG, json.dumps(config, indent=2) + "\n"), (CARD, card)):
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def load(name_or_path: str | Path = "default", device: str | torch.device = "cpu") -> Any:
    """Loads a world model for inference.

    Models are cached per process and device; a model whose files have changed is loaded again.

    Args:
        name_or_path: One of `SHIPPED` for a model that ships with the package, a folder written by `save`, or
            `hf://user/name@revision`, see `dream_env.hub`.
        device: Device of the weights.

    Returns:
        The model in eval mode with frozen weights, shared by all callers.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged or does not match the others.
    """
    folder, device = resolve(name_or_path), check_device(device)
    if not folder.exists():
        raise FileNotFoundError(f"world_model={str(name_or_path)!r} does not exist; accepted: {_ACCEPTED}")
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"world_model: {file} does not exist; {_REMEDY}")
    written = [(folder / name).stat().st_mtime_ns for name in (CONFIG, WEIGHTS)]
    with standard(), torch.inference_mode(False):
        return _load(folder, str(device), *written)


def resolve(name_or_path: str | Path) -> Path:
    """Returns the absolute folder of a checkpoint: a name in `SHIPPED`, a local folder or `hf://user/name`."""
    if str(name_or_path) not in SHIPPED:
        return Path(hub.folder(name_or_path)).expanduser().resolve()
    return Path(str(files("dream_env.assets") / SHIPPED[str(name_or_path)])).resolve()


def from_pretrained(repo: str, revision: str | None = None, device: str | torch.device = "cpu") -> Any:
    """Loads a world model from the Hugging Face Hub.

    Args:
        repo: "user/name".
        revision: Branch, tag or commit; None for the newest.
        device: Device of the weights.

    Raises:
        FileNotFoundError: If the repository does not exist, or the Hub cannot be reached and the model is not cached.
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the repository has no files that can be loaded safely.
    """
    return load(hub.pull(repo, "model", revision), device)


def is_kind(kind: object) -> bool:
    """Returns whether a kind of world model is known: one of `KINDS`, or of another installed package."""
    return isinstance(kind, str) and (kind in KINDS or kind in plugins.kinds(KINDS, GROUP))


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file, or of the weights if `path` is a checkpoint folder, as 64 hex digits."""
    file = Path(path)
    content = (file / WEIGHTS if file.is_dir() else file).read_bytes()
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=8)
def _load(folder: Path, device: str, *written: int) -> Any:
    """Loads a model; `written` holds the files' modification times, so that changed files make a new cache entry."""
    model_class, values = _described(folder / CONFIG)
    spec = folder / SPEC

    def build() -> torch.nn.Module:
        given = (WorldSpec.load(spec),) if spec.is_file() else ()
        return model_class(config_of(model_class.config_class, values), *given)

    renamed = getattr(model_class, "RENAMED_WEIGHTS", {})
    model = fill(build, folder / WEIGHTS, "world_model", _REMEDY, renamed)
    model = model.to(device).eval().requires_grad_(False)
    return model.traced() if hasattr(model, "traced") else model  # a faster form for weights that stay


def _described(file: Path) -> tuple[Any, dict[str, Any]]:
    """Returns the model class and the config fields that a `config.json` describes."""
    values = read_config(file, "world_model", _REMEDY)
    kind = values.pop("kind")
    if not is_kind(kind):
        known = list(plugins.kinds(KINDS, GROUP))
        raise ValueError(f"world_model: {file} has kind {kind!r}; accepted: {known}; {_REMEDY}")
    model_class = plugins.find(kind, KINDS, GROUP)
    return model_class, values
