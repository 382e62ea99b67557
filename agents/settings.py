"""A run that goes on has to be the run that was begun."""

from __future__ import annotations

from pathlib import Path


def check_settings(out: Path, before: object, now: object) -> None:
    """Refuses to go on with a run under other settings.

    Args:
        out: Folder of the run.
        before: Settings that it was begun with, in the form of `now`.
        now: Settings that are asked for.

    Raises:
        ValueError: If they differ.
    """
    if before != now:
        raise ValueError(
            f"out={out} holds a run with other settings: {before}; accepted: the same settings, or another folder"
        )
