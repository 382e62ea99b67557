"""PyBullet, which only NICOL's physics needs, or what to do where it is missing."""

try:
    import pybullet
except ModuleNotFoundError as error:
    if error.name != "pybullet":
        raise
    raise ImportError(
        "NICOL's physics (NicoLReal-v0, and commands that play it) needs PyBullet, which has no wheels above CPython "
        "3.11: pip install pybullet on CPython 3.10 or 3.11; dreams, fitting and practice in them need none"
    ) from error

__all__ = ["pybullet"]
