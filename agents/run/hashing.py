"""Digests of files, so that results of other code or other weights are not reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path

KINDS = (".json", ".npz", ".py", ".safetensors", ".urdf")
"""Suffixes of the files that results depend on."""
PHYSICS = ("language.py", "nicol")
"""Parts of the package that define the physics simulation, in addition to the robot's assets."""
ACTS = ("nicol/behaviors.py", "studies/reward_audit/scenes.py")
"""Modules with the behaviors that act in it."""


def package(name: str = "dream_env") -> Path:
    """Returns the folder of a package."""
    return Path(str(resources.files(name)))


def digest(roots: Iterable[Path], *settings: str) -> str:
    """Returns a digest of settings and of the files at or under `roots` whose suffix is in `KINDS`."""
    found = hashlib.sha256("".join(settings).encode())
    for root in roots:
        for file in [root] if root.is_file() else sorted(root.glob("**/*")):
            if file.suffix in KINDS and file.is_file():
                found.update(file.read_bytes())
    return found.hexdigest()[:16]


@lru_cache
def physics() -> str:
    """Returns a digest of the simulation and of the behaviors in it; if it changes, rollouts have to be repeated."""
    parts = [package() / name for name in PHYSICS] + [package("dream_env.agents") / name for name in ACTS]
    return digest([*parts, package("dream_env.assets") / "nicol"])
