"""Progress bars: animated on a terminal; elsewhere one line per minute, and none for tasks of less than a minute."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS = 60.0
"""Seconds between two lines if the output is not a terminal."""


class _Lines(tqdm):
    """A `tqdm` that prints each update as a separate line, at least `SECONDS` apart."""

    def __init__(self, *args: Any, **options: Any) -> None:
        every = {"mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "ncols": 100, "miniters": 1}
        super().__init__(*args, **{**options, **every})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints a line to stderr."""
        print(msg or str(self), file=sys.stderr, flush=True)

    def set_postfix(self, ordered_dict: Any = None, refresh: bool | None = True, **values: Any) -> None:
        """Stores values to show in the next line."""
        super().set_postfix(ordered_dict, refresh=False, **values)

    def close(self) -> None:
        """Closes the bar without printing."""
        self.leave = False
        self.disable = True


@overload
def progress_bar(items: Iterable[Item], *args: Any, **options: Any) -> tqdm[Item]: ...
@overload
def progress_bar(*args: Any, **options: Any) -> tqdm[Any]: ...
def progress_bar(*args: Any, **options: Any) -> Any:
    """Returns a progress bar with the arguments and the interface of `tqdm`."""
    return (tqdm if sys.stderr is not None and sys.stderr.isatty() else _Lines)(*args, **options)
