"""World models on disk: a folder with `config.json`, `model.safetensors` and a card, never a pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dream_env.files import replacing
from dream_env.spec import WorldSpec

KINDS = {
    "state_grounded": "dream_env.nicol.world_model.model:StateGroundedModel",
    "dynamics": "dream_env.world_models.dynamics:DynamicsModel",
}
"""Module and class of each kind of world model. The class has `kind`, `config_class` (a dataclass) and `config`, and is
built from its config and the spec of its world."""

CONFIG, WEIGHTS, CARD, SPEC = "config.json", "model.safetensors", "README.md", "spec.json"
_REMEDY = "make a world model with: python -m agents.fit --data EPISODES --out FOLDER"


def save(model: Any, path: str | Path, card: str) -> None:
    """Writes a world model into folder `path`, each file whole or not at all; other files there stay.

    Args:
        model: A model of one of `KINDS`.
        path: Folder, made if needed.
        card: Text of the card: command, data, seed, measured figures.
    """
    folder = Path(path)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    config = {"kind": model.kind, **asdict(model.config)}
    with replacing(folder / WEIGHTS) as part:
        save_file(tensors, part)
    if hasattr(model, "spec"):  # a world model's; policies have none
        model.spec.save(folder / SPEC)
    for name, text in ((CONFIG, json.dumps(config, indent=2) + "\n"), (CARD, card)):
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def load(name_or_path: str | Path = "default", device: str | torch.device = "cpu") -> Any:
    """Loads a world model for inference; one that has not been written anew is loaded once per process and device.

    Args:
        name_or_path: "default" for the model that comes with the package, or a folder written by `save`.
        device: Device of the weights.

    Returns:
        The model in eval mode with frozen weights, shared by all callers.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged or does not fit the others.
    """
    folder = resolve(name_or_path)
    for file in (folder, folder / CONFIG, folder / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"world_model: {file} does not exist; {_REMEDY}")
    written = [(folder / name).stat().st_mtime_ns for name in (CONFIG, WEIGHTS)]
    return _load(folder, str(device), *written)


def resolve(name_or_path: str | Path) -> Path:
    """Returns the absolute folder of a checkpoint; "default" is the one that comes with the package."""
    if name_or_path != "default":
        return Path(name_or_path).resolve()
    return Path(str(files("dream_env.assets") / "world_model")).resolve()


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file, or of the weights if `path` is a checkpoint folder, as 64 hex digits."""
    file = Path(path)
    content = (file / WEIGHTS if file.is_dir() else file).read_bytes()
    return hashlib.sha256(content).hexdigest()


@runtime_checkable
class Traceable(Protocol):
    """A world model that is faster once its weights stay as they are."""

    def traced(self) -> Any:
        """Returns the faster form."""


@lru_cache(maxsize=8)
def _load(folder: Path, device: str, *written: int) -> Any:
    """Reads a model; `written`, when its files were, makes rewritten files a new entry."""
    model = _build(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"world_model: {folder / WEIGHTS} is damaged ({error}); {_REMEDY}") from error
    _check_tensors(model.state_dict(), tensors, folder / WEIGHTS)
    model.load_state_dict(tensors)
    model = model.to(device).eval().requires_grad_(False)
    return model.traced() if isinstance(model, Traceable) else model


def _build(file: Path) -> torch.nn.Module:
    """Builds the untrained model that a `config.json` describes."""
    try:
        values = dict(json.loads(file.read_text(encoding="utf-8")))
        kind = values.pop("kind")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'world_model: {file} is not {{"kind": ..., ...}} ({error!r}); {_REMEDY}') from error
    if kind not in [*KINDS]:
        raise ValueError(f"world_model: {file} has kind {kind!r}; accepted: {list(KINDS)}; {_REMEDY}")
    module, name = KINDS[kind].split(":")
    model_class = getattr(import_module(module), name)
    accepted = {field.name for field in fields(model_class.config_class)}
    if unknown := set(values) - accepted:
        raise ValueError(
            f"world_model: {file} has unknown fields {sorted(unknown)}; accepted: {sorted(accepted)}; {_REMEDY}"
        )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    spec = file.with_name(SPEC)
    try:
        given = (WorldSpec.load(spec),) if spec.is_file() else ()
        return model_class(model_class.config_class(**values), *given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"world_model: {file} describes no model ({error}); {_REMEDY}") from error


def _check_tensors(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor], file: Path) -> None:
    """Raises ValueError unless both hold tensors of the same names, shapes and types."""
    problems = [f"{name} is missing" for name in expected.keys() - given.keys()]
    problems += [f"{name} is not known" for name in given.keys() - expected.keys()]
    for name in expected.keys() & given.keys():
        want, got = expected[name], given[name]
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            problems.append(f"{name} is {got.dtype} {tuple(got.shape)}, not {want.dtype} {tuple(want.shape)}")
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + ("; ..." if len(problems) > 3 else "")
        raise ValueError(f"world_model: {file} does not fit config.json: {shown}; {_REMEDY}")
