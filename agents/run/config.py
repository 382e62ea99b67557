"""What a command was asked for: the folder it may write to, the run it may go on with, and how that is written down."""

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
"""What `check_out` calls a data set."""


def check_out(out: Path, kind: str | None = None, *inputs: str | Path | None) -> None:
    """Refuses, before the work, a folder in which results could not be written, or would replace something else.

    Args:
        out: Folder that is to be written.
        kind: Kind of checkpoint that the run writes, as its `config.json` names it; `EPISODES` for a data set; None
            for files that stand beside any checkpoint.
        *inputs: What the run reads: folders, or names such as "default".

    Raises:
        ValueError: If it, or the nearest folder above it, is a file or not to be written to, if it is one of the
            inputs, or if it holds a data set or another kind of checkpoint.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"out={out}: {there} is no folder that can be written to; accepted: one that is, or a new one")
    accepted = "accepted: a new folder, or that of the run to go on with"
    if out.resolve() in {Path(one).resolve() for one in inputs if one is not None}:
        raise ValueError(f"out={out} is what the run reads; {accepted}")
    if kind != EPISODES and (out / "meta" / "info.json").exists():
        raise ValueError(f"out={out} holds a data set; {accepted}")
    if kind is not None and (out / CONFIG).exists():
        found = read_kind(out)
        if found != kind:
            raise ValueError(f"out={out} holds a checkpoint of kind {found!r}; {accepted}")


def read_kind(folder: Path) -> str | None:
    """Returns the kind of checkpoint that a folder's `config.json` names; None if it names none."""
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kind if isinstance(kind, str) else None


def resolve_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run with whole paths, so that they are the same however a path was spelled.

    Args:
        settings: Some of them name data, a policy or a world model: by a path, by what the package calls it, or None.
    """
    from dream_env.agents.policies.registry import ALIASES, is_shipped

    paths = {key: settings.get(key) for key in ("data", "init", "world_model", "initial_states")}
    whole = {
        key: ALIASES.get(str(path), str(path)) if is_shipped(path) else str(Path(path).resolve())
        for key, path in paths.items()
        if path and path != "None"
    }
    return {**settings, **whole}


def check_settings(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with a run under other settings.

    Args:
        out: Folder of the run.
        before: Settings that it was begun with, in the form of `now`.
        now: Settings that are asked for.

    Raises:
        ValueError: If they differ; it names those that do.
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = ", ".join(f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in names)
        raise ValueError(
            f"out={out} holds a run with other settings: {changes}; accepted: the same settings, or another folder"
        )


def split(names: Iterable[str]) -> tuple[str, ...]:
    """Takes names as one writes several: apart, or with commas in between."""
    return tuple(part.strip() for name in names for part in name.split(","))


def command_line(module: str, arguments: Any) -> str:
    """Gives the command that a dataclass of arguments stands for, so that a card can be made again.

    Absolute paths, which nobody else has, are written relative to the current folder; those of the Hub's cache by name.

    Args:
        module: Name of the command in `agents`.
        arguments: The dataclass, as tyro filled it; what has its default is left out.
    """
    return " ".join([program(module), shlex.join(_flags(arguments, ""))]).strip()


def program(module: str) -> str:
    """Returns how a command is called where one stands: by module in the checkout, elsewhere by the console script."""
    here = Path("agents", "__init__.py")
    own = Path(__file__).parents[1] / "__init__.py"
    if here.is_file() and here.samefile(own):
        return f"python -m agents.{module}"
    return f"dream-env {module}"


def portable(value: Any) -> str:
    """Returns an argument as text, an absolute path relative to the current folder."""
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
        elif value == _default(one) or isinstance(value, Mapping):  # a mapping is no option of a command line
            continue
        elif isinstance(value, bool) and isinstance(_default(one), bool):
            yield f"--{name}" if value else f"--{prefix}no-{one.name}".replace("_", "-")
        else:
            several = isinstance(value, Iterable) and not isinstance(value, str)
            yield from [f"--{name}", *map(portable, value if several else [value])]


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()
