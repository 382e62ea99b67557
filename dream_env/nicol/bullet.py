"""Imports PyBullet, which only NICOL's physics needs, or explains how to install it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _silent_errors() -> Iterator[None]:
    """Silences file descriptor 2: on import, PyBullet prints its build time there, bypassing `sys.stderr`."""
    try:
        kept = os.dup(2)
    except OSError:  # the process has no standard error
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
        "NICOL's physics (NicoLReal-v0, and commands that run it) needs PyBullet, which has no wheels above CPython "
        "3.11: pip install pybullet on CPython 3.10 or 3.11; the dream environments, and fitting and training in them, "
        "do not need it"
    ) from error

__all__ = ["pybullet"]
