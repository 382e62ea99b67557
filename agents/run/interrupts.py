"""Delays Ctrl-C to a moment at which a run can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def delayed_interrupt() -> Iterator[Callable[[], bool]]:
    """Delays Ctrl-C within a block, so that it does not leave an update half done; a second Ctrl-C acts at once.

    An error within the block counts as the interrupt if there was one: Ctrl-C also ends worker processes.

    Yields:
        A function that returns whether there was a Ctrl-C. The block should then raise `KeyboardInterrupt` as soon as
        its work can be saved.

    Raises:
        KeyboardInterrupt: At the end of the block, if there was a Ctrl-C and the block did not raise it.
    """
    interrupted = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    # Signals reach only the main thread; a handler of somebody else, or an ignored Ctrl-C, stays as it is.
    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: interrupted
    except Exception:
        if not interrupted:
            raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
