"""PyBullet, which only NICOL's physics needs, or what to do where it is missing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _silent_errors() -> Iterator[None]:
    """Silences the standard error: on import PyBullet writes when it was built, in every process, past `sys.stderr`."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


try:
    with _silent_errors():
        import pybullet
except ModuleNotFoundError as error:
    if error.name != "pybullet":
        raise
    raise ImportError(
        "NICOL's physics (NicoLReal-v0, and commands that play it) needs PyBullet, which has no wheels above CPython "
        "3.11: pip install pybullet on CPython 3.10 or 3.11; dreams, fitting and practice in them need none"
    ) from error

__all__ = ["pybullet"]
