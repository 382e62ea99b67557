"""Progress bars: on a terminal as usual; in a log file one line a minute, and none for what is done sooner."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS = 60.0
"""Time between two lines where there is no terminal."""


class _Lines(tqdm):
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


@overload
def progress_bar(items: Iterable[Item], *args: Any, **options: Any) -> tqdm[Item]: ...
@overload
def progress_bar(*args: Any, **options: Any) -> tqdm[Any]: ...
def progress_bar(*args: Any, **options: Any) -> Any:
    """Returns a progress bar; arguments and interface are those of `tqdm`."""
    return (tqdm if sys.stderr is not None and sys.stderr.isatty() else _Lines)(*args, **options)
