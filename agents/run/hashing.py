"""Digests of files: what other code or other weights made is not taken for what is at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path

KINDS = (".json", ".npz", ".py", ".safetensors", ".urdf")
"""Files that figures depend on."""
PHYSICS = ("language.py", "nicol")
"""Parts of the package that decide what happens in physics, beside the robot in its assets."""
ACTS = ("nicol/behaviors.py", "studies/reward_audit/scenes.py")
"""What acts there."""


def package(name: str = "dream_env") -> Path:
    """Returns the folder of a package."""
    return Path(str(resources.files(name)))


def digest(roots: Iterable[Path], *settings: str) -> str:
    """Returns a digest of what lies at or under some paths, and of settings."""
    found = hashlib.sha256("".join(settings).encode())
    for root in roots:
        for file in [root] if root.is_file() else sorted(root.glob("**/*")):
            if file.suffix in KINDS and file.is_file():
                found.update(file.read_bytes())
    return found.hexdigest()[:16]


@lru_cache
def physics() -> str:
    """Returns a digest of the simulation and of what acts in it: what others played has to be played again."""
    parts = [package() / name for name in PHYSICS] + [package("dream_env.agents") / name for name in ACTS]
    return digest([*parts, package("dream_env.assets") / "nicol"])
