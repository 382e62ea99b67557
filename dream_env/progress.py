"""Progress bars: on a terminal as usual; in a log file one line a minute, and none for what is done sooner."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS = 60.0
"""Time between two lines where there is no terminal."""


class _Lines(tqdm, Generic[Item]):
    """A bar whose frames are lines of their own, at least `SECONDS` apart."""

    def __init__(self, *args: Any, **options: Any) -> None:
        every = {"mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "ncols": 100, "miniters": 1}
        super().__init__(*args, **{**options, **every})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Writes a line."""
        print(msg or str(self), file=sys.stderr, flush=True)

    def set_postfix(self, ordered_dict: Any = None, refresh: bool | None = True, **values: Any) -> None:
        """Keeps figures for the next line."""
        super().set_postfix(ordered_dict, refresh=False, **values)

    def close(self) -> None:
        """Ends without a line."""
        self.leave = False
        self.disable = True


def progress(
    items: Iterable[Item] | None = None,
    desc: str | None = None,
    total: float | None = None,
    *,
    unit: str = "it",
    initial: int = 0,
    unit_scale: bool = False,
    disable: bool = False,
) -> tqdm[Item]:
    """Returns a progress bar with the interface of `tqdm`.

    Args:
        items: What is gone through; None for a bar that is moved by `update`.
        desc: What happens.
        total: Number of items, if it cannot be told from them.
        unit: What an item is.
        initial: Items that were done before.
        unit_scale: Writes large numbers as 1.2M.
        disable: Shows nothing.
    """
    bar = tqdm if sys.stderr is not None and sys.stderr.isatty() else _Lines
    return bar(items, desc, total, unit=unit, initial=initial, unit_scale=unit_scale, disable=disable)
