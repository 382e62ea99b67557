"""Checks of a command's output folder and settings, and the text of its command line."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from dream_env import hub

CONFIG = "config.json"
EPISODES = "episodes"
"""The kind of a dataset, for `check_out`."""


def check_out(out: Path, kind: str | None = None, *inputs: str | Path | None) -> None:
    """Checks, before a run starts, that its output folder is writable and that nothing else would be overwritten.

    Args:
        out: Output folder.
        kind: Kind of checkpoint that the run writes, as in `config.json`; `EPISODES` for a dataset; None for files
            that can be stored next to any checkpoint.
        *inputs: What the run reads: folders, or names such as "default".

    Raises:
        ValueError: If `out`, or its nearest existing parent, is a file or not writable, if `out` is one of the inputs,
            or if it holds a dataset or another kind of checkpoint.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"out={out}: {there} is no folder that can be written to; accepted: a writable or new folder")
    accepted = "accepted: a new folder, or that of the run to resume"
    if out.resolve() in {Path(one).resolve() for one in inputs if one is not None}:
        raise ValueError(f"out={out} is what the run reads; {accepted}")
    if kind != EPISODES and (out / "meta" / "info.json").exists():
        raise ValueError(f"out={out} holds a data set; {accepted}")
    if kind is not None and (out / CONFIG).exists():
        found = read_kind(out)
        if found != kind:
            raise ValueError(f"out={out} holds a checkpoint of kind {found!r}; {accepted}")


def read_kind(folder: Path) -> str | None:
    """Returns the kind of checkpoint in a folder, from its `config.json`; None if there is none."""
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kind if isinstance(kind, str) else None


def resolve_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run with absolute paths, so that different spellings of a path compare equal.

    Args:
        settings: Settings. Data, init, policy, world_model and initial_states may be a path, several, the name of a
            shipped one, or None.
    """
    from dream_env.agents.policies.registry import ALIASES, is_shipped
    from dream_env.world_models.checkpoint import SHIPPED

    def resolved(path: Any) -> Any:
        if isinstance(path, list | tuple):
            return [resolved(each) for each in path]
        named = is_shipped(path) or str(path) in SHIPPED
        return ALIASES.get(str(path), str(path)) if named else str(Path(path).expanduser().resolve())

    paths = {key: settings.get(key) for key in ("data", "init", "policy", "world_model", "initial_states")}
    whole = {key: resolved(path) for key, path in paths.items() if path and path != "None"}
    return {**settings, **whole}


def check_settings(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run is resumed with the settings that it was started with.

    Args:
        out: Folder of the run.
        before: Settings that the run was started with, in the form of `now`.
        now: Settings of this command.

    Raises:
        ValueError: If they differ; the message names those that do.
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = ", ".join(f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in names)
        raise ValueError(
            f"out={out} holds a run with other settings: {changes}; accepted: the same settings, or another folder"
        )


def check_kept(arguments: Any, kept: Any, names: Iterable[str]) -> None:
    """Checks that a fit which goes on from a world model does not ask for other sizes than the model's.

    Args:
        arguments: Dataclass of arguments; values that are their defaults are not checked.
        kept: Config of the world model.
        names: Names of the sizes, in both.

    Raises:
        ValueError: If a size differs.
    """
    usual = {one.name: one.default for one in fields(arguments)}
    for name in names:
        asked, own = getattr(arguments, name), getattr(kept, name)
        if asked not in (usual[name], own):
            raise ValueError(f"{name}={asked!r} with init={arguments.init}; accepted: its own, {own!r}")


def split(names: Iterable[str]) -> tuple[str, ...]:
    """Splits names that are joined by commas: ("a,b", "c") becomes ("a", "b", "c")."""
    return tuple(part.strip() for name in names for part in name.split(","))


def command_line(module: str, arguments: Any) -> str:
    """Returns the command line of a dataclass of arguments, so that a card says how to reproduce its checkpoint.

    Absolute paths are written relative to the current folder, and paths in the Hub's cache as `hf://` names, because
    other machines do not have them.

    Args:
        module: Name of the command in `agents`.
        arguments: The dataclass, as filled by tyro. Arguments that have their default value are left out.
    """
    return " ".join([program(module), shlex.join(_flags(arguments, ""))]).strip()


def program(module: str) -> str:
    """Returns how to call a command from the current folder: by module in a checkout, else by the console script."""
    here = Path("agents", "__init__.py")
    own = Path(__file__).parents[1] / "__init__.py"
    if here.is_file() and here.samefile(own):
        return f"python -m agents.{module}"
    return f"dream-env {module}"


def whereabouts(out: Path) -> str:
    """Returns the last line of a training command: its policy, and how to see its curves."""
    return f"policy: {out}   curves: tensorboard --logdir {shlex.quote(str(out / 'tensorboard'))}"


def portable(value: Any) -> str:
    """Returns an argument as text, with an absolute path made relative to the current folder."""
    text = str(hub.named(value))
    label, _, path = text.rpartition("=")  # LABEL=PATH
    if not os.path.isabs(path):
        return text
    return (f"{label}=" if label else "") + os.path.relpath(path)


def _flags(arguments: Any, prefix: str) -> Iterator[str]:
    for one in fields(arguments):
        value, name = getattr(arguments, one.name), f"{prefix}{one.name}".replace("_", "-")
        if is_dataclass(value):
            yield from _flags(value, f"{name}.")
        elif value == _default(one) or isinstance(value, Mapping):  # mappings cannot be given on the command line
            continue
        elif isinstance(value, bool) and isinstance(_default(one), bool):
            yield f"--{name}" if value else f"--{prefix}no-{one.name}".replace("_", "-")
        else:
            several = isinstance(value, Iterable) and not isinstance(value, str)
            yield from [f"--{name}", *map(portable, value if several else [value])]


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()
