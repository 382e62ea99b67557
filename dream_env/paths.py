"""Paths of other checkpoints in the files of a checkpoint, written so that they are valid from any current folder."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from dream_env import hub


def recorded(path: str | Path, folder: str | Path, names: Container[str] = ()) -> str:
    """Returns how a file in a folder names another checkpoint.

    Args:
        path: Path that is absolute or relative to the current folder, or a name.
        folder: Folder of the file.
        names: Names that are not paths, in addition to those on the Hub.

    Returns:
        The path relative to `folder`, starting with "." or ".."; a name, or a path that does not exist, unchanged.
        Paths in the Hub's cache become `hf://` names.
    """
    text = str(hub.named(path))
    if not _is_path(text, names) or not Path(text).expanduser().exists():
        return text
    relative = os.path.relpath(Path(text).expanduser().resolve(), Path(folder).expanduser().resolve())
    return relative if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)


def located(path: str, folder: str | Path, names: Container[str] = ()) -> str:
    """Returns the absolute path of a checkpoint that a file in a folder names; the inverse of `recorded`.

    Paths that start with "." or ".." are relative to the folder of the file. Other relative paths, which earlier
    versions wrote, are relative to the current folder. Each is also tried the other way round.

    Args:
        path: The path or name in the file.
        folder: Folder of the file.
        names: As in `recorded`.

    Returns:
        The absolute path; a name, or a path that does not exist, unchanged.
    """
    if not _is_path(path, names):
        return path
    own, here = Path(folder).expanduser() / path, Path(path).expanduser()
    tried = (own, here) if path.startswith(os.curdir) else (here, own)
    return next((str(each.resolve()) for each in tried if each.exists()), path)


def shown(path: str) -> str:
    """Returns an absolute path inside the current folder relative to it, and any other text unchanged."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _is_path(text: str, names: Container[str]) -> bool:
    return bool(text) and text not in names and not hub.is_hub_name(text)
