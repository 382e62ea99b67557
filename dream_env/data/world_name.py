"""The name of the world that a data set was recorded in, read without loading the data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dream_env import hub


def world_name(root: str | Path) -> str | None:
    """Returns the name in a data set's meta/spec.json, else the robot type that LeRobot notes in meta/info.json.

    Args:
        root: Folder of the data set, or `hf://user/name`, which is downloaded.

    Returns:
        The name, "" if the data set says nothing of its world; None if there is no such data set.
    """
    with suppress(OSError, ValueError, AttributeError, ImportError):  # the command says what is wrong with it
        meta = Path(hub.folder(root, "dataset")).expanduser() / "meta"
        spec = meta / "spec.json"
        file, key = (spec, "name") if spec.exists() else (meta / "info.json", "robot_type")
        return str(json.loads(file.read_text(encoding="utf-8")).get(key) or "")
    return None


def world_named_in(words: Sequence[str]) -> str | None:
    """Returns the `world_name` of the first data set that a command line names by `--data`; None without one."""
    data = next((b for a, b in zip(words, words[1:], strict=False) if a == "--data"), None)
    data = next((word.removeprefix("--data=") for word in words if word.startswith("--data=")), data)
    return None if data is None else world_name(data)
